"""Labelled and predicted quantities as data, so that code can loop over `QUANTITIES` without naming them."""

from dataclasses import dataclass

__all__ = ["QUANTITIES", "Quantity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A labelled quantity.

    Parameters
    ----------
    name : str
        Name in tables and settings, as in ``force_rmse``.
    label : str
        Attribute of a `Frame`, and key of the prediction.
    per_atom : bool
        Whether errors are divided by the number of atoms.
    unit, json_unit : str
        Unit of its errors, in text and in JSON keys.
    expected : bool
        Whether tables include it even if no frame has such a label.
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
