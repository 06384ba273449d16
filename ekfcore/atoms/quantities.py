"""Labelled and predicted quantities as data: files, filter, scores and tables loop over `QUANTITIES`."""

from dataclasses import dataclass

__all__ = ["ENERGY", "FORCE", "QUANTITIES", "VIRIAL", "Quantity"]


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
    of_atoms : bool
        Whether each atom has one, so that the filter measures means over groups of atoms.
    unit, json_unit : str
        Unit of its errors, in text and in JSON keys.
    expected : bool
        Whether tables include it, and trainings learn it, without being asked to.
    """

    name: str
    label: str
    per_atom: bool
    unit: str
    json_unit: str
    of_atoms: bool = False
    expected: bool = True


ENERGY = Quantity(name="energy", label="energy", per_atom=True, unit="meV/atom", json_unit="meV_per_atom")
FORCE = Quantity(name="force", label="forces", per_atom=False, unit="meV/Å", json_unit="meV_per_A", of_atoms=True)
VIRIAL = Quantity(
    name="virial", label="virial", per_atom=True, unit="meV/atom", json_unit="meV_per_atom", expected=False
)
QUANTITIES = (ENERGY, FORCE, VIRIAL)
"""All of them, in the order of tables."""
