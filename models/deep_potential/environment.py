"""Geometry of a frame as the model sees it; nothing here depends on the weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.atoms import Frame

from .architecture import Architecture
from .pairs import Pairs, find_pairs

__all__ = [
    "Environment",
    "Group",
    "PairBlock",
    "Statistics",
    "build_environment",
    "switch",
]

_Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Statistics:
    """Constants of a model that come from its training data.

    Parameters
    ----------
    mean, std : array, shape (n_types, 4)
        Mean and standard deviation of the rows of the environment matrix for each centre type [1/Å].
    energy_bias : array, shape (n_types,)
        Energy of an atom of each type [eV].
    unknown : tuple of str
        Elements of which the training has seen no atom; frames that hold one are refused.
    """

    mean: _Vector
    std: _Vector
    energy_bias: _Vector
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PairBlock:
    """Neighbours of one type around n atoms of one type in K slots an atom; empty slots at the end.

    Parameters
    ----------
    rows : array, shape (n, K, 4)
        Normalised rows of the environment matrix.
    unit : array, shape (n, K, 3)
        Direction to the neighbour, zero in empty slots.
    distance, slope, ratio : array, shape (n, K)
        r [Å], ds/dr and s(r)/r [1/Å^2] of the switched s(r); all zero in empty slots.
    centre, neighbour : array of int, shape (n * K,)
        Indices of the two atoms of each slot in the frame; in empty slots both are the centre.
    scale : array, shape (4,)
        One over the standard deviation of each column of the rows.
    empty : array, shape (4,)
        Normalised row of an empty slot.
    surplus : int
        By how much K exceeds the capacity of the model, because an atom of the frame has so many neighbours.
    """

    rows: Array
    unit: Array
    distance: Array
    slope: Array
    ratio: Array
    centre: Array
    neighbour: Array
    scale: Array
    empty: Array
    surplus: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Group:
    """Some atoms of one type with all their neighbours; the unit in which the model works through a frame.

    Parameters
    ----------
    type : int
        Type of the centres.
    atoms : array of int, shape (n,), of NumPy
        Indices of the centres in the frame.
    pairs : tuple of PairBlock
        One block for each type of neighbours.
    """

    type: int
    atoms: NDArray[np.int64]
    pairs: tuple[PairBlock, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Environment:
    """A frame, prepared for a model.

    Parameters
    ----------
    groups : tuple of Group
        All atoms, in groups of one type each.
    outgoing, incoming : array of int, shape (N, k)
        For each atom the slots, over all groups and their pairs in order, in which it is the centre and the neighbour;
        the index behind the last slot stands for "none". Gathering by them replaces the scatter that the Array API
        lacks.
    energy_bias : float
        Sum of the energy bias over the atoms [eV].
    n_atoms : int
        Number of atoms N.
    """

    groups: tuple[Group, ...]
    incoming: Array
    outgoing: Array
    energy_bias: float
    n_atoms: int


def switch(r: _Vector, cutoff: float, smooth: float) -> tuple[_Vector, _Vector]:
    """Return s(r) = sw(r)/r and its slope, with the quintic sw of DeePMD-kit.

    Parameters
    ----------
    r : array
        Distances [Å], positive.
    cutoff, smooth : float
        sw is 1 below `smooth`, 0 above `cutoff`, and 1 - 10 u^3 + 15 u^4 - 6 u^5 with
        u = (r - smooth) / (cutoff - smooth) between [Å].
    """
    u = np.clip((r - smooth) / (cutoff - smooth), 0.0, 1.0)
    sw = 1 + u**3 * (-10 + u * (15 - 6 * u))  # slope and curvature vanish at both ends
    dsw = -30 * u**2 * (1 - u) ** 2 / (cutoff - smooth)  # -30 u^2 + 60 u^3 - 30 u^4, factored
    return sw / r, dsw / r - sw / r**2


def build_environment(
    frame: Frame, architecture: Architecture, statistics: Statistics, *, like: Array, rows: int | None = None
) -> Environment:
    """Prepare a frame for a model.

    Parameters
    ----------
    frame : Frame
        Atoms; labels are not used.
    architecture : Architecture
        Elements, cutoffs and capacities.
    statistics : Statistics
        Normalisation and energy bias.
    like : array
        The arrays of the environment get its library, dtype and device.
    rows : int, optional
        The most slots of one type of neighbours in a group; the default does not limit them.

    Raises
    ------
    InputError
        If the frame has an element that the model does not know or has not learned, overlapping atoms or a cell without
        volume.
    """
    pairs = find_pairs(frame, architecture, statistics.unknown)
    types, i, j, vectors, slots = pairs.types, pairs.i, pairs.j, pairs.vectors, pairs.slots
    xp = array_namespace(like)

    def real(a: NDArray[np.floating]) -> Array:
        return xp.asarray(a, dtype=like.dtype, device=like.device)

    def index(a: NDArray[np.integer]) -> Array:
        return xp.asarray(a, dtype=xp.int64, device=like.device)

    places = _places(pairs, architecture)
    groups = []
    centres, neighbours, used = [], [], []
    starts = np.searchsorted(i, np.arange(frame.n_atoms + 1))  # the pairs are sorted by their centre
    for centre, atoms in _groups(types, places, rows):
        blocks = []
        mine = np.concatenate([np.arange(starts[atom], starts[atom + 1]) for atom in atoms])
        for neighbour, capacity in enumerate(architecture.capacity):
            chosen = mine[types[j[mine]] == neighbour]
            count = places[neighbour]
            block = _pair_geometry(atoms, i[chosen], j[chosen], slots[chosen], vectors[chosen], count, architecture)
            centres.append(block.centre)
            neighbours.append(block.neighbour)
            used.append(block.distance.ravel() > 0)
            scale = 1 / statistics.std[centre]
            blocks.append(
                PairBlock(
                    rows=real((block.rows - statistics.mean[centre]) * scale),
                    unit=real(block.unit),
                    distance=real(block.distance),
                    slope=real(block.slope),
                    ratio=real(block.ratio),
                    centre=index(block.centre),
                    neighbour=index(block.neighbour),
                    scale=real(scale),
                    empty=real(-statistics.mean[centre] * scale),  # what the normalisation makes of a row of zeros
                    surplus=count - capacity,
                )
            )
        groups.append(Group(type=centre, atoms=atoms, pairs=tuple(blocks)))
    real_slots = np.concatenate(used)
    return Environment(
        groups=tuple(groups),
        outgoing=index(_gather_table(np.concatenate(centres), real_slots, frame.n_atoms)),
        incoming=index(_gather_table(np.concatenate(neighbours), real_slots, frame.n_atoms)),
        energy_bias=float(np.sum(statistics.energy_bias[types])),
        n_atoms=frame.n_atoms,
    )


def _places(pairs: Pairs, architecture: Architecture) -> list[int]:
    """Return the slots for neighbours of each type: the capacity, or what the busiest atom of the frame needs."""
    most = np.asarray(architecture.capacity)
    np.maximum.at(most, pairs.types[pairs.j], pairs.slots + 1)  # slots count from zero
    return [int(count) for count in most]


def _groups(
    types: NDArray[np.int64], places: Sequence[int], rows: int | None
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield the type and the atoms of each group; `rows` limits the slots of a group's largest block."""
    for centre in range(len(places)):
        atoms = np.flatnonzero(types == centre)
        step = len(atoms) if rows is None else max(1, rows // max(places))
        for start in range(0, len(atoms), max(step, 1)):
            yield centre, atoms[start : start + step]


def _pair_geometry(
    atoms: NDArray[np.int64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    slots: NDArray[np.int64],
    vectors: _Vector,
    count: int,
    architecture: Architecture,
) -> PairBlock:
    """Fill the slots of one pair of types with NumPy arrays; nothing is normalised yet."""
    place = np.searchsorted(atoms, i), slots
    centre = np.repeat(atoms, count).reshape(len(atoms), count)
    neighbour = centre.copy()  # an empty slot joins an atom to itself, so that no displacement changes it
    neighbour[place] = j
    r = np.linalg.norm(vectors, axis=1)
    s, ds = switch(r, architecture.cutoff, architecture.cutoff_smooth)
    unit = vectors / r[:, None]

    def fill(values: _Vector) -> _Vector:
        slots = np.zeros((*centre.shape, *values.shape[1:]))
        slots[place] = values
        return slots

    return PairBlock(
        rows=fill(np.concatenate([s[:, None], s[:, None] * unit], axis=1)),
        unit=fill(unit),
        distance=fill(r),
        slope=fill(ds),
        ratio=fill(s / r),
        centre=centre.ravel(),
        neighbour=neighbour.ravel(),
        scale=np.ones(4),
        empty=np.zeros(4),
        surplus=0,
    )


def _gather_table(owner: NDArray[np.int64], used: NDArray[np.bool_], n_atoms: int) -> NDArray[np.int64]:
    """Return for each atom the slots that it owns, padded with the number of slots."""
    slots = np.flatnonzero(used)
    slots = slots[np.argsort(owner[slots], kind="stable")]
    counts = np.bincount(owner[slots], minlength=n_atoms)
    table = np.full((n_atoms, int(counts.max(initial=0))), len(owner), dtype=np.int64)  # a row of zeros stands there
    column = np.arange(len(slots)) - np.repeat(np.cumsum(counts) - counts, counts)
    table[owner[slots], column] = slots
    return table
