"""Phonons of a crystal: band structure and density of states from displaced supercells, through phonopy."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.cell import Cell
from numpy.typing import NDArray
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from phonopy.structure.cells import guess_primitive_matrix

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import EKFError, InputError, one_line

__all__ = ["Phonons", "find_phonons"]

_Vector = NDArray[np.float64]

_DISPLACEMENT = 0.01  # [Å] phonopy's default
_WIDTH = 10.0  # [Å] minimum width of a supercell: at half of it, the forces of a displaced atom have decayed
_DENSITY = 20.0  # [Å] wave vectors per 1/Å of the path
_MESH = 60.0  # [Å] length of the mesh of the density of states; copper gets 24 x 24 x 24 points
_POINTS = 401  # frequencies of the density of states
_MARGIN = 0.5  # [THz] beyond the lowest and highest frequency


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Phonons:
    """Phonons of each calculator, by its name.

    Parameters
    ----------
    distances : array, shape (q,)
        Position of each wave vector along the path [1/Å].
    ticks : sequence of (float, str)
        Positions and names of the points of high symmetry.
    bands : mapping of str to array, shape (q, 3 n)
        Frequencies with n atoms in the primitive cell; imaginary ones are negative numbers [THz].
    frequencies : array, shape (f,)
        Frequencies of the density of states [THz].
    densities : mapping of str to array, shape (f,)
        Density of states, whose integral is 3 n [1/THz].
    forces : mapping of str to float
        Largest force on an atom before any displacement: zero in a relaxed crystal [eV/Å].
    supercell : sequence of int
        Multiples of the lattice vectors of the given cell.
    displacements : int
        Number of supercells that were calculated.
    """

    distances: _Vector
    ticks: Sequence[tuple[float, str]]
    bands: Mapping[str, _Vector]
    frequencies: _Vector
    densities: Mapping[str, _Vector]
    forces: Mapping[str, float]
    supercell: Sequence[int]
    displacements: int


def find_phonons(
    crystal: Frame, calculators: Mapping[str, BaseCalculator], *, supercell: Sequence[int] | None = None
) -> Phonons:
    """Calculate the phonons of a crystal as it is, without relaxing it.

    Parameters
    ----------
    crystal : Frame
        Crystal, primitive or not; phonopy finds the primitive cell and the symmetry.
    calculators : mapping of str to calculator
        Calculators of the forces; the first one is drawn in front.
    supercell : sequence of int, optional
        Multiples of the three lattice vectors; by default the smallest with a width of at least 10 Å.

    Raises
    ------
    InputError
        If the crystal is not periodic in all directions, has constraints or a charge or spin of its cell, or a
        calculator fails.
    """
    validate_frame(crystal, require=())
    if not crystal.pbc.all():
        raise InputError(f"{crystal.source}: phonons need a crystal that repeats in all directions, got {crystal.pbc}")
    held = [*crystal.info, *(type(constraint).__name__ for constraint in crystal.constraints)]
    if held:
        raise InputError(
            f"{crystal.source}: phonons are those of a crystal whose atoms are free and whose cell has no charge or "
            f"spin of its own, got {', '.join(held)}; remove them from the file"
        )
    multiples = _multiples(crystal) if supercell is None else [int(n) for n in supercell]
    if len(multiples) != 3 or min(multiples) < 1:
        raise InputError(f"a supercell needs three positive multiples, as 2 2 2, got {multiples}")
    found = {name: _force_constants(crystal, c, name, multiples) for name, c in calculators.items()}
    path = Cell(next(iter(found.values())).primitive.cell).bandpath(density=_DENSITY)
    distances, places, names = path.get_linear_kpoint_axis()
    bands = {}
    for name, phonopy in found.items():
        phonopy.run_qpoints(path.kpts)
        bands[name] = np.asarray(phonopy.qpoints.frequencies)
    frequencies, densities = _densities(found)
    return Phonons(
        distances=distances,
        ticks=list(zip(places.tolist(), names, strict=True)),
        bands=bands,
        frequencies=frequencies,
        densities=densities,
        forces={name: _largest(_forces(_unit_cell(crystal), c, name)) for name, c in calculators.items()},
        supercell=multiples,
        displacements=len(next(iter(found.values())).supercells_with_displacements),
    )


def _multiples(crystal: Frame) -> list[int]:
    """Return the smallest multiples of the cell that make it wide enough."""
    widths = 1 / np.linalg.norm(np.linalg.inv(crystal.cell), axis=0)
    return [int(n) for n in np.ceil(_WIDTH / widths)]


def _unit_cell(crystal: Frame) -> Atoms:
    return replace(crystal, energy=None, forces=None, virial=None).to_ase()


def _are_alike(crystal: Frame) -> bool:
    """Return whether atoms of the same element have the same charges, moments, tags and masses."""
    firsts = [int(np.flatnonzero(crystal.numbers == number)[0]) for number in crystal.numbers]
    return all(np.array_equal(values, values[firsts]) for values in crystal.arrays.values())


def _force_constants(crystal: Frame, calculator: BaseCalculator, name: str, multiples: Sequence[int]) -> Any:
    """Return phonopy with the force constants from its displacements."""
    masses = crystal.arrays.get("masses")
    cell = PhonopyAtoms(numbers=crystal.numbers, positions=crystal.positions, cell=crystal.cell, masses=masses)
    alike = _are_alike(crystal)  # otherwise the positions do not determine the symmetry
    primitive = guess_primitive_matrix(cell) if alike else np.eye(3)  # "auto" does the same, but warns
    phonopy = Phonopy(cell, supercell_matrix=np.diag(multiples), primitive_matrix=primitive, is_symmetry=alike)
    phonopy.generate_displacements(distance=_DISPLACEMENT)
    origin = [phonopy.supercell.u2u_map[k] for k in phonopy.supercell.s2u_map]  # unit-cell atom of each supercell atom
    phonopy.forces = [
        _forces(_supercell(s, crystal, origin), calculator, name) for s in phonopy.supercells_with_displacements or []
    ]
    phonopy.produce_force_constants()
    phonopy.symmetrize_force_constants()  # no force acts on a crystal that is translated as a whole
    return phonopy


def _supercell(displaced: PhonopyAtoms, crystal: Frame, origin: Sequence[int]) -> Atoms:
    """Return a supercell whose atoms have the arrays (such as charges) of their origins in the crystal."""
    atoms = Atoms(displaced.numbers, displaced.positions, cell=displaced.cell, pbc=True)
    for name, values in crystal.arrays.items():
        atoms.set_array(name, values[origin])
    return atoms


def _forces(atoms: Atoms, calculator: BaseCalculator, name: str) -> _Vector:
    atoms.calc = calculator
    try:
        return np.asarray(atoms.get_forces(), dtype=np.float64)
    except EKFError:
        raise
    except Exception as error:  # a calculator may raise anything
        reason = one_line(error)
        raise InputError(
            f"{name} cannot calculate the forces of {atoms.get_chemical_formula()} ({reason}); correct its parameters, "
            "or choose another supercell"
        ) from None


def _largest(forces: _Vector) -> float:
    return float(np.linalg.norm(forces, axis=1).max())


def _densities(found: Mapping[str, Any]) -> tuple[_Vector, dict[str, _Vector]]:
    """Return the common frequencies and the densities of states."""
    for phonopy in found.values():
        phonopy.run_mesh(_MESH)
    spans = [np.asarray(phonopy.mesh.frequencies) for phonopy in found.values()]
    low, high = min(span.min() for span in spans) - _MARGIN, max(span.max() for span in spans) + _MARGIN
    for phonopy in found.values():
        phonopy.run_total_dos(freq_min=low, freq_max=high, freq_pitch=(high - low) / (_POINTS - 1))
    densities = {name: np.asarray(phonopy.total_dos.dos) for name, phonopy in found.items()}
    return np.asarray(next(iter(found.values())).total_dos.frequency_points), densities
