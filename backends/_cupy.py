"""CuPy kernels: CUDA C on tiles of the lower triangles, all blocks in one launch, and never a wait for the host."""

from dataclasses import dataclass
from typing import Any

import cupy
import numpy as np

from ekfcore._typing import Array
from ekfcore.compiling.cuda import Launcher

from ._device_tiles import TileBackend, TileLayout, Tiles

__all__ = ["CupyBackend", "backend"]

_ROWS = 8
"""Rows of H that one launch multiplies; more would not fit into the registers."""

# As in covariance.cu
_SHARERS, _MICRO, _WIDTH = 4, 4, 128


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """A layout as covariance.cu wants it, and the block of each weight; arrays of int32."""

    pairs: Array  # (T, 2)
    chunks: Array  # (C, 6)
    firsts: Array  # (L,)
    ends: Array  # (L,)
    owner: Array  # (n,)
    n_slots: int


class CupyBackend(TileBackend):
    """Blocks as square tiles of their lower triangles on an NVIDIA GPU.

    Parameters
    ----------
    edge : int
        Rows and columns of a tile, a multiple of 4.
    """

    def __init__(self, *, edge: int) -> None:
        super().__init__("cupy", edge=edge)

    def multiply(self, store: Tiles, H: Array, V: Array, scale: Array, shift: Array) -> Array:
        """Return H P, shape (m, n)."""
        H, V = cupy.ascontiguousarray(H), cupy.ascontiguousarray(V)
        with cupy.cuda.Device(H.device):
            G = cupy.empty_like(H)
            for begin in range(0, H.shape[0], _ROWS):
                rows = slice(begin, begin + _ROWS)
                self._multiply_rows(store, H[rows], V, scale, shift, G[rows])
        return G

    def _multiply_rows(self, store: Tiles, H: Array, V: Array, scale: Array, shift: Array, G: Array) -> None:
        """Write H P for up to _ROWS rows into `G`."""
        (rows, n), k, tables = H.shape, V.shape[0], store.tables
        n_blocks, n_chunks = len(store.layout.blocks.sizes), store.layout.n_chunks
        products = cupy.empty((tables.n_slots, rows, self._edge), dtype=H.dtype)
        correlation = cupy.empty((n_blocks, rows, k), dtype=H.dtype)
        launch = _launcher(H.dtype, rows, self._edge)
        launch(
            "multiply_tiles",
            (len(store.numbers),),
            (self._edge, _SHARERS),
            (store.numbers, tables.pairs, tables.chunks, H, n, products),
        )
        if k:
            launch("correlate", (n_blocks, k), (_WIDTH,), (H, V, tables.ends, n, k, correlation))
        launch(
            "collect_products",
            (n_chunks,),
            (self._edge, rows),
            (products, correlation, tables.chunks, H, V, scale, shift, n, k, G),
        )

    def fold(self, store: Tiles, V: Array, scale: Array, shift: Array, *, donate: bool) -> Tiles:
        """Return the store of P."""
        V, tables = cupy.ascontiguousarray(V), store.tables
        with cupy.cuda.Device(V.device):
            folded = store.numbers if donate else cupy.empty_like(store.numbers)
            _launcher(V.dtype, 1, self._edge)(
                "fold_tiles",
                (len(store.numbers),),
                (self._edge // _MICRO, self._edge // _MICRO),
                (store.numbers, tables.pairs, tables.chunks, V, scale, shift, V.shape[1], V.shape[0], folded),
            )
        return Tiles(store.layout, tables, folded)

    def traces(self, store: Tiles) -> Array:
        """Return the trace of each block of Q, shape (L,)."""
        tables, numbers, n_blocks = store.tables, store.numbers, len(store.layout.blocks.sizes)
        with cupy.cuda.Device(numbers.device):
            traces = cupy.empty(n_blocks, dtype=numbers.dtype)
            launch = _launcher(numbers.dtype, 1, self._edge)
            launch("trace_blocks", (n_blocks,), (_WIDTH,), (numbers, tables.chunks, tables.firsts, traces))
        return traces

    def block_sums(self, store: Tiles, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        A, (m, n), n_blocks = cupy.ascontiguousarray(A), A.shape, len(store.layout.blocks.sizes)
        with cupy.cuda.Device(A.device):
            sums = cupy.empty((m, n_blocks), dtype=A.dtype)
            if m:
                launch = _launcher(A.dtype, 1, self._edge)
                launch("sum_blocks", (n_blocks, m), (_WIDTH,), (A, store.tables.ends, n, sums))
        return sums

    def spread(self, store: Tiles, values: Array) -> Array:
        """Return the vector that has in each block the number of `values` for it, shape (n,)."""
        return cupy.take(values, store.tables.owner)

    def _tables(self, layout: TileLayout, like: Array) -> _Tables:
        counts = np.bincount(layout.block)[layout.block]
        slots = np.cumsum([0, *counts])
        _, firsts = np.unique(layout.block, return_index=True)
        chunks = (layout.start, layout.size, layout.block, firsts[layout.block], counts, slots[:-1])
        with cupy.cuda.Device(like.device):
            return _Tables(
                pairs=_int32(np.stack([layout.row, layout.column], axis=1)),
                chunks=_int32(np.stack(chunks, axis=1)),
                firsts=_int32(firsts),
                ends=_int32(np.cumsum(layout.blocks.sizes)),
                owner=_int32(np.repeat(np.arange(len(firsts)), layout.blocks.sizes)),
                n_slots=int(slots[-1]),
            )


def _int32(values: np.ndarray[Any, Any]) -> Array:
    return cupy.asarray(values, dtype=np.int32)


def _launcher(dtype: Any, rows: int, edge: int) -> Launcher:
    """Return what launches the kernels for a type of numbers, a number of rows and a size of tiles."""
    return Launcher(cupy, __package__, "covariance.cu", dtype, (f"-DROWS={rows}", f"-DEDGE={edge}"))


backend = CupyBackend(edge=64)
