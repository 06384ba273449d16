"""Pairs of atoms within a cutoff, periodic images included."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._extra import load_extra
from .frame import Frame, check_cell

__all__ = ["neighbour_pairs", "pairs_once"]

_MIN_DISTANCE = 0.1  # [Å] far below any bond (H2: 0.74 Å): closer atoms are an error in the data, and 1/r would diverge
_MAX_EXTENT = 1e4  # [cutoffs] vesin divides by zero above 1e5 along one axis


def neighbour_pairs(frame: Frame, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """List every pair of atoms closer than the cutoff, in both directions.

    In a periodic cell narrower than twice the cutoff, an atom has several images of the same neighbour, and in one
    narrower than the cutoff also its own images; each image is a separate pair.

    Parameters
    ----------
    frame : Frame
        Atoms, inside the cell or not; each direction periodic or not.
    cutoff : float
        Largest distance [Å].

    Returns
    -------
    i, j : array, shape (p,)
        Centre and neighbour, sorted by i, then j, then the image of j.
    vectors : array, shape (p, 3)
        From the centre to the neighbour, r_j - r_i plus the shift of the image [Å].

    Raises
    ------
    InputError
        If atoms overlap (closer than 0.1 Å), a periodic cell has no volume, positions are not finite or the atoms are
        so far apart that a unit must be wrong.
    """
    i, j, shifts, distances, vectors = _compute(frame, cutoff, "ijSdD", full_list=True)
    if len(distances) and distances.min() < _MIN_DISTANCE:
        raise InputError(_overlap(frame, int(i[distances.argmin()]), int(j[distances.argmin()]), distances.min()))
    order = np.lexsort((*shifts.T[::-1], j, i))
    return i[order].astype(np.int64), j[order].astype(np.int64), vectors[order]


def pairs_once(
    frame: Frame, cutoff: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """List every pair of atoms closer than the cutoff in one direction, overlapping atoms included.

    Parameters
    ----------
    frame : Frame
        As for `neighbour_pairs`.
    cutoff : float
        Largest distance [Å].

    Returns
    -------
    i, j : array, shape (p,)
        The two atoms, in any order.
    distances : array, shape (p,)
        Distances [Å].
    vectors : array, shape (p, 3)
        From i to j [Å].

    Raises
    ------
    InputError
        As for `neighbour_pairs`, but not for overlapping atoms.
    """
    i, j, distances, vectors = _compute(frame, cutoff, "ijdD", full_list=False)
    return i.astype(np.int64), j.astype(np.int64), distances, vectors


def _compute(frame: Frame, cutoff: float, quantities: str, *, full_list: bool) -> tuple[Any, ...]:
    if not 0.0 < cutoff < np.inf:
        raise InputError(f"cutoff must be a positive length in Å, got {cutoff}")
    check_cell(frame)
    _check_extent(frame, cutoff)
    neighbours = load_extra("vesin").NeighborList(cutoff=cutoff, full_list=full_list, n_threads=1)
    found: tuple[Any, ...] = neighbours.compute(frame.positions, frame.cell, frame.pbc, quantities)
    return found


def _check_extent(frame: Frame, cutoff: float) -> None:
    """Refuse positions and cells on which the library would crash."""
    edges = np.linalg.norm(frame.cell, axis=1)
    spread = 0.0 if np.all(frame.pbc) else np.ptp(frame.positions, axis=0).max(initial=0.0)
    extent = max(edges.max(), spread)
    if not np.isfinite(frame.positions).all() or not extent <= _MAX_EXTENT * cutoff:
        raise InputError(
            f"{frame.source}: positions must be finite and at most {_MAX_EXTENT:.0e} cutoffs apart, "
            f"got an extent of {extent:.3g} Å; check the length unit, or the run that made them"
        )


def _overlap(frame: Frame, i: int, j: int, distance: float) -> str:
    symbols = frame.symbols
    other = "its own periodic image" if i == j else f"atom {j} ({symbols[j]})"
    return (
        f"{frame.source}: atom {i} ({symbols[i]}) lies {distance:.3g} Å from {other}, at least {_MIN_DISTANCE} Å are "
        "needed; leave this frame out or correct its positions and cell"
    )
