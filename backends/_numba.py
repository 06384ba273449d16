"""Numba kernels on NumPy arrays: one triangle in tiles, read once for all measurements, by all threads."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ekfcore.partition import BlockLayout
from ekfcore.threads import in_parallel, thread_count

from . import _numba_kernels as kernels
from ._tiles import TILE, Tiles, aligned, from_lower, identity, lower, shares, square, tile_grid, traces

__all__ = ["NumbaBackend", "backend"]

_Array: TypeAlias = NDArray[Any]

_MOST_ROWS = 12  # of H: for more, matrix products reuse what they have read better than these kernels do
_BAND = 32  # rows of V with a sum of their own


class NumbaBackend:
    """All kernels; the result does not depend on the number of threads, to the last bit."""

    name = "numba"

    def store_size(self, layout: BlockLayout, *, like: _Array) -> int:
        """Return how many numbers a store holds."""
        return tile_grid(layout).n_tiles * TILE**2

    def identity(self, layout: BlockLayout, value: float, *, like: _Array) -> Tiles:
        """Return the store of `value` times the identity."""
        return identity(layout, value, like.dtype)

    def multiply(self, store: Tiles, H: _Array, V: _Array, scale: _Array, shift: _Array) -> _Array:
        """Return H P, shape (m, n)."""
        if len(H) > _MOST_ROWS:
            return self._multiply_many(store, H, V, scale, shift)
        grid, (H, V, scale, shift) = store.grid, _plain(H, V, scale, shift)
        X = aligned((len(grid.corners), len(H), TILE), H.dtype)
        sums = aligned((grid.n_sums, len(H), TILE), H.dtype)
        G = np.empty_like(H)
        bands, blocks = shares(grid, thread_count())
        kernels.pack(grid.blocks, H, np.ones_like(scale), X)
        in_parallel(kernels.multiply_bands, bands, grid.blocks, grid.bands, store.tiles, X, sums)
        in_parallel(kernels.finish, blocks, grid.blocks, grid.bands, sums, H, V, scale, shift, G)
        return G

    def _multiply_many(self, store: Tiles, H: _Array, V: _Array, scale: _Array, shift: _Array) -> _Array:
        G = np.empty_like(H)
        _, blocks = shares(store.grid, thread_count())
        in_parallel(_multiply_blocks, blocks, store, H, V, scale, shift, G)
        return G

    def correlate(self, H: _Array, V: _Array) -> _Array:
        """Return (H V^T) V, shape (m, n)."""
        if len(H) > _MOST_ROWS or not len(V):
            product: _Array = (H @ V.T) @ V
            return product
        H, V = _plain(H, V)
        # The bands depend on the number of rows alone, and so does the order of the sum: not on the number of threads.
        bounds = np.append(np.arange(0, len(V), _BAND), len(V))
        bands = len(bounds) - 1
        sums = aligned((bands, *H.shape), H.dtype)
        count = min(thread_count(), bands)
        shared = [bands * k // count for k in range(count + 1)]
        in_parallel(kernels.correlate_bands, shared, bounds, H, V, sums)
        total: _Array = sums[0] if bands == 1 else sums.sum(axis=0)
        return total

    def fold(self, store: Tiles, V: _Array, scale: _Array, shift: _Array, *, donate: bool) -> Tiles:
        """Return the store of P."""
        grid, (V, scale, shift) = store.grid, _plain(V, scale, shift)
        tiles = store.tiles
        if not donate:
            tiles = aligned(tiles.shape, tiles.dtype)
            tiles[...] = store.tiles
        packed = aligned((len(grid.corners), -(-len(V) // 4) * 4, TILE), V.dtype)  # rows in fours for `fold_bands`
        # sqrt(s) on both factors of V^T V makes s V^T V.
        kernels.pack(grid.blocks, V, np.sqrt(scale), packed)
        bands, _ = shares(grid, thread_count())
        in_parallel(kernels.fold_bands, bands, grid.blocks, grid.bands, tiles, packed, scale, shift)
        return Tiles(grid, tiles)

    def traces(self, store: Tiles) -> _Array:
        """Return the trace of each block of Q, shape (L,)."""
        return traces(store)

    def block_sums(self, store: Tiles, A: _Array) -> _Array:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        return np.add.reduceat(A, store.grid.blocks[:, 0], axis=1)

    def spread(self, store: Tiles, values: _Array) -> _Array:
        """Return the vector that has in each block the number of `values` for it, shape (n,)."""
        return np.repeat(values, store.grid.blocks[:, 1])

    def lower(self, store: Tiles, index: int) -> _Array:
        """Return a block whose lower triangle is that of Q_l."""
        return lower(store, index)

    def from_lower(self, layout: BlockLayout, matrices: Iterable[_Array]) -> Tiles:
        """Return the store of the blocks with these lower triangles."""
        return from_lower(layout, matrices)


def _multiply_blocks(
    first: int, last: int, store: Tiles, H: _Array, V: _Array, scale: _Array, shift: _Array, G: _Array
) -> None:
    """Write H P, shape (m, n), in some blocks, by matrix products."""
    sizes, slices = store.grid.layout.sizes, store.grid.layout.slices
    # One room for all blocks: the first touch of fresh memory costs as much as the product.
    room = np.empty(max(sizes[first:last]) ** 2, dtype=G.dtype)
    for index in range(first, last):
        size, part = sizes[index], slices[index]
        Q = room[: size**2].reshape(size, size)
        square(store, index, Q)
        h, v, g = H[:, part], V[:, part], G[:, part]
        np.matmul(h, Q, out=g)
        if shift[index]:
            g += shift[index] * h
        if len(v):
            g -= (h @ v.T) @ v
        g *= scale[index]


def _plain(*arrays: _Array) -> tuple[_Array, ...]:
    """Bring arrays into the one form for which kernels are compiled; copies only what is read-only or has gaps."""
    return tuple(np.require(array, requirements=("C", "W")) for array in arrays)


backend = NumbaBackend()
