"""The share of P that one of several processes keeps."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array

from ekfcore._typing import Array
from ekfcore.errors import InputError
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend
from ekfcore.ranks import Ranks, collect, share_out

__all__ = ["Sharded"]

# Runs of blocks that a rank takes as a whole, at most. A sum over blocks is sent as one term of each of them, so that
# more of them cost more bytes, and fewer can be shared less evenly.
_PIECES = 64


class Sharded:
    """Some runs of blocks, balanced by the cost of an update.

    Sums over blocks are made for each run, by the rank that has it, and added in the order of the runs. Neither the
    runs nor the shape of what is multiplied in them depends on the number of ranks, and so no bit of the result does.

    Parameters
    ----------
    layout : BlockLayout
        Sizes of all blocks.
    ranks : Ranks
        The processes; all of them make this object.
    rows : int
        `EKFConfig.rows`, which decides what a block costs beside its square.

    Raises
    ------
    InputError
        If there are more ranks than runs of blocks.
    """

    def __init__(self, layout: BlockLayout, ranks: Ranks, *, rows: int = 0) -> None:
        # An update reads the triangle of a block, and its columns of V and U.
        costs = [size * (size + 2 * rows) for size in layout.sizes]
        bounds = _without_single_weights(_even_runs(costs), layout.sizes)
        count = len(bounds) - 1
        if ranks.size > count:
            raise InputError(
                f"{ranks.size} ranks are more than the {count} parts of P that they can share, of "
                f"{len(layout.sizes)} blocks; start {count} at most, or for up to {_PIECES} set a smaller block_size"
            )
        runs = [range(first, last) for first, last in pairwise(bounds)]
        self.owners = share_out([sum(costs[k] for k in run) for run in runs], ranks.size)
        self.widths = [sum(layout.sizes[k] for k in run) for run in runs]
        mine = [k for k, owner in enumerate(self.owners) if owner == ranks.rank]
        self.indices: Sequence[int] = [block for k in mine for block in runs[k]]
        self.layout = BlockLayout(tuple(layout.sizes[k] for k in self.indices))
        self._all, self._ranks, self._runs = layout, ranks, runs
        ends = list(accumulate(self.widths))
        self._from = _joined([slice(ends[k] - self.widths[k], ends[k]) for k in mine])
        here = list(accumulate(self.widths[k] for k in mine))
        self._parts = [slice(end - self.widths[k], end) for end, k in zip(here, mine, strict=True)]

    def columns(self, A: Array) -> Array:
        """Return the columns of `A`, shape (m, n), that belong here, shape (m, n_here)."""
        # A copy of them side by side, so that kernels find them as they would all columns.
        return A if len(self.indices) == len(self._all.sizes) else _beside([A[:, part] for part in self._from])

    def whole(self, A: Array) -> Array:
        """Return the columns of all ranks, shape (m, n), of which those here are `A`; one message to each."""
        return collect(self._ranks, self.owners, self.widths, A, axis=1)

    def blocks(self, values: Array) -> Array:
        """Return the numbers of the blocks here, shape (L_here,)."""
        xp = array_namespace(values)
        return xp.take(values, xp.asarray(self.indices, device=device(values)), axis=0)

    def all_blocks(self, values: Array) -> Array:
        """Return the numbers of all blocks, shape (m, L), of which those here are `values`; one message to each."""
        return collect(self._ranks, self.owners, [len(run) for run in self._runs], values, axis=1)

    def block_sums(self, backend: Backend, store: Any, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of every block, shape (m, L); no message."""
        if is_numpy_array(A):
            sums: Array = np.add.reduceat(A, [part.start for part in self._all.slices], axis=1)
            return sums
        xp = array_namespace(A)
        return xp.stack([xp.sum(A[:, part], axis=1) for part in self._all.slices], axis=1)

    def correlate(self, backend: Backend, H: Array, V: Array) -> Array:
        """Return the columns here of (H V^T) V, shape (m, n_here); one message to each rank."""
        return self.apply(self.gram(H, V), V)

    def gram(self, A: Array, B: Array) -> Array:
        """Return A B^T over the columns of all ranks, shape (m, k); one message to each."""
        xp = array_namespace(A)
        sums = xp.stack([_alone(A, part) @ _alone(B, part).T for part in self._parts])
        return xp.sum(collect(self._ranks, self.owners, [1] * len(self.owners), sums), axis=0)

    def apply(self, A: Array, rows: Array) -> Array:
        """Return the columns here of the product, shape (m, n_here); no message."""
        # Run by run: a product of another shape may round another way.
        return _beside([A @ _alone(rows, part) for part in self._parts])

    def lower(self, backend: Backend, store: Any, index: int, *, like: Array) -> Array:
        """Return the lower triangle of a block; one message from the rank that has it."""
        owner = next(self.owners[k] for k, run in enumerate(self._runs) if index in run)
        if owner == self._ranks.rank:
            lower = backend.lower(store, self.indices.index(index))
        else:
            n, xp = self._all.sizes[index], array_namespace(like)
            lower = xp.empty((n, n), dtype=like.dtype, device=device(like))
        return self._ranks.broadcast(lower, owner)


def _even_runs(costs: Sequence[int]) -> list[int]:
    """Return the bounds of runs of neighbouring blocks that cost about the same; of one each where they are few."""
    if len(costs) <= _PIECES:
        return list(range(len(costs) + 1))
    ends = [0, *accumulate(costs)]
    # As a set: a run that would be empty, because one block costs more than a share, disappears.
    marks = (bisect_left(ends, ends[-1] * part / _PIECES) for part in range(1, _PIECES))
    return sorted({0, *marks, len(costs)})


def _without_single_weights(bounds: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Join runs of one weight to others: as all that a rank has, its one column would be multiplied another way."""
    kept = [0]
    for bound in bounds[1:]:
        if sum(sizes[kept[-1] : bound]) > 1:
            kept.append(bound)
    return [0, *kept[1:-1], bounds[-1]]


def _joined(parts: Sequence[slice]) -> list[slice]:
    """Join slices that touch."""
    joined: list[slice] = []
    for part in parts:
        if joined and joined[-1].stop == part.start:
            joined[-1] = slice(joined[-1].start, part.stop)
        else:
            joined.append(part)
    return joined


def _alone(A: Array, part: slice) -> Array:
    """Return some columns, whose products have the same bits wherever they lie and whatever is beside them.

    OpenBLAS, behind NumPy, does not look at that; MKL, behind PyTorch, does, and gets a copy.
    """
    return A[:, part] if is_numpy_array(A) else array_namespace(A).asarray(A[:, part], copy=True)


def _beside(parts: Sequence[Array]) -> Array:
    return array_namespace(*parts).concat(parts, axis=1)
