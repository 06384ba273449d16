"""Statistics of a set of labelled frames: energies, forces, pressures, distances."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._extra import load_extra
from .frame import Frame
from .neighbours import pairs_once

__all__ = ["REACH", "Contacts", "Inspection", "alike", "composition", "file_of", "formula", "inspect_frames"]

REACH = 5.0
"""Cutoff of the search for nearest neighbours [Å]: beyond the second shell of most solids."""

_GPA = 160.21766208  # GPa in an eV/Å^3, from CODATA 2014 as in ase.units
_SCALE = 0.05  # [eV/atom] residual above which a frame counts linearly instead of squared


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Contacts:
    """Distances between the atoms of a frame.

    Parameters
    ----------
    nearest : dict
        Shortest distance of each pair of atomic numbers, the smaller one first [Å].
    ratio : float
        Smallest distance over the sum of covalent radii; infinite without neighbours.
    atoms : tuple of int
        The two atoms with the smallest ratio.
    crowding : float
        Mean over the atoms of the sum of exp(-r/Å) over their neighbours, a measure of density.
    """

    nearest: dict[tuple[int, int], float]
    ratio: float
    atoms: tuple[int, int]
    crowding: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Inspection:
    """Statistics of F frames; missing values are NaN.

    Parameters
    ----------
    frames : tuple of Frame
        Training frames, then test frames.
    n_train : int
        Number of training frames.
    energies : array, shape (F,)
        Energies [eV/atom].
    atomic_energies : dict
        Fitted energy of each element, by its symbol [eV].
    determined : bool
        Whether the compositions determine the energies of the elements.
    residuals : array, shape (F,)
        Energies minus the fitted energies of the elements [eV/atom].
    largest_force : array, shape (F,)
        Largest force on an atom [eV/Å].
    atom : array of int, shape (F,)
        Atom with the largest force.
    net_force : array, shape (F,)
        Norm of the sum of all forces [eV/Å].
    volumes : array, shape (F,)
        Volume of frames that are periodic in three directions [Å^3/atom].
    densities : array, shape (F,)
        Density of these frames [g/cm^3].
    pressures : array, shape (F,)
        A third of the trace of the virial, over the volume [GPa].
    contacts : tuple of Contacts
        One for each frame.
    """

    frames: tuple[Frame, ...]
    n_train: int
    energies: NDArray[np.float64]
    atomic_energies: dict[str, float]
    determined: bool
    residuals: NDArray[np.float64]
    largest_force: NDArray[np.float64]
    atom: NDArray[np.int64]
    net_force: NDArray[np.float64]
    volumes: NDArray[np.float64]
    densities: NDArray[np.float64]
    pressures: NDArray[np.float64]
    contacts: tuple[Contacts, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of atoms of each frame."""
        return np.array([frame.n_atoms for frame in self.frames])


def inspect_frames(train: Sequence[Frame], test: Sequence[Frame] = ()) -> Inspection:
    """Compute statistics of frames before a model is trained on them.

    Parameters
    ----------
    train, test : sequence of Frame
        Frames with any labels; at least one frame.

    Returns
    -------
    Inspection
        Statistics only; `find_faults` looks for faults.

    Raises
    ------
    InputError
        If there is no frame, or the cell or the extent of a frame is absurd.
    """
    frames = (*train, *test)
    if not frames:
        raise InputError("no frames to inspect; give at least one")
    energies = np.array([np.nan if frame.energy is None else frame.energy / frame.n_atoms for frame in frames])
    atomic_energies, determined, residuals = _without_atomic_energies(frames, energies)
    largest, atom, net = (np.array(values) for values in zip(*map(_force, frames), strict=True))
    volumes = np.array([abs(np.linalg.det(f.cell)) / f.n_atoms if np.all(f.pbc) else np.nan for f in frames])
    masses = load_extra("ase.data").atomic_masses
    # An atomic mass unit in an Å^3 is 1.66 g/cm^3.
    densities = np.array([1.66053907 * masses[f.numbers].mean() for f in frames]) / volumes
    traces = np.array([np.nan if f.virial is None else np.trace(f.virial) / f.n_atoms for f in frames])
    return Inspection(
        frames=frames,
        n_train=len(train),
        energies=energies,
        atomic_energies=atomic_energies,
        determined=determined,
        residuals=residuals,
        largest_force=largest,
        atom=atom,
        net_force=net,
        volumes=volumes,
        densities=densities,
        pressures=_GPA * traces / 3 / volumes,
        contacts=tuple(map(_contacts, frames)),
    )


