"""Energy, forces and virial of an ASE configuration, wherever its file format put them."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["energy_gap", "energy_of", "forces_of", "virial_of"]

_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]  # xx yy zz yz xz xy -> the nine components, row by row


def energy_of(atoms: "Atoms", source: str) -> float | None:
    """Potential energy [eV]; the free energy where both are given, because the forces belong to it."""
    energy = _label(atoms, source, "free_energy", "energy")
    if energy is None:
        return None
    if energy.size != 1:
        raise InputError(f"{source}: energy must be one number, got shape {energy.shape}")
    return float(energy.item())


def energy_gap(atoms: "Atoms", source: str) -> float:
    """How far the free energy and the energy lie apart [eV/atom]; 0 where one of them is no number."""
    free, other = (_label(atoms, source, name) for name in ("free_energy", "energy"))
    if free is None or other is None or free.size != 1 or other.size != 1:
        return 0.0
    return abs(free.item() - other.item()) / max(1, len(atoms))


def forces_of(atoms: "Atoms", source: str) -> NDArray[np.float64] | None:
    """Forces as computed, not set to zero by the constraints of ASE [eV/Å]."""
    return _label(atoms, source, "forces", "force")


def virial_of(atoms: "Atoms", source: str) -> NDArray[np.float64] | None:
    """Minus the derivative of the energy with respect to strain [eV], from a virial [eV] or a stress [eV/Å^3]."""
    virial = _label(atoms, source, "virial")
    if virial is not None:
        return virial.reshape(3, 3) if virial.size == 9 else virial
    stress, volume = _label(atoms, source, "stress"), abs(np.linalg.det(atoms.cell))
    if stress is None or volume == 0.0:  # the stress of a molecule without a cell means nothing
        return None
    if stress.size == 6:
        stress = stress.ravel()[_VOIGT]
    if stress.size != 9:
        raise InputError(f"{source}: stress must have 6 or 9 components, got shape {stress.shape}")
    return np.asarray(-volume * stress.reshape(3, 3))


def _label(atoms: "Atoms", source: str, *names: str) -> NDArray[np.float64] | None:
    """First of these names that the calculator, ``info`` or ``arrays`` know, copied in double precision."""
    for name in names:
        for value in (_result(atoms, name), atoms.info.get(name), atoms.arrays.get(name)):
            if value is None:
                continue
            try:
                return np.array(value, dtype=np.float64)
            except (TypeError, ValueError):
                raise InputError(f"{source}: {name} must be real numbers, got {str(value)[:40]!r}") from None
    return None


def _result(atoms: "Atoms", name: str) -> Any:
    """What the calculator already holds for exactly these atoms; nothing is calculated."""
    if atoms.calc is None:
        return None
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except NotImplementedError:  # how ASE says that this calculator does not know the property
        return None
