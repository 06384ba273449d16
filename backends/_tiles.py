"""Where the tiles of a block-diagonal symmetric matrix lie in memory.

Each block is cut into tiles of 64 × 64 elements, of which those on and below the diagonal are kept: row of tiles after
row of tiles, every tile contiguous, and padded with zeros where it sticks out of its block. Tiles on the diagonal are
complete. Kernels work on bands, runs of rows of tiles that depend on the layout alone, so that sums do not depend on
how many threads share the bands.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.partition import BlockLayout

__all__ = [
    "TILE",
    "TileGrid",
    "Tiles",
    "aligned",
    "from_lower",
    "identity",
    "lower",
    "shares",
    "square",
    "tile_grid",
    "traces",
]

TILE = 64
_ALIGNMENT = 64  # [bytes]: a cache line, and the widest register
_BAND = 64  # least number of tiles in a band
_MOST_BANDS = 32  # in a block: every band has sums of its own, nearly as long as the block
_SHARE = 256  # least number of tiles for a thread: read in some 200 microseconds, and waking it takes up to 50


@dataclass(frozen=True, slots=True, eq=False)
class TileGrid:
    """Tables for the kernels.

    Parameters
    ----------
    layout : BlockLayout
        Sizes of the L blocks.
    blocks : array of int, shape (L, 5)
        First weight, number of weights, first row of tiles, first band, end of its bands.
    bands : array of int, shape (n_bands, 5)
        Block, first row of tiles counted within it, end of these rows, first tile, first row of sums.
    corners : array of int, shape (n_rows,)
        The tile on the diagonal, which is the last one, of each row of tiles.
    n_tiles, n_sums : int
        Number of tiles, and of rows of sums: each band has one for every column of tiles that it reaches.
    """

    layout: BlockLayout
    blocks: NDArray[np.int64]
    bands: NDArray[np.int64]
    corners: NDArray[np.int64]
    n_tiles: int
    n_sums: int


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The store: the tiles of all blocks, shape (n_tiles, 64, 64)."""

    grid: TileGrid
    tiles: NDArray[Any]


