"""What a process keeps of P: all of it, or some of its blocks with their columns of the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend

__all__ = ["Share", "Whole"]


class Share(Protocol):
    """The blocks of P that this process keeps.

    Arrays for all weights or all blocks are the same in every process; of the store and of the rows beside it each has
    its own columns. Sums over blocks are taken in an order that does not depend on the number of processes.
    """

    @property
    def layout(self) -> BlockLayout:
        """Sizes of the blocks here."""

    @property
    def indices(self) -> Sequence[int]:
        """Their numbers among all blocks, in order."""

    def columns(self, A: Array) -> Array:
        """Return the columns that belong here, shape (m, n_here), of `A`, shape (m, n)."""

    def whole(self, A: Array) -> Array:
        """Return the columns of all processes, shape (m, n), of which those here are `A`, shape (m, n_here)."""

    def blocks(self, values: Array) -> Array:
        """Return the numbers of the blocks here, shape (L_here,), of `values`, shape (L,)."""

    def all_blocks(self, values: Array) -> Array:
        """Return the numbers of all blocks, shape (m, L), of which those here are `values`, shape (m, L_here)."""

    def block_sums(self, backend: Backend, store: Any, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of every block, shape (m, L)."""

    def correlate(self, backend: Backend, H: Array, V: Array) -> Array:
        """Return the columns here of (H V^T) V, shape (m, n_here), from those of `H` and `V`, shape (k, n_here)."""

    def gram(self, A: Array, B: Array) -> Array:
        """Return A B^T over the columns of all processes, shape (m, k), from those here."""

    def apply(self, A: Array, rows: Array) -> Array:
        """Return the columns here of `A` times `rows`, shape (m, n_here), for `A` of shape (m, k)."""

    def lower(self, backend: Backend, store: Any, index: int, *, like: Array) -> Array:
        """Return `Backend.lower` of block `index` of all, wherever it is kept; `like` tells dtype and device."""


@dataclass(frozen=True, slots=True)
class Whole:
    """All of P, in one process."""

    layout: BlockLayout

    @property
    def indices(self) -> Sequence[int]:
        """Numbers of all blocks."""
        return range(len(self.layout.sizes))

    def columns(self, A: Array) -> Array:
        """Return `A`."""
        return A

    def whole(self, A: Array) -> Array:
        """Return `A`."""
        return A

    def blocks(self, values: Array) -> Array:
        """Return `values`."""
        return values

    def all_blocks(self, values: Array) -> Array:
        """Return `values`."""
        return values

    def block_sums(self, backend: Backend, store: Any, A: Array) -> Array:
        """Return the sums over the columns of each block, shape (m, L)."""
        return backend.block_sums(store, A)

    def correlate(self, backend: Backend, H: Array, V: Array) -> Array:
        """Return (H V^T) V, shape (m, n)."""
        return backend.correlate(H, V)

    def gram(self, A: Array, B: Array) -> Array:
        """Return A B^T, shape (m, k)."""
        return A @ B.T

    def apply(self, A: Array, rows: Array) -> Array:
        """Return the product, shape (m, n)."""
        return A @ rows

    def lower(self, backend: Backend, store: Any, index: int, *, like: Array) -> Array:
        """Return an (n_l, n_l) array whose lower triangle is that of Q_l."""
        return backend.lower(store, index)
