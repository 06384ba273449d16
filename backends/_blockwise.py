"""What backends share that hold one matrix a block and handle the blocks one after the other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout

__all__ = ["Blocks", "BlockwiseBackend"]


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """The store: one square matrix for each block.

    Parameters
    ----------
    layout : BlockLayout
        Sizes of the blocks.
    matrices : tuple of array, shape (n_l, n_l)
        Q_l, of which a backend may keep one triangle only.
    """

    layout: BlockLayout
    matrices: tuple[Array, ...]


class BlockwiseBackend(ABC):
    """All kernels, on top of three that know how a block is stored.

    Parameters
    ----------
    name : str
        Name under which the backend is chosen.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Name under which the backend is chosen."""
        return self._name

    @abstractmethod
    def _square(self, matrix: Array) -> Array:
        """Return the stored form of the symmetric matrix whose lower triangle is that of `matrix`."""

    @abstractmethod
    def _product(self, Q: Array, H: Array) -> Array:
        """Return H Q, shape (m, n_l)."""

    @abstractmethod
    def _folded(self, Q: Array, V: Array, scale: Array, shift: Array, *, donate: bool) -> Array:
        """Return scale (Q + shift I - V^T V); overwrite `Q` only if `donate`."""

    def store_size(self, layout: BlockLayout, *, like: Array) -> int:
        """Return how many numbers a store holds."""
        return sum(n**2 for n in layout.sizes)

    def identity(self, layout: BlockLayout, value: float, *, like: Array) -> Blocks:
        """Return the store of `value` times the identity."""
        xp = array_namespace(like)
        eyes = (xp.eye(n, dtype=like.dtype, device=like.device) * value for n in layout.sizes)
        return self.from_lower(layout, eyes)

    def multiply(self, store: Blocks, H: Array, V: Array, scale: Array, shift: Array) -> Array:
        """Return H P, shape (m, n)."""
        # H_l P_l = s_l (H_l Q_l + d_l H_l - (H_l V_l^T) V_l), by (m, k) products: V_l^T V_l is never made.
        columns = []
        for index, (part, Q) in enumerate(zip(store.layout.slices, store.matrices, strict=True)):
            h, v = H[:, part], V[:, part]
            g = self._product(Q, h) + shift[index] * h
            if v.shape[0]:
                g = g - (h @ v.T) @ v
            columns.append(scale[index] * g)
        return array_namespace(H).concat(columns, axis=1)

    def correlate(self, H: Array, V: Array) -> Array:
        """Return (H V^T) V, shape (m, n)."""
        return (H @ V.T) @ V  # 4 m k n operations, where H (V^T V) would take n^2 numbers

    def fold(self, store: Blocks, V: Array, scale: Array, shift: Array, *, donate: bool) -> Blocks:
        """Return the store of P."""
        matrices = (
            self._folded(Q, V[:, part], scale[index], shift[index], donate=donate)
            for index, (part, Q) in enumerate(zip(store.layout.slices, store.matrices, strict=True))
        )
        return Blocks(store.layout, tuple(matrices))

    def traces(self, store: Blocks) -> Array:
        """Return the trace of each block of Q, shape (L,)."""
        xp = array_namespace(*store.matrices)
        return xp.stack([xp.linalg.trace(Q) for Q in store.matrices])

    def block_sums(self, store: Blocks, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        xp = array_namespace(A)
        return xp.stack([xp.sum(A[:, part], axis=1) for part in store.layout.slices], axis=1)

    def spread(self, store: Blocks, values: Array) -> Array:
        """Return the vector that has in each block the number of `values` for it, shape (n,)."""
        xp = array_namespace(values)
        return xp.concat([xp.broadcast_to(values[index], (n,)) for index, n in enumerate(store.layout.sizes)])

    def lower(self, store: Blocks, index: int) -> Array:
        """Return Q_l; its upper triangle may have no meaning."""
        return store.matrices[index]

    def from_lower(self, layout: BlockLayout, matrices: Iterable[Array]) -> Blocks:
        """Return the store of the blocks with these lower triangles."""
        return Blocks(layout, tuple(self._square(matrix) for matrix in matrices))
