"""The embedding nets where an atom has more neighbours than the capacity of the model.

The descriptor sums over N slots, of which the empty ones count as well: with a row of zeros, which the
normalisation has moved away from zero. With n neighbours of a type and the capacity c that is

    A = 1/N [sum over neighbours of R^T G + (c - n) R_0^T G(R_0)],

which does not end at n = c: beyond, what an empty slot would give is taken off. A neighbour at the cutoff has the row
R_0, so it comes in without a step, whatever c is. Arrays have K > c slots then, and the K - c that are too many are
taken off for all atoms alike.
"""

from dataclasses import replace

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.models._network import NetworkShape

from .embedding_kernels import Embedding, EmbeddingKernels
from .environment import PairBlock

__all__ = ["evaluate_embedding"]


def evaluate_embedding(kernels: EmbeddingKernels, net: NetworkShape, w: Array, block: PairBlock) -> Embedding:
    """Evaluate a net on a block of neighbours, less the slots that are too many.

    Parameters
    ----------
    kernels : EmbeddingKernels
        How the net is evaluated.
    net : NetworkShape
        Its form.
    w : array, shape (n_params,)
        Its weights.
    block : PairBlock
        The neighbours.
    """
    embedding = kernels.evaluate(net, w, block)
    if block.surplus == 0:
        return embedding
    empty = kernels.evaluate(net, w, replace(block, rows=block.empty[None, None, :]))
    return _LessEmpty(embedding, empty, block.surplus)


class _LessEmpty:
    """An embedding of which the same is taken off for every atom; what is taken off does not move with the atoms."""

    def __init__(self, embedding: Embedding, empty: Embedding, count: int) -> None:
        self.embedding, self.empty, self.count = embedding, empty, count
        self.A = embedding.A - count * empty.A

    def slopes(self, Abar: Array) -> tuple[Array, Array]:
        return self.embedding.slopes(Abar)

    def tangent(self, changes: Array) -> Array:
        return self.embedding.tangent(changes)

    def gradients(self, Abar: Array, Abars: Array, changes: Array) -> Array:
        xp = array_namespace(Abars)
        total = xp.sum(Abars, axis=1, keepdims=True)
        empty = self.empty.gradients(Abar[:1, ...], total, changes[:0, :1, :1, :])
        return self.embedding.gradients(Abar, Abars, changes) - self.count * empty
