"""Search for frames that are the same up to translations by lattice vectors and the order of their atoms.

Comparing all pairs of 10 000 frames would take hours. Equal frames have equal structure factors, so a search tree finds
pairs with similar structure factors, and only these pairs are compared atom by atom.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._extra import load_extra
from .frame import Frame
from .inspection import alike, composition

__all__ = ["TOLERANCE", "matching", "same_frames", "scaled_frames"]

TOLERANCE = 1e-4
"""Largest distance of corresponding atoms in equal frames [Å]: files have at least four decimals, and atoms move by
0.001 Å in a femtosecond."""

_OPEN = 20.0  # [Å] length of the cell along non-periodic directions, an arbitrary choice
_WAVES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 2, 3], [-2, 1, 1]])  # each direction, and two skew ones


def same_frames(frames: Sequence[Frame]) -> list[list[int]]:
    """Return the groups of at least two equal frames, labels ignored, as sorted indices."""
    pairs = _candidates(frames, [_features(frame) for frame in frames])
    return _connected([pair for pair in pairs if matching(*(frames[index] for index in pair)) is not None], len(frames))


def scaled_frames(frames: Sequence[Frame]) -> list[list[int]]:
    """Return the groups of frames, periodic in three directions, that differ only by a strain of the cell."""
    whole = [index for index, frame in enumerate(frames) if np.all(frame.pbc)]
    some = [frames[index] for index in whole]
    pairs = _candidates(some, [_structure_factors(frame) for frame in some])  # independent of the cell
    return [[whole[index] for index in group] for group in _connected(pairs, len(some))]


def matching(one: Frame, other: Frame) -> NDArray[np.int64] | None:
    """Return for each atom of `other` the index of the same atom in `one`, or None if the frames differ."""
    if one.n_atoms != other.n_atoms or np.any(one.pbc != other.pbc):
        return None
    cell = _cell(one)
    if np.abs(_cell(other) - cell).max() > TOLERANCE:
        return None
    places, wanted = (_wrapped(frame.positions @ np.linalg.inv(cell), frame.pbc) for frame in (one, other))
    tree = load_extra("scipy.spatial").cKDTree(places, boxsize=one.pbc.astype(float))
    _, nearest = tree.query(wanted)
    away = wanted - places[nearest]
    away -= np.round(away) * one.pbc
    if np.linalg.norm(away @ cell, axis=1).max() > TOLERANCE or len(np.unique(nearest)) < one.n_atoms:
        return None
    return np.asarray(nearest) if np.array_equal(one.numbers[nearest], other.numbers) else None


def _candidates(frames: Sequence[Frame], features: Sequence[NDArray[np.float64]]) -> list[tuple[int, int]]:
    """Return pairs of frames of one composition whose features agree."""
    found = []
    for kind in alike((frame.n_atoms, composition(frame), tuple(frame.pbc.tolist())) for frame in frames):
        # A thousand copies of one frame would give a million pairs: exact copies are paired only with the first one.
        values, first, copy_of = np.unique(
            [features[index] for index in kind], axis=0, return_index=True, return_inverse=True
        )
        near = load_extra("scipy.spatial").cKDTree(values).query_pairs(TOLERANCE, p=np.inf, output_type="ndarray")
        copies = np.stack([first[np.ravel(copy_of)], np.arange(len(kind))], axis=1)
        pairs = np.concatenate([first[near], copies[copies[:, 0] != copies[:, 1]]])
        found += [(kind[i], kind[j]) for i, j in pairs.tolist()]
    return found


def _connected(pairs: Sequence[tuple[int, int]], count: int) -> list[list[int]]:
    """Return the connected groups of at least two among `count` frames, with pairs as edges."""
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = load_extra("scipy.sparse").coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    _, label = load_extra("scipy.sparse.csgraph").connected_components(graph, directed=False)
    return [group for group in alike(label.tolist()) if len(group) > 1]


def _features(frame: Frame) -> NDArray[np.float64]:
    """Return cell and structure factors [Å], scaled so that moving atoms by d changes none by more than d."""
    cell = _cell(frame)
    widths = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    scale = widths.min() / (2 * np.pi * np.abs(_WAVES).sum(axis=1)) / 2
    return np.concatenate([cell.ravel(), _structure_factors(frame) * np.tile(scale, 2)])


def _structure_factors(frame: Frame) -> NDArray[np.float64]:
    """Return structure factors per atom, which are invariant under lattice vectors and the order of the atoms."""
    phases = 2 * np.pi * frame.positions @ np.linalg.inv(_cell(frame)) @ _WAVES.T
    weights = (1 + frame.numbers / 118) / frame.n_atoms  # the weights distinguish elements
    return np.concatenate([weights @ np.cos(phases), weights @ np.sin(phases)])


def _cell(frame: Frame) -> NDArray[np.float64]:
    """Return the periodic lattice vectors, completed by perpendicular ones."""
    lattice = np.where(frame.pbc[:, None], frame.cell, 0.0)
    completed = load_extra("ase.geometry").complete_cell(lattice)
    return np.where(frame.pbc[:, None], lattice, _OPEN * completed)


def _wrapped(shares: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    wrapped = shares - np.floor(shares) * pbc
    return np.where(pbc & (wrapped >= 1.0), 0.0, wrapped)  # -1e-17 would become 1, which is outside of the box
