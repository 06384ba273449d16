"""Compiled kernels on tiles.

Each kernel takes a run of bands or of blocks, gives up the interpreter's lock and writes where no other run does. All
of them stand in one file because Numba's cache on disk looks only at the file of the kernel that is called.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from ekfcore.compiling.jit import inlined, jit

from ._tiles import TILE

__all__ = ["correlate_bands", "finish", "fold_bands", "multiply_bands", "pack"]

_Table: TypeAlias = NDArray[np.int64]
_Array: TypeAlias = NDArray[Any]

_LINE = 64  # [bytes] in a line of the cache
_AHEAD = 8192  # [bytes]: some 200 ns at the 40 GB/s of a core, the time of a journey to memory


def _generate_prefetch(typing_context: Any, array: Any, offset: Any) -> tuple[Any, Callable[..., Any]]:
    """Ask for the line of the cache that is so many bytes after the start of an array, even behind its end."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.add(builder.ptrtoint(start, arguments[1].type), arguments[1])
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(prefetch, [builder.inttoptr(address, byte), number(0), number(3), number(1)])  # data, to be read
        return context.get_dummy_value()

    return types.void(array, offset), generate


_prefetch: Any = intrinsic(_generate_prefetch)


@jit
def pack(blocks: _Table, rows: _Array, factors: _Array, packed: _Array) -> None:
    """Copy `rows`, shape (m, n), times a factor for each block, to `packed`, shape (n_rows, at least m, TILE)."""
    for block in range(len(blocks)):
        start, size, row = blocks[block, 0], blocks[block, 1], blocks[block, 2]
        for first in range(0, size, TILE):
            target = packed[row + first // TILE]
            count = min(TILE, size - first)
            # Zeros behind the end of the block and behind the last row: kernels work on whole tiles and groups of rows.
            target[:, count:] = 0
            target[len(rows) :] = 0
            for q in range(len(rows)):
                for j in range(count):
                    target[q, j] = factors[block] * rows[q, start + first + j]


@jit
def multiply_bands(
    first: int, last: int, blocks: _Table, bands: _Table, tiles: _Array, X: _Array, sums: _Array
) -> None:
    """Multiply the tiles of some bands by `X`, shape (n_rows, m, TILE); `sums` has the shape (n_sums, m, TILE)."""
    m = X.shape[1]
    for band in range(first, last):
        block, start, end, tile, here = bands[band]
        row = blocks[block, 2]
        x, y = X[row : row + end], sums[here : here + end]
        y[:] = 0  # before the shortcut, for `finish` adds up the sums of every band
        if not np.any(x):
            continue  # the measurements do not touch these weights: an element that the frame lacks
        for i in range(start, end):
            for j in range(i):
                # Below the diagonal, a tile serves its mirror image as well: the triangle is read once.
                for q in range(0, m - 1, 2):
                    _multiply_two(tiles[tile], x[i], x[j], y[i], y[j], q)
                if m % 2:
                    _multiply_one(tiles[tile], x[i], x[j], y[i], y[j], m - 1)
                tile += 1
            _multiply_corner(tiles[tile], x[i], y[i])
            tile += 1


@inlined
def _multiply_two(A: _Array, xi: _Array, xj: _Array, yi: _Array, yj: _Array, q: int) -> None:
    """Add A xj to yi and A^T xi to yj, for the measurements q and q + 1."""
    zero = A.dtype.type(0)  # 0.0 would make sums of float32 float64
    x0, x1, y0, y1 = xj[q], xj[q + 1], yj[q], yj[q + 1]
    for r in range(TILE):
        a = A[r]
        if q == 0:  # later pairs find the tile in the cache
            _prefetch_row(a)
        h0, h1 = xi[q, r], xi[q + 1, r]
        g0, g1 = zero, zero
        for c in range(TILE):
            g0 += a[c] * x0[c]
            g1 += a[c] * x1[c]
            y0[c] += a[c] * h0
            y1[c] += a[c] * h1
        yi[q, r] += g0
        yi[q + 1, r] += g1


@inlined
def _multiply_one(A: _Array, xi: _Array, xj: _Array, yi: _Array, yj: _Array, q: int) -> None:
    """Add A xj to yi and A^T xi to yj, for measurement q."""
    zero = A.dtype.type(0)
    x0, y0 = xj[q], yj[q]
    for r in range(TILE):
        a = A[r]
        if q == 0:
            _prefetch_row(a)
        h0 = xi[q, r]
        g0 = zero
        for c in range(TILE):
            g0 += a[c] * x0[c]
            y0[c] += a[c] * h0
        yi[q, r] += g0


@inlined
def _multiply_corner(A: _Array, x: _Array, y: _Array) -> None:
    """Add A x to y for a tile on the diagonal, which is symmetric, for all measurements."""
    for q in range(len(x)):
        g = y[q]
        for r in range(TILE):
            a, h = A[r], x[q, r]
            for c in range(TILE):
                g[c] += a[c] * h


@inlined
def _prefetch_row(a: _Array) -> None:
    for line in range(0, TILE * a.itemsize, _LINE):
        _prefetch(a, _AHEAD + line)


@jit
def finish(
    first: int,
    last: int,
    blocks: _Table,
    bands: _Table,
    sums: _Array,
    H: _Array,
    V: _Array,
    scale: _Array,
    shift: _Array,
    G: _Array,
) -> None:
    """Write H P, shape (m, n), in some blocks: the sums of all bands, the shift and the pending rows, scaled."""
    for block in range(first, last):
        start, size, _, first_band, last_band = blocks[block]
        for q in range(len(H)):
            h, g = H[q][start : start + size], G[q][start : start + size]
            for j in range(size):
                g[j] = shift[block] * h[j]
            # Always in the order of the bands, whichever thread made them: the same bits with any number of threads.
            for band in range(first_band, last_band):
                for column in range(bands[band, 2]):
                    part, here = sums[bands[band, 4] + column, q], g[column * TILE :]
                    for j in range(min(TILE, len(here))):
                        here[j] += part[j]
            _subtract_pending(h, V, g, start)
            for j in range(size):
                g[j] *= scale[block]


@inlined
def _subtract_pending(h: _Array, V: _Array, g: _Array, start: int) -> None:
    """Subtract (h V^T) V from g in the block that starts there, four rows of V at a time."""
    size, k, zero = len(h), len(V), h.dtype.type(0)
    # Four rows share a pass over h and one over g.
    for p in range(0, k - 3, 4):
        v0, v1 = V[p][start : start + size], V[p + 1][start : start + size]
        v2, v3 = V[p + 2][start : start + size], V[p + 3][start : start + size]
        c0, c1, c2, c3 = _four_products(h, v0, v1, v2, v3)
        for j in range(size):
            g[j] -= c0 * v0[j] + c1 * v1[j] + c2 * v2[j] + c3 * v3[j]
    for p in range(k - k % 4, k):
        v0 = V[p][start : start + size]
        c0 = zero
        for j in range(size):
            c0 += h[j] * v0[j]
        for j in range(size):
            g[j] -= c0 * v0[j]


@inlined
def _four_products(h: _Array, v0: _Array, v1: _Array, v2: _Array, v3: _Array) -> tuple[float, float, float, float]:
    """Return the products of h with four rows, read at the same time."""
    zero = h.dtype.type(0)
    c0, c1, c2, c3 = zero, zero, zero, zero
    for j in range(len(h)):
        c0 += h[j] * v0[j]
        c1 += h[j] * v1[j]
        c2 += h[j] * v2[j]
        c3 += h[j] * v3[j]
    return c0, c1, c2, c3


@jit
def correlate_bands(first: int, last: int, bounds: _Table, H: _Array, V: _Array, sums: _Array) -> None:
    """Write (H V^T) V, of some bands of the rows V, to `sums`, shape (n_bands, m, n).

    Four rows at a time are multiplied by H and added up while they are still in the cache: V is read from memory once,
    where two matrix products would read it twice.
    """
    m, n, zero = H.shape[0], H.shape[1], H.dtype.type(0)
    factors = np.empty((m, 4), dtype=H.dtype)
    for band in range(first, last):
        start, end = bounds[band], bounds[band + 1]
        y = sums[band]
        y[:] = 0
        for p in range(start, end - 3, 4):
            v0, v1, v2, v3 = V[p], V[p + 1], V[p + 2], V[p + 3]
            for q in range(m):
                factors[q, 0], factors[q, 1], factors[q, 2], factors[q, 3] = _four_products(H[q], v0, v1, v2, v3)
            for q in range(m):
                g = y[q]
                c0, c1, c2, c3 = factors[q, 0], factors[q, 1], factors[q, 2], factors[q, 3]
                for j in range(n):
                    g[j] += c0 * v0[j] + c1 * v1[j] + c2 * v2[j] + c3 * v3[j]
        for p in range(end - (end - start) % 4, end):
            v0 = V[p]
            for q in range(m):
                h, g, c0 = H[q], y[q], zero
                for j in range(n):
                    c0 += h[j] * v0[j]
                for j in range(n):
                    g[j] += c0 * v0[j]


@jit
def fold_bands(
    first: int, last: int, blocks: _Table, bands: _Table, tiles: _Array, V: _Array, scale: _Array, shift: _Array
) -> None:
    """Overwrite the tiles of some bands by those of P; `V`, shape (n_rows, multiple of 4, TILE), is scaled already."""
    for band in range(first, last):
        block, start, end, tile, _ = bands[band]
        size, row = blocks[block, 1], blocks[block, 2]
        for i in range(start, end):
            for j in range(i + 1):
                _fold_tile(tiles[tile], V[row + i], V[row + j], scale[block])
                tile += 1
            # The last tile of a row is the one on the diagonal. P = s (Q + d I) - V^T V with the scaled V.
            for r in range(min(TILE, size - i * TILE)):
                tiles[tile - 1, r, r] += scale[block] * shift[block]


@inlined
def _fold_tile(A: _Array, u: _Array, v: _Array, scale: float) -> None:
    """Overwrite A by scale A - u^T v, in steps of four rows of A and four rows of u and v."""
    # Four by four: each number of v serves four rows of A, and each of A is written once for four rows of v.
    for r in range(0, TILE, 4):
        a0, a1, a2, a3 = A[r], A[r + 1], A[r + 2], A[r + 3]
        for a in (a0, a1, a2, a3):
            _prefetch_row(a)
            for c in range(TILE):
                a[c] *= scale
        for p in range(0, len(u), 4):
            v0, v1, v2, v3 = v[p], v[p + 1], v[p + 2], v[p + 3]
            u00, u01, u02, u03 = u[p, r], u[p, r + 1], u[p, r + 2], u[p, r + 3]
            u10, u11, u12, u13 = u[p + 1, r], u[p + 1, r + 1], u[p + 1, r + 2], u[p + 1, r + 3]
            u20, u21, u22, u23 = u[p + 2, r], u[p + 2, r + 1], u[p + 2, r + 2], u[p + 2, r + 3]
            u30, u31, u32, u33 = u[p + 3, r], u[p + 3, r + 1], u[p + 3, r + 2], u[p + 3, r + 3]
            for c in range(TILE):
                # All reads come before the writes: the compiler cannot know that A and v do not overlap.
                w0, w1, w2, w3 = v0[c], v1[c], v2[c], v3[c]
                b0 = a0[c] - (u00 * w0 + u10 * w1 + u20 * w2 + u30 * w3)
                b1 = a1[c] - (u01 * w0 + u11 * w1 + u21 * w2 + u31 * w3)
                b2 = a2[c] - (u02 * w0 + u12 * w1 + u22 * w2 + u32 * w3)
                b3 = a3[c] - (u03 * w0 + u13 * w1 + u23 * w2 + u33 * w3)
                a0[c], a1[c], a2[c], a3[c] = b0, b1, b2, b3
