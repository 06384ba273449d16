"""Which atoms of a frame see each other, and of which types they are."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.atoms.types import atom_types

from .architecture import Architecture

__all__ = ["Pairs", "find_pairs"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """The P pairs of atoms of a frame that see each other.

    Parameters
    ----------
    types : array, shape (N,)
        Type of each atom.
    i, j : array, shape (P,)
        Centre and neighbour, sorted by the centre.
    vectors : array, shape (P, 3)
        From the centre to the neighbour [Å].
    slots : array, shape (P,)
        Number of the neighbour among those of its type around the centre.
    """

    types: NDArray[np.int64]
    i: NDArray[np.int64]
    j: NDArray[np.int64]
    vectors: NDArray[np.float64]
    slots: NDArray[np.int64]


def find_pairs(frame: Frame, architecture: Architecture, unlearned: Collection[str] = ()) -> Pairs:
    """List the pairs of a frame.

    Parameters
    ----------
    frame : Frame
        Atoms.
    architecture : Architecture
        Elements and cutoff.
    unlearned : collection of str
        Elements that the model has, but has not learned.

    Raises
    ------
    InputError
        If the frame has an element that the model does not know or has not learned, overlapping atoms or a cell without
        volume.
    """
    types = atom_types(frame, architecture.elements, unlearned)
    i, j, vectors = neighbour_pairs(frame, architecture.cutoff)
    return Pairs(types=types, i=i, j=j, vectors=vectors, slots=_slots(i, types[j]))


def _slots(i: NDArray[np.int64], kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the neighbours of each type around each atom, in the order of the pairs."""
    key = i * (kinds.max(initial=0) + 1) + kinds
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], key[order], side="left")
    slots: NDArray[np.int64] = np.empty_like(key)
    slots[order] = np.arange(len(key)) - starts
    return slots
