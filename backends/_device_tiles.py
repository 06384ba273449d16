"""Square tiles that cover the lower triangles of all blocks, whatever the sizes of the blocks.

They take half the memory of squares, and a kernel can handle the tiles of all blocks at once, which suits a device that
is fast once a call has begun and slow to begin one.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout

__all__ = ["TileBackend", "TileLayout", "Tiles"]

_Indices = NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class TileLayout:
    """Where the tiles of a block-diagonal matrix lie.

    The weights of each block are cut into chunks of `edge`, the last of which may be shorter. A tile stands for a pair
    of chunks of one block: first the C tiles on the diagonal, one for each chunk, then those below it, row by row.

    Parameters
    ----------
    blocks : BlockLayout
        Sizes of the L blocks.
    edge : int
        Rows and columns of a tile.
    start, size, block : array of int, shape (C,)
        First weight, number of weights and block of each chunk.
    row, column : array of int, shape (T,)
        Chunks of each of the T tiles; `row` is the later one.
    """

    blocks: BlockLayout
    edge: int
    start: _Indices
    size: _Indices
    block: _Indices
    row: _Indices
    column: _Indices

    @classmethod
    def of(cls, blocks: BlockLayout, edge: int) -> "TileLayout":
        """Cut blocks into tiles.

        Examples
        --------
        >>> tiles = TileLayout.of(BlockLayout((5, 2)), 2)
        >>> tiles.start, tiles.size, tiles.block
        (array([0, 2, 4, 5], dtype=int32), array([2, 2, 1, 2], dtype=int32), array([0, 0, 0, 1], dtype=int32))
        >>> tiles.row, tiles.column
        (array([0, 1, 2, 3, 1, 2, 2], dtype=int32), array([0, 1, 2, 3, 0, 0, 1], dtype=int32))
        """
        counts = [-(-n // edge) for n in blocks.sizes]  # chunks of each block; the last may be short
        firsts = np.cumsum([0, *counts])
        start = np.concat([part.start + edge * np.arange(c) for part, c in zip(blocks.slices, counts, strict=True)])
        block = np.repeat(np.arange(len(counts)), counts)
        end = np.cumsum(blocks.sizes)[block]
        pairs = [np.stack(np.tril_indices(c, -1)) + first for c, first in zip(counts, firsts[:-1], strict=True)]
        # The diagonal first, so that `numbers[:C]` are these tiles, and `numbers[C:]` those with a mirror image.
        row, column = np.concat([np.tile(np.arange(len(start)), (2, 1)), *pairs], axis=1)
        arrays = (start, np.minimum(edge, end - start), block, row, column)
        return cls(blocks, edge, *(array.astype(np.int32) for array in arrays))

    @property
    def n_chunks(self) -> int:
        """Number of chunks, and of tiles on the diagonal, C."""
        return len(self.start)

    @property
    def weight(self) -> _Indices:
        """Weight of each place in the chunks, shape (C, edge); n in places behind the end of a block."""
        lane = np.arange(self.edge, dtype=np.int32)
        return np.where(lane < self.size[:, None], self.start[:, None] + lane, np.int32(self.blocks.n_params))

    def square(self, index: int) -> _Indices:
        """Return the tile at each place of a block's square, shape (c, c); above the diagonal, some tile."""
        chunks = np.flatnonzero(self.block == index)
        # The tile of chunk c on the diagonal is tile c: a filler for the places above.
        square = np.repeat(chunks[:, None], len(chunks), axis=1)
        mine = np.flatnonzero(self.block[self.row] == index)
        square[self.row[mine] - chunks[0], self.column[mine] - chunks[0]] = mine
        return square.astype(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """The store: tiles of Q, with zeros where a tile reaches over the end of a block.

    Parameters
    ----------
    layout : TileLayout
        What the tiles stand for.
    tables : Any
        The same in the form in which the kernels want it.
    numbers : array, shape (T, edge, edge)
        The tiles; those on the diagonal are whole and exactly symmetric.
    """

    layout: TileLayout
    tables: Any
    numbers: Array


class TileBackend(ABC):
    """Making and reading a store of tiles; the kernels are the subclass's.

    Parameters
    ----------
    name : str
        Name under which the backend is chosen.
    edge : int
        Rows and columns of a tile.
    """

    def __init__(self, name: str, *, edge: int) -> None:
        self._name, self._edge = name, edge

    @property
    def name(self) -> str:
        """Name under which the backend is chosen."""
        return self._name

    @abstractmethod
    def _tables(self, layout: TileLayout, like: Array) -> Any:
        """Bring a layout to the device of `like`, in the form in which the kernels want it."""

    def store_size(self, layout: BlockLayout, *, like: Array) -> int:
        """Return how many numbers a store holds."""
        return len(TileLayout.of(layout, self._edge).row) * self._edge**2

    def identity(self, layout: BlockLayout, value: float, *, like: Array) -> Tiles:
        """Return the store of `value` times the identity."""
        xp, tiles = array_namespace(like), TileLayout.of(layout, self._edge)
        kind = {"dtype": like.dtype, "device": like.device}
        inside = xp.asarray(tiles.weight < layout.n_params, **kind)  # the padding stays zero
        diagonal = inside[:, :, None] * xp.eye(self._edge, **kind) * value
        below = xp.zeros((len(tiles.row) - tiles.n_chunks, self._edge, self._edge), **kind)
        return Tiles(tiles, self._tables(tiles, like), xp.concat([diagonal, below]))

    def correlate(self, H: Array, V: Array) -> Array:
        """Return (H V^T) V, shape (m, n)."""
        return (H @ V.T) @ V

    def lower(self, store: Tiles, index: int) -> Array:
        """Return Q_l with other numbers in its upper triangle."""
        xp, numbers = array_namespace(store.numbers), store.numbers
        square, n = store.layout.square(index), store.layout.blocks.sizes[index]
        chosen = xp.take(numbers, xp.asarray(square.ravel(), dtype=xp.int64, device=numbers.device), axis=0)
        # (c, c, edge, edge) -> (c, edge, c, edge), the order of a square's rows and columns.
        grid = xp.permute_dims(xp.reshape(chosen, (*square.shape, *numbers.shape[1:])), (0, 2, 1, 3))
        return xp.reshape(grid, (square.shape[0] * self._edge,) * 2)[:n, :n]

    def from_lower(self, layout: BlockLayout, matrices: Iterable[Array]) -> Tiles:
        """Return the store of the blocks with these lower triangles."""
        diagonal, below = [], []
        for matrix in matrices:
            grid = _cut(matrix, self._edge)
            diagonal += [grid[k : k + 1, k, :, :] for k in range(grid.shape[0])]
            below += [grid[k, :k, :, :] for k in range(grid.shape[0])]
        xp, tiles = array_namespace(*diagonal), TileLayout.of(layout, self._edge)
        squares = xp.concat(diagonal)
        squares = xp.tril(squares) + xp.tril(squares, k=-1).mT  # above the diagonal, `matrices` have no meaning
        return Tiles(tiles, self._tables(tiles, squares), xp.concat([squares, *below]))


def _cut(matrix: Array, edge: int) -> Array:
    """Cut a square matrix into tiles, shape (c, c, edge, edge), filled up with zeros."""
    xp, n = array_namespace(matrix), matrix.shape[0]
    count = -(-n // edge)
    kind, room = {"dtype": matrix.dtype, "device": matrix.device}, count * edge - n
    matrix = xp.concat([matrix, xp.zeros((n, room), **kind)], axis=1)
    matrix = xp.concat([matrix, xp.zeros((room, count * edge), **kind)])
    return xp.permute_dims(xp.reshape(matrix, (count, edge, count, edge)), (0, 2, 1, 3))
