"""Which frames are the same up to translations by lattice vectors and the order of their atoms.

Comparing all pairs of 10 000 frames would take hours. Frames that are the same agree in their structure factors, which
a tree takes; only what is near in it is compared atom by atom.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._extra import load_extra
from .frame import Frame
from .inspection import alike, composition

__all__ = ["TOLERANCE", "matching", "same_frames", "scaled_frames"]

TOLERANCE = 1e-4
"""How far atoms may lie apart in frames that are the same [Å]: files have four decimals and more, and atoms move by
0.001 Å in a femtosecond."""

_OPEN = 20.0  # [Å] length of the cell along directions that do not repeat, where any will do
_WAVES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 2, 3], [-2, 1, 1]])  # each direction, and two skew ones


def same_frames(frames: Sequence[Frame]) -> list[list[int]]:
    """Return the groups of at least two frames that are the same, whatever their labels, as indices in their order."""
    pairs = _candidates(frames, [_features(frame) for frame in frames])
    return _connected([pair for pair in pairs if matching(*(frames[index] for index in pair)) is not None], len(frames))


def scaled_frames(frames: Sequence[Frame]) -> list[list[int]]:
    """Return the groups of frames, periodic in three directions, that differ by a strain of the cell only."""
    whole = [index for index, frame in enumerate(frames) if np.all(frame.pbc)]
    some = [frames[index] for index in whole]
    pairs = _candidates(some, [_structure_factors(frame) for frame in some])  # in which the cell does not count
    return [[whole[index] for index in group] for group in _connected(pairs, len(some))]


def matching(one: Frame, other: Frame) -> NDArray[np.int64] | None:
    """Return the atoms of `one` that those of `other` are, or None if the frames are not the same."""
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
        # A thousand copies of one frame are a million pairs: exact copies are paired with the first of them alone.
        values, first, copy_of = np.unique(
            [features[index] for index in kind], axis=0, return_index=True, return_inverse=True
        )
        near = load_extra("scipy.spatial").cKDTree(values).query_pairs(TOLERANCE, p=np.inf, output_type="ndarray")
        copies = np.stack([first[np.ravel(copy_of)], np.arange(len(kind))], axis=1)
        pairs = np.concatenate([first[near], copies[copies[:, 0] != copies[:, 1]]])
        found += [(kind[i], kind[j]) for i, j in pairs.tolist()]
    return found


def _connected(pairs: Sequence[tuple[int, int]], count: int) -> list[list[int]]:
    """Return the groups of at least two that pairs make of so many."""
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = load_extra("scipy.sparse").coo_array((np.ones(len(edges)), tuple(edges.T)), shape=(count, count))
    _, label = load_extra("scipy.sparse.csgraph").connected_components(graph, directed=False)
    return [group for group in alike(label.tolist()) if len(group) > 1]


def _features(frame: Frame) -> NDArray[np.float64]:
    """Return the cell and the structure factors, both in Å: atoms that move by d change none by more than d."""
    cell = _cell(frame)
    widths = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    scale = widths.min() / (2 * np.pi * np.abs(_WAVES).sum(axis=1)) / 2
    return np.concatenate([cell.ravel(), _structure_factors(frame) * np.tile(scale, 2)])


def _structure_factors(frame: Frame) -> NDArray[np.float64]:
    """Return sums over the atoms that lattice vectors and the order of the atoms do not change, per atom."""
    phases = 2 * np.pi * frame.positions @ np.linalg.inv(_cell(frame)) @ _WAVES.T
    weights = (1 + frame.numbers / 118) / frame.n_atoms  # elements must be told apart
    return np.concatenate([weights @ np.cos(phases), weights @ np.sin(phases)])


def _cell(frame: Frame) -> NDArray[np.float64]:
    """Return the lattice vectors along which the frame repeats, completed by others at right angles."""
    lattice = np.where(frame.pbc[:, None], frame.cell, 0.0)
    completed = load_extra("ase.geometry").complete_cell(lattice)
    return np.where(frame.pbc[:, None], lattice, _OPEN * completed)


def _wrapped(shares: NDArray[np.float64], pbc: NDArray[np.bool_]) -> NDArray[np.float64]:
    wrapped = shares - np.floor(shares) * pbc
    return np.where(pbc & (wrapped >= 1.0), 0.0, wrapped)  # -1e-17 would become 1, which is outside
