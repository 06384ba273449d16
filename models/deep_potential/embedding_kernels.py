"""Evaluation of the exact embedding nets, found by the library of the arrays and the activation."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from array_api_compat import is_numpy_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.models._network import NetworkShape

from ._embedding_generic import WholeEmbedding
from .environment import PairBlock

__all__ = ["Embedding", "EmbeddingKernels", "find_embedding", "whole_arrays"]

# Neighbours that are worked through at once on whole arrays of NumPy: few enough that a dozen arrays of them stay in
# the second-level cache, and enough that the calls cost little.
_ROWS = 640


class Embedding(Protocol):
    """The embedding nets of the neighbours of one type around n atoms, evaluated.

    Parameters
    ----------
    A : array, shape (n, 4, M)
        Sum over the neighbours of R^T G.
    """

    A: Array

    def slopes(self, Abar: Array) -> tuple[Array, Array]:
        """Return dE/dR, shape (n, K, 4), and the part of dE/ds through G, (n, K), from dE/dA."""

    def tangent(self, changes: Array) -> Array:
        """Return the changes of A, shape (m, n, 4, M), from those of R, (m, n, K, 4)."""

    def gradients(self, Abar: Array, Abars: Array, changes: Array) -> Array:
        """Return weight gradients, shape (k, n_params).

        The first m are those of the sum of `Abars` times A plus `Abar`, shape (n, 4, M), times the changes of A; the
        others, for which R does not change, those of `Abars`, shape (k, n, 4, M), times A.
        """


@dataclass(frozen=True, slots=True)
class EmbeddingKernels:
    """How embedding nets are evaluated.

    Parameters
    ----------
    evaluate : callable
        Evaluates a net with the weights w on a block of neighbours.
    rows : int or None
        The most neighbours of one type in a group of atoms.
    """

    evaluate: Callable[[NetworkShape, Array, PairBlock], Embedding]
    rows: int | None


def whole_arrays(xp: Namespace) -> EmbeddingKernels:
    """Return the evaluation on whole arrays."""
    return EmbeddingKernels(WholeEmbedding, _ROWS if is_numpy_namespace(xp) else None)


def find_embedding(xp: Namespace, activation: str) -> EmbeddingKernels:
    """Return the fastest evaluation for arrays of the library `xp` and an activation.

    That is Numba's for NumPy and tanh where Numba is installed, and the one on whole arrays for everything else.
    """
    if is_numpy_namespace(xp) and activation == "tanh":
        try:
            compiled = import_module("ekfcore.models.deep_potential._embedding_numba")
            return EmbeddingKernels(compiled.FusedEmbedding, None)
        except ImportError:
            pass
    return whole_arrays(xp)