@lru_cache
def tile_grid(layout: BlockLayout) -> TileGrid:
    """Return the tables of a layout."""
    blocks: list[tuple[int, ...]] = []
    bands: list[tuple[int, ...]] = []
    corners: list[int] = []
    weight = row = tile = n_sums = 0
    for block, size in enumerate(layout.sizes):
        n_rows = -(-size // TILE)  # rounded up; the last row sticks out
        bounds = _band_bounds(n_rows)
        blocks.append((weight, size, row, len(bands), len(bands) + len(bounds) - 1))
        for start, end in pairwise(bounds):
            bands.append((block, start, end, tile + _triangle(start), n_sums))
            n_sums += end  # rows of tiles up to `end` reach the columns 0 to end - 1, themselves or mirrored
        corners += [tile + _triangle(i + 1) - 1 for i in range(n_rows)]  # row i has i + 1 tiles
        weight, row, tile = weight + size, row + n_rows, tile + _triangle(n_rows)
    return TileGrid(layout, _table(blocks), _table(bands), _table(corners), tile, n_sums)


@lru_cache
def shares(grid: TileGrid, count: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the bounds of runs of bands with about as many tiles each, and of blocks with as many weights each.

    There are at most `count` runs, and fewer if they would be too small to be worth a thread.
    """
    count = max(1, min(count, grid.n_tiles // _SHARE))
    return (
        _even_bounds([*grid.bands[:, 3].tolist(), grid.n_tiles], count),
        _even_bounds([*grid.blocks[:, 0].tolist(), grid.layout.n_params], count),
    )


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any], make: Callable[..., NDArray[Any]] = np.empty) -> NDArray[Any]:
    """Return an array whose first element lies on a cache line: a register crosses no line then."""
    count = prod(shape)
    raw = make(count + _ALIGNMENT // dtype.itemsize, dtype=dtype)  # one line of the cache too long
    offset = -raw.__array_interface__["data"][0] % _ALIGNMENT // dtype.itemsize
    return raw[offset : offset + count].reshape(shape)


def identity(layout: BlockLayout, value: float, dtype: np.dtype[Any]) -> Tiles:
    """Return `value` times the identity."""
    grid = tile_grid(layout)
    # `np.zeros` takes no memory before a page is written, and the fill touches the tiles on the diagonal only.
    store = Tiles(grid, aligned((grid.n_tiles, TILE, TILE), dtype, np.zeros))
    for index, size in enumerate(layout.sizes):
        for start, row in _rows(store, index):
            # Not in the padding, which has to stay zero for the products and the traces.
            np.fill_diagonal(row[-1][: size - start, : size - start], value)
    return store


def from_lower(layout: BlockLayout, matrices: Iterable[NDArray[Any]]) -> Tiles:
    """Return the blocks with these lower triangles."""
    store: Tiles | None = None
    for index, matrix in enumerate(matrices):
        if store is None:
            store = identity(layout, 0.0, matrix.dtype)
        for start, row in _rows(store, index):
            part = matrix[start : start + TILE]
            for column, tile in enumerate(row[:-1]):
                tile[: len(part)] = part[:, column * TILE : (column + 1) * TILE]
            corner = np.tril(part[:, start : start + TILE])  # mirrored: kernels read tiles on the diagonal whole
            row[-1][: len(part), : len(part)] = corner + np.tril(corner, k=-1).T
    assert store is not None, "a layout has at least one block"
    return store


def lower(store: Tiles, index: int) -> NDArray[Any]:
    """Return a block whose lower triangle is that of the matrix, shape (n_l, n_l)."""
    n = store.grid.layout.sizes[index]
    matrix = np.empty((n, n), dtype=store.tiles.dtype)
    for start, row in _rows(store, index):
        part = matrix[start : start + TILE]
        for column, tile in enumerate(row):
            part[:, column * TILE : (column + 1) * TILE] = tile[: len(part), : n - column * TILE]
    return matrix


def square(store: Tiles, index: int, matrix: NDArray[Any]) -> None:
    """Write a block as a full symmetric matrix, shape (n_l, n_l)."""
    n = len(matrix)
    for start, row in _rows(store, index):
        part, mirrored = matrix[start : start + TILE], matrix[:, start : start + TILE]
        for column, tile in enumerate(row):
            here = slice(column * TILE, (column + 1) * TILE)
            part[:, here] = tile[: len(part), : n - column * TILE]
            if here.start < start:  # a tile on the diagonal is symmetric and already written
                mirrored[here] = tile[: len(part)].T


def traces(store: Tiles) -> NDArray[Any]:
    """Return the trace of each block, shape (L,)."""
    # Every (TILE + 1)-th number of a flat tile lies on its diagonal; the padding adds zeros.
    diagonals = store.tiles.reshape(-1, TILE * TILE)[store.grid.corners, :: TILE + 1]
    return np.add.reduceat(diagonals.sum(axis=1), store.grid.blocks[:, 2])


def _rows(store: Tiles, index: int) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first weight of each row of tiles, counted within the block, and the tiles of the row."""
    _, size, row, *_ = store.grid.blocks[index].tolist()
    for start in range(0, size, TILE):
        corner = store.grid.corners[row + start // TILE]
        yield start, store.tiles[corner - start // TILE : corner + 1]


def _table(rows: Sequence[Any]) -> NDArray[np.int64]:
    return np.asarray(rows, dtype=np.int64)


def _triangle(rows: int) -> int:
    """Return the number of tiles in that many rows of tiles."""
    return rows * (rows + 1) // 2


def _band_bounds(n_rows: int) -> list[int]:
    """Cut the rows of tiles of a block into bands of about as many tiles each."""
    count = min(max(1, _triangle(n_rows) // _BAND), _MOST_BANDS)
    return _even_bounds([_triangle(row) for row in range(n_rows + 1)], count)


def _even_bounds(ends: Sequence[int], count: int) -> list[int]:
    """Cut a sequence of running totals, which starts with zero, into at most `count` runs of about as much each."""
    # As a set: a run that would be empty, because one item is larger than a share, disappears.
    marks = (bisect_left(ends, ends[-1] * part / count) for part in range(1, count))
    return sorted({0, *marks, len(ends) - 1})
