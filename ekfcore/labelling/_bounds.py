"""Checks of a label: it belongs to the frame as given, and its size is physically possible."""

from typing import Any, Self

import numpy as np
from ase import Atoms, units
from ase.geometry import find_mic
from pydantic import Field, model_validator

from ekfcore.atoms import Frame
from ekfcore.errors import EKFError, InputError
from ekfcore.settings.table import Table

__all__ = ["Bounds", "check_atoms"]

_MAX_SHIFT = 1e-4  # [Å] above the rounding of any file format, below what changes a force noticeably


class Bounds(Table):
    """Limits beyond which a label counts as a failure; the defaults are far beyond physical values.

    Parameters
    ----------
    min_energy, max_energy : float
        Energy [eV/atom]; the all-electron energy of an oganesson atom is -1.5e6.
    max_force : float
        Largest force on an atom [eV/Å].
    max_stress : float
        Largest stress component [GPa]; checked if the label has a virial and the cell a volume.
    """

    min_energy: float = -2e6
    max_energy: float = 1e3
    max_force: float = Field(default=1e3, gt=0)
    max_stress: float = Field(default=1e4, gt=0)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if not self.min_energy < self.max_energy:
            raise InputError(
                f"`min_energy` must be below label.max_energy, got {self.min_energy} and {self.max_energy}"
            )
        return self

    def check(self, frame: Frame) -> None:
        """Raise an error that names the label beyond its bound, if there is one."""
        assert frame.energy is not None
        assert frame.forces is not None
        energy, force = frame.energy / frame.n_atoms, np.linalg.norm(frame.forces, axis=1).max()
        if not self.min_energy <= energy <= self.max_energy:
            raise EKFError(
                f"an energy of {energy:.6g} eV/atom lies outside label.min_energy and label.max_energy, "
                f"{self.min_energy:g} and {self.max_energy:g}"
            )
        if force > self.max_force:
            raise EKFError(f"a force of {force:.6g} eV/Å is above label.max_force = {self.max_force:g}")
        volume = abs(np.linalg.det(frame.cell))
        if frame.virial is not None and volume > 0:
            stress = np.abs(frame.virial).max() / volume / units.GPa
            if stress > self.max_stress:
                raise EKFError(f"a stress of {stress:.6g} GPa is above label.max_stress = {self.max_stress:g}")


def check_atoms(frame: Frame, atoms: Any) -> None:
    """Raise an error if a calculator has moved the atoms of a frame, for instance by relaxing them.

    Shifts by lattice vectors along periodic directions are allowed: many programs wrap atoms back into the cell.
    """
    if not isinstance(atoms, Atoms) or len(atoms) != frame.n_atoms:  # a calculator need not keep its atoms
        return
    change = np.abs(np.asarray(atoms.cell) - frame.cell).max()
    if frame.pbc.any() and change > _MAX_SHIFT:
        raise EKFError(f"the calculator changed the cell by {change:.3g} Å: it must not relax what it labels")
    shifts, _ = find_mic(atoms.positions - frame.positions, frame.cell, frame.pbc)  # type: ignore[no-untyped-call]
    lengths = np.linalg.norm(shifts, axis=1)
    if lengths.max() > _MAX_SHIFT:
        atom = int(lengths.argmax())
        raise EKFError(
            f"the calculator moved atom {atom} by {lengths[atom]:.3g} Å: its label would be that of other positions; "
            "it must compute a single point and not relax"
        )
