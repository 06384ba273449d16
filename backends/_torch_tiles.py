"""Kernels for tensors of PyTorch on a GPU: one batched product for the tiles of all blocks."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._device_tiles import TileBackend, TileLayout, Tiles

__all__ = ["TorchTiles"]


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """A layout on the device; see `TileLayout`."""

    row: Tensor  # (T,)
    column: Tensor  # (T,)
    block: Tensor  # (C,)
    member: Tensor  # (L, C), one where a chunk belongs to a block
    inside: Tensor  # (C, edge), one where a place has a weight
    weight: Tensor  # (C edge,), the weight of a place
    place: Tensor  # (n,), the place of a weight
    terms: Tensor  # (C width,), the products that add up to a chunk


class TorchTiles(TileBackend):
    """Blocks as square tiles, multiplied in one batch; sums are taken in a fixed order, so results can be repeated.

    Parameters
    ----------
    edge : int
        Rows and columns of a tile.
    """

    def __init__(self, *, edge: int) -> None:
        super().__init__("torch", edge=edge)

    def multiply(self, store: Tiles, H: Tensor, V: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return H P, shape (m, n)."""
        tables, numbers, chunks = store.tables, store.numbers, self._chunks(store, H)
        count, m, edge = chunks.shape
        # G_row += H_column tile^T and, for the mirror image of a tile below the diagonal, G_column += H_row tile.
        rows = torch.bmm(chunks[tables.column], numbers.mT)
        columns = torch.bmm(chunks[tables.row[count:]], numbers[count:])
        products = torch.cat([rows, columns, chunks.new_zeros((1, m, edge))])
        width = tables.terms.shape[0] // count
        # Gathered in a fixed order: `index_add_` on a GPU adds in whatever order its threads come.
        G = products[tables.terms].reshape(count, width, m, edge).sum(dim=1)
        G += self._each(store, shift) * chunks
        if V.shape[0]:
            pending = self._chunks(store, V)
            # H_l V_l^T of a chunk's whole block, summed over its chunks, then times the chunk of V.
            G -= torch.bmm(self._sums(store, torch.bmm(chunks, pending.mT))[tables.block], pending)
        return self._flat(store, G * self._each(store, scale))

    def fold(self, store: Tiles, V: Tensor, scale: Tensor, shift: Tensor, *, donate: bool) -> Tiles:
        """Return the store of P."""
        tables, pending, count = store.tables, self._chunks(store, V), store.layout.n_chunks
        numbers = store.numbers if donate else store.numbers.clone()
        diagonal = numbers[:count]  # a view, as the next one is: both write into `numbers`
        diagonal.diagonal(dim1=1, dim2=2).add_(shift[tables.block][:, None] * tables.inside)
        numbers.baddbmm_(pending[tables.row].mT, pending[tables.column], alpha=-1)
        numbers.mul_(scale[tables.block[tables.row]][:, None, None])
        # A matrix product need not round V^T V symmetrically.
        diagonal.copy_(diagonal.tril() + diagonal.tril(-1).mT)
        return Tiles(store.layout, tables, numbers)

    def traces(self, store: Tiles) -> Tensor:
        """Return the trace of each block of Q, shape (L,)."""
        diagonal = store.numbers[: store.layout.n_chunks].diagonal(dim1=1, dim2=2)
        return self._sums(store, diagonal.sum(dim=1))

    def block_sums(self, store: Tiles, A: Tensor) -> Tensor:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        return self._sums(store, self._chunks(store, A).sum(dim=2)).T

    def spread(self, store: Tiles, values: Tensor) -> Tensor:
        """Return the vector that has in each block the number of `values` for it, shape (n,)."""
        return values[store.tables.block][:, None].expand(-1, self._edge).reshape(-1)[store.tables.place]

    def _tables(self, layout: TileLayout, like: Tensor) -> _Tables:
        weight, n = layout.weight, layout.blocks.n_params
        member = np.arange(len(layout.blocks.sizes))[:, None] == layout.block
        indices = (layout.row, layout.column, layout.block)
        row, column, block = (torch.as_tensor(index, dtype=torch.int64, device=like.device) for index in indices)
        return _Tables(
            row=row,
            column=column,
            block=block,
            member=torch.as_tensor(member, dtype=like.dtype, device=like.device),
            inside=torch.as_tensor(weight < n, dtype=like.dtype, device=like.device),
            weight=torch.as_tensor(weight.ravel(), dtype=torch.int64, device=like.device),
            place=torch.as_tensor(np.flatnonzero(weight < n), device=like.device),
            terms=torch.as_tensor(_terms(layout).ravel(), device=like.device),
        )

    def _chunks(self, store: Tiles, A: Tensor) -> Tensor:
        """Return the chunks of the rows of `A`, shape (m, n), filled up with zeros, shape (C, m, edge)."""
        # A column of zeros behind A, number n, fills the places behind the end of a block.
        places = torch.nn.functional.pad(A, (0, 1))[:, store.tables.weight]
        return places.reshape(A.shape[0], store.layout.n_chunks, self._edge).permute(1, 0, 2)

    def _flat(self, store: Tiles, chunks: Tensor) -> Tensor:
        """Undo `_chunks`."""
        count, m, edge = chunks.shape
        return chunks.permute(1, 0, 2).reshape(m, count * edge)[:, store.tables.place]

    def _each(self, store: Tiles, values: Tensor) -> Tensor:
        """Return for each chunk the number of its block, shape (C, 1, 1)."""
        return values[store.tables.block][:, None, None]

    def _sums(self, store: Tiles, values: Tensor) -> Tensor:
        """Return sums over the chunks of each block, shape (L, ...), of `values`, shape (C, ...)."""
        # A product with the (L, C) table of members, in place of a scatter.
        sums: Tensor = torch.tensordot(store.tables.member, values, dims=1)
        return sums


def _terms(layout: TileLayout) -> NDArray[np.int64]:
    """Return for each chunk the products that add up to it, shape (C, width).

    Of T tiles there are T products that give their row, and then those of the tiles below the diagonal that give their
    column. The number behind the last one stands for "none".
    """
    count = layout.n_chunks
    owner = np.concat([layout.row, layout.column[count:]])
    order = np.argsort(owner, kind="stable")  # products of a chunk stay in the order of the tiles
    counts = np.bincount(owner, minlength=count)
    # How many products of the same chunk come before each.
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((count, counts.max()), len(owner))
    table[owner[order], rank] = order
    return table
