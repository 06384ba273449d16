"""Types of atoms: the index of the element of each atom among those of a model."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from .frame import Frame

__all__ = ["atom_types"]


def atom_types(frame: Frame, elements: Sequence[str], unlearned: Collection[str] = ()) -> NDArray[np.int64]:
    """Return the type of each atom, shape (N,).

    Parameters
    ----------
    frame : Frame
        Atoms.
    elements : sequence of str
        Elements of the model, in the order of types.
    unlearned : collection of str
        Elements of the model that occur in no training frame.

    Raises
    ------
    InputError
        If the frame has an element that the model does not have or has not learned.
    """
    present = set(frame.symbols)
    if foreign := sorted(present - set(elements)):
        raise InputError(
            f"{frame.source} holds {', '.join(foreign)}, which the model does not know; "
            f"its elements are {', '.join(elements)}"
        )
    if unseen := sorted(present & set(unlearned)):
        raise InputError(
            f"{frame.source} holds {', '.join(unseen)}, of which the model has seen no atom in its training; train "
            "with such frames (--start goes on from its weights), or leave this one out"
        )
    lookup = {symbol: index for index, symbol in enumerate(elements)}
    return np.asarray([lookup[symbol] for symbol in frame.symbols], dtype=np.int64)