def composition(frame: Frame) -> tuple[tuple[int, int], ...]:
    """Return the atomic numbers of a frame and their reduced counts, as ((1, 2), (8, 1)) for water."""
    counts = Counter(frame.numbers.tolist())
    divisor = np.gcd.reduce(list(counts.values()))
    return tuple((number, int(count // divisor)) for number, count in sorted(counts.items()))


def formula(counts: Mapping[int, int]) -> str:
    """Return a chemical formula, in Hill's order, from the counts of atomic numbers."""
    symbols = load_extra("ase.data").chemical_symbols
    named = {symbols[number]: count for number, count in counts.items()}
    return str(load_extra("ase.formula").Formula.from_dict(named).format("hill"))


def alike(keys: Iterable[object]) -> list[list[int]]:
    """Return groups of indices with the same key, in order."""
    groups = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return list(groups.values())


def file_of(frame: Frame) -> tuple[str, str]:
    """Return the file of a frame, and its number there as text; the number is empty if the source has none."""
    file, comma, number = frame.source.rpartition(", frame ")
    return (file, number) if comma else (frame.source, "")


def _without_atomic_energies(
    frames: Sequence[Frame], energies: NDArray[np.float64]
) -> tuple[dict[str, float], bool, NDArray[np.float64]]:
    """Fit an energy for each element; return the energies, whether they are determined, and the residuals."""
    symbols = load_extra("ase.data").chemical_symbols
    elements = sorted({number for frame in frames for number in frame.numbers.tolist()})
    shares = np.array([[np.mean(frame.numbers == number) for number in elements] for frame in frames])
    known = np.isfinite(energies)
    if not known.any():
        return {}, False, energies
    A, y = shares[known], energies[known]
    start, _, rank, _ = np.linalg.lstsq(A, y, rcond=None)
    # One frame that is off by 1000 eV must not distort the energies of the elements: residuals beyond _SCALE count
    # linearly. The solver fits differences to the first fit, as values of -5000 eV/atom leave few digits for steps.
    rest = y - A @ start
    more = load_extra("scipy.optimize").least_squares(
        lambda x: A @ x - rest, np.zeros(len(elements)), jac=lambda _: A, loss="soft_l1", f_scale=_SCALE
    )
    fitted = start + more.x
    names = [symbols[number] for number in elements]
    return dict(zip(names, fitted.tolist(), strict=True)), rank == len(elements), energies - shares @ fitted


def _force(frame: Frame) -> tuple[float, int, float]:
    """Return the largest force, its atom, and the norm of the sum of forces."""
    if frame.forces is None:
        return np.nan, 0, np.nan
    sizes = np.linalg.norm(frame.forces, axis=1)
    return float(sizes.max()), int(sizes.argmax()), float(np.linalg.norm(frame.forces.sum(axis=0)))


def _contacts(frame: Frame) -> Contacts:
    i, j, distances, _ = pairs_once(frame, REACH)
    if not len(distances):
        return Contacts(nearest={}, ratio=np.inf, atoms=(0, 0), crowding=0.0)
    radii = load_extra("ase.data").covalent_radii
    one, other = np.sort([frame.numbers[i], frame.numbers[j]], axis=0)
    pairs, index = np.unique(1000 * one + other, return_inverse=True)
    nearest = np.full(len(pairs), np.inf)
    np.minimum.at(nearest, index, distances)
    ratios = distances / (radii[one] + radii[other])
    at = int(ratios.argmin())
    return Contacts(
        nearest={divmod(int(pair), 1000): float(r) for pair, r in zip(pairs, nearest, strict=True)},
        ratio=float(ratios[at]),
        atoms=(int(i[at]), int(j[at])),
        crowding=float(2 * np.exp(-distances).sum() / frame.n_atoms),
    )
