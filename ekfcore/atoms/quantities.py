"""What frames have labels of and models predict, as data: who goes through `QUANTITIES` names none of them."""

from dataclasses import dataclass

__all__ = ["QUANTITIES", "Quantity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A labelled quantity.

    Parameters
    ----------
    name : str
        What tables and settings call it, as in ``force_rmse``.
    label : str
        Attribute of a `Frame`, and name of the prediction.
    per_atom : bool
        Whether errors are divided by the number of atoms.
    unit, json_unit : str
        Of its errors, for people and for names in JSON.
    expected : bool
        Whether tables have a place for it where no frame has such a label.
    """

    name: str
    label: str
    per_atom: bool
    unit: str
    json_unit: str
    expected: bool = True


QUANTITIES = (
    Quantity(name="energy", label="energy", per_atom=True, unit="meV/atom", json_unit="meV_per_atom"),
    Quantity(name="force", label="forces", per_atom=False, unit="meV/Å", json_unit="meV_per_A"),
    Quantity(name="virial", label="virial", per_atom=True, unit="meV/atom", json_unit="meV_per_atom", expected=False),
)
"""All of them, in the order of tables."""
