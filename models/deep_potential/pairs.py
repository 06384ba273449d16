"""Which atoms of a frame see each other, and of which types they are."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.errors import InputError

from .architecture import Architecture

__all__ = ["Pairs", "atom_types", "find_pairs"]


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


def find_pairs(frame: Frame, architecture: Architecture) -> Pairs:
    """List the pairs of a frame.

    Raises
    ------
    InputError
        If the frame has an element that the model does not know, more neighbours than the capacity, overlapping atoms
        or a cell without volume.
    """
    types = atom_types(frame, architecture)
    i, j, vectors = neighbour_pairs(frame, architecture.cutoff)
    return Pairs(types=types, i=i, j=j, vectors=vectors, slots=_slots(types, i, j, frame, architecture))


def atom_types(frame: Frame, architecture: Architecture) -> NDArray[np.int64]:
    """Return the type of each atom, shape (N,).

    Raises
    ------
    InputError
        If the frame has an element that the model does not know.
    """
    lookup = {symbol: index for index, symbol in enumerate(architecture.elements)}
    unknown = sorted(set(frame.symbols) - set(lookup))
    if unknown:
        raise InputError(
            f"{frame.source} holds {', '.join(unknown)}, which the model does not know; "
            f"its elements are {', '.join(architecture.elements)}"
        )
    return np.asarray([lookup[symbol] for symbol in frame.symbols], dtype=np.int64)


def _slots(
    types: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64], frame: Frame, architecture: Architecture
) -> NDArray[np.int64]:
    """Number the neighbours of each type around each atom, in the order of the pairs."""
    key = i * len(architecture.elements) + types[j]
    order = np.argsort(key, kind="stable")
    starts = np.searchsorted(key[order], key[order], side="left")
    slots = np.empty_like(key)
    slots[order] = np.arange(len(key)) - starts
    over = slots >= np.asarray(architecture.capacity)[types[j]]
    if np.any(over):
        worst = int(np.argmax(np.where(over, slots, -1)))
        symbol = architecture.elements[types[j[worst]]]
        raise InputError(
            f"{frame.source}: atom {i[worst]} has {slots[worst] + 1} {symbol} neighbours within "
            f"{architecture.cutoff} Å, more than the model's capacity of {architecture.capacity[types[j[worst]]]}; "
            "train with a larger model.capacity, or leave it out to have it computed from the data"
        )
    return slots
