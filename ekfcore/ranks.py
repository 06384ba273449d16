"""Processes that run one training together: how arrays go between them, and who does what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from array_api_compat import array_namespace, device

from ekfcore._typing import Array

__all__ = ["ALONE", "Alone", "Ranks", "collect", "share_out"]


class Ranks(Protocol):
    """All processes of a run, seen from one of them.

    Each method is called by all ranks, in the same order and with the same shapes.
    """

    @property
    def rank(self) -> int:
        """Number of this process, from 0 on; rank 0 alone prints and writes."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def gather(self, array: Array) -> list[Array]:
        """Return the arrays of all ranks in their order; they have the same shape and dtype."""

    def broadcast(self, array: Array, source: int) -> Array:
        """Return the array of one rank; those that the others give tell shape, dtype and device alone."""

    def agree(self, what: str, text: str) -> None:
        """Raise InputError on every rank if `text`, the description of `what` on this rank, differs between ranks."""


@dataclass(frozen=True, slots=True)
class Alone:
    """The one process of an ordinary run."""

    rank: int = 0
    size: int = 1

    def gather(self, array: Array) -> list[Array]:
        """Return the array."""
        return [array]

    def broadcast(self, array: Array, source: int) -> Array:
        """Return the array."""
        return array

    def agree(self, what: str, text: str) -> None:
        """Do nothing: one process agrees with itself."""


ALONE = Alone()


def share_out(costs: Sequence[float], size: int) -> list[int]:
    """Return who takes each item, so that the largest load is small: the costliest first, to whoever has least.

    Examples
    --------
    >>> share_out([3, 1, 2, 2], 2)
    [0, 0, 1, 1]
    """
    loads, owners = [0.0] * size, [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda k: -costs[k]):  # sorting is stable: every rank finds the same
        owners[index] = min(range(size), key=loads.__getitem__)
        loads[owners[index]] += costs[index]
    return owners


def collect(ranks: Ranks, owners: Sequence[int], counts: Sequence[int], part: Array, *, axis: int = 0) -> Array:
    """Return what all ranks have of a list of items, in the order of the list, by one message to each.

    Parameters
    ----------
    ranks : Ranks
        The processes.
    owners : sequence of int
        Rank that has each item.
    counts : sequence of int
        Length of each item along `axis`.
    part : array
        The items of this rank one after the other, in the order of the list.
    axis : {0, 1}
        Axis along which they stand.

    Returns
    -------
    array
        All items.

    Examples
    --------
    >>> import numpy as np
    >>> collect(ALONE, [0, 0], [1, 2], np.arange(3))
    array([0, 1, 2])
    """
    if ranks.size == 1 or not owners:
        return part
    totals = [0] * ranks.size
    places = []
    for owner, count in zip(owners, counts, strict=True):
        places.append((owner, slice(totals[owner], totals[owner] + count)))
        totals[owner] += count
    parts = ranks.gather(_filled(part, max(totals), axis))
    items = [parts[owner][place, ...] if axis == 0 else parts[owner][:, place] for owner, place in places]
    return array_namespace(part).concat(items, axis=axis)


def _filled(part: Array, length: int, axis: int) -> Array:
    """Return an array of that length along an axis: the messages of all ranks are equally long."""
    missing = length - part.shape[axis]
    if not missing:
        return part
    xp = array_namespace(part)
    shape = tuple(missing if k == axis else n for k, n in enumerate(part.shape))
    return xp.concat([part, xp.zeros(shape, dtype=part.dtype, device=device(part))], axis=axis)
