"""Geometry of a frame for the nodal embedding; nothing here depends on the weights.

The embedding nets are evaluated on the nodes s_k = k h of a grid in s, and interpolated in between with weights v that
depend on the geometry alone. What the descriptor needs of the neighbours of atom i is then the matrix
B_i = sum_j R_ij v_j, shape (4, K), computed once for a frame. Only nodes that a neighbour of the frame touches are
kept, so the grid has no end: two atoms that come closer than any did in training get nodes of their own.
"""

from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.atoms import Frame

from .architecture import Architecture
from .environment import Statistics, switch
from .pairs import Pairs, find_pairs
from .stencil import FIRST, ORDER, stencil_weights

__all__ = ["NodalEnvironment", "NodalGroup", "build_nodal_environment"]

_Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False, kw_only=True)
class NodalGroup:
    """All n atoms of one type with their P neighbours.

    Parameters
    ----------
    type : int
        Type of the centres.
    atoms : array of int, shape (n,), of NumPy
        Indices of the centres in the frame.
    B : array, shape (n, 4, K)
        Rows of the environment matrix, normalised, spread over the nodes; those of empty slots included, whose number
        is negative where an atom has more neighbours than the capacity, see `surplus`.
    nodes : tuple of array, shape (K_t, 1)
        Inputs of the embedding net at the nodes, normalised, for each type of neighbours; K is the sum of K_t.
    geometry : array, shape (P, 7)
        Unit vector to the neighbour, r [Å], s [1/Å], ds/dr [1/Å^2] and the place t in [0, 1) between two nodes.
    index : array of int32, shape (P, 4)
        Centre counted within the group, centre and neighbour in the frame, and the first of the eight nodes.
    mean, scale : array, shape (4,)
        A row (s, s x/r, s y/r, s z/r) is normalised by subtracting `mean` and multiplying with `scale`.
    """

    type: int
    atoms: NDArray[np.int64]
    B: Array
    nodes: tuple[Array, ...]
    geometry: Array
    index: Array
    mean: Array
    scale: Array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NodalEnvironment:
    """A frame, prepared for the nodal embedding.

    Parameters
    ----------
    groups : tuple of NodalGroup
        One for each type of atoms in the frame.
    energy_bias : float
        Sum of the energy bias over the atoms [eV].
    n_atoms : int
        Number of atoms N.
    """

    groups: tuple[NodalGroup, ...]
    energy_bias: float
    n_atoms: int


def build_nodal_environment(
    frame: Frame, architecture: Architecture, statistics: Statistics, spacing: float, *, like: Array
) -> NodalEnvironment:
    """Prepare a frame for the nodal embedding.

    Parameters
    ----------
    frame : Frame
        Atoms; labels are not used.
    architecture : Architecture
        Elements, cutoffs and capacities.
    statistics : Statistics
        Normalisation and energy bias.
    spacing : float
        Distance h between two nodes [1/Å].
    like : array
        The arrays get its library, dtype and device.

    Raises
    ------
    InputError
        As `build_environment`.
    """
    pairs = find_pairs(frame, architecture, statistics.unknown)
    groups = tuple(
        _group(centre, pairs, architecture, statistics, spacing, like=like)
        for centre in range(len(architecture.elements))
        if np.any(pairs.types == centre)
    )
    bias = float(np.sum(statistics.energy_bias[pairs.types]))
    return NodalEnvironment(groups=groups, energy_bias=bias, n_atoms=frame.n_atoms)


def _group(
    centre: int, pairs: Pairs, architecture: Architecture, statistics: Statistics, spacing: float, *, like: Array
) -> NodalGroup:
    mine = pairs.types[pairs.i] == centre
    i, j, vectors = pairs.i[mine], pairs.j[mine], pairs.vectors[mine]
    atoms = np.flatnonzero(pairs.types == centre)
    owner = np.searchsorted(atoms, i)
    r = np.linalg.norm(vectors, axis=1)
    s, slope = switch(r, architecture.cutoff, architecture.cutoff_smooth)
    unit = vectors / r[:, None]
    mean, scale = statistics.mean[centre], 1 / statistics.std[centre]
    rows = (np.concatenate([s[:, None], s[:, None] * unit], axis=1) - mean) * scale
    below = np.floor(s / spacing).astype(np.int64)  # s in Å^-1 as it is: the nodes are normalised afterwards
    t = s / spacing - below

    column = np.empty(len(i), dtype=np.int64)
    B, nodes, width = [], [], 0
    for neighbour, capacity in enumerate(architecture.capacity):
        chosen = pairs.types[j] == neighbour
        empty = capacity - np.bincount(owner[chosen], minlength=len(atoms))
        touched = _touched(below[chosen], bool(np.any(empty)))
        # `touched` is sorted and holds all eight nodes of a pair, so these follow one another there.
        first = np.searchsorted(touched, below[chosen] + FIRST)
        column[chosen] = first + width
        part = _spread(owner[chosen], first, stencil_weights(t[chosen]), rows[chosen], (len(atoms), 4, len(touched)))
        # An empty slot has the row of zeros, normalised, and s = 0, which is a node: its interpolation is exact.
        part[:, :, touched == 0] += (empty[:, None] * (-mean * scale))[:, :, None]
        B.append(part)
        nodes.append((touched * spacing - mean[0]) * scale[0])
        width += len(touched)

    xp = array_namespace(like)

    def real(a: _Vector) -> Array:
        return xp.asarray(np.ascontiguousarray(a), dtype=like.dtype, device=like.device)

    index = np.stack([owner, i, j, column], axis=1).astype(np.int32)
    return NodalGroup(
        type=centre,
        atoms=atoms,
        B=real(np.concatenate(B, axis=2)),
        nodes=tuple(real(node[:, None]) for node in nodes),
        geometry=real(np.column_stack([unit, r, s, slope, t])),
        index=xp.asarray(index, device=like.device),
        mean=real(mean),
        scale=real(scale),
    )


def _touched(below: NDArray[np.int64], with_zero: bool) -> NDArray[np.int64]:
    """Return the nodes that these points are interpolated from, sorted."""
    nodes = (np.unique(below)[:, None] + np.arange(FIRST, FIRST + ORDER)).ravel()
    return np.unique(np.append(nodes, 0) if with_zero else nodes)


def _spread(
    owner: NDArray[np.int64], first: NDArray[np.int64], weights: _Vector, rows: _Vector, shape: tuple[int, int, int]
) -> _Vector:
    """Sum each neighbour's rows over its nodes, shape (n, 4, K)."""
    n, _, width = shape
    places = ((owner * width + first)[:, None] + np.arange(ORDER)).ravel()  # in one flat (n, K) array for each column
    columns = [
        np.bincount(places, weights=(weights * rows[:, k : k + 1]).ravel(), minlength=n * width) for k in range(4)
    ]
    # Of no places at all, bincount returns integers.
    return np.stack([column.reshape(n, width) for column in columns], axis=1).astype(np.float64)
