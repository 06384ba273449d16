"""Inputs of a calculation beside elements, positions and cell."""

import copy
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._extra import load_extra

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["GIVEN_INFO", "arrays_of", "constraints_of", "info_of"]

_ARRAYS = ("initial_charges", "initial_magmoms", "tags")
GIVEN_INFO = ("charge", "spin", "mult", "multiplicity", "spin_multiplicity", "total_charge", "total_spin")
"""Names in ``info`` that calculators read, including MACE, the models of FAIR chemistry and AIMNet."""


def arrays_of(atoms: "Atoms") -> dict[str, NDArray[Any]]:
    """Return the inputs for each atom, without arrays of zeros and without standard masses."""
    arrays = {name: np.array(atoms.arrays[name]) for name in _ARRAYS if np.any(atoms.arrays.get(name, 0))}
    masses = atoms.arrays.get("masses")
    if masses is not None and not np.array_equal(masses, load_extra("ase.data").atomic_masses[atoms.numbers]):
        arrays["masses"] = np.array(masses, dtype=np.float64)
    return arrays


def info_of(atoms: "Atoms") -> dict[str, float]:
    """Return the inputs for all atoms together."""
    found = {name: atoms.info.get(name) for name in GIVEN_INFO}
    return {name: float(value) for name, value in found.items() if isinstance(value, numbers.Real)}


def constraints_of(atoms: "Atoms") -> tuple[Any, ...]:
    """Return copies of the constraints."""
    return tuple(copy.deepcopy(constraint) for constraint in atoms.constraints)
