"""Kernels for tensors of PyTorch: on the CPU those for NumPy's arrays, elsewhere batched products of tiles.

PyTorch has no product with a symmetric matrix that reads one triangle only. The kernels for NumPy's arrays do, and on
the CPU a tensor can be looked at as such an array without a copy.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend
from ekfcore.registry import get_backend

from ._torch_tiles import TorchTiles

__all__ = ["TorchBackend", "backend"]


@dataclass(frozen=True, slots=True, eq=False)
class _Store:
    """A store and the kernels that it belongs to, which take NumPy's arrays if it lies `on_host`."""

    kernels: Backend
    on_host: bool
    inner: Any


class TorchBackend:
    """Chooses the kernels by the device of the tensors."""

    name = "torch"

    def store_size(self, layout: BlockLayout, *, like: Tensor) -> int:
        """Return how many numbers a store holds."""
        kernels, on_host = _choose(like)
        return kernels.store_size(layout, like=_enter(on_host, like)[0])

    def identity(self, layout: BlockLayout, value: float, *, like: Tensor) -> _Store:
        """Return the store of `value` times the identity."""
        kernels, on_host = _choose(like)
        (like,) = _enter(on_host, like)
        return _Store(kernels, on_host, kernels.identity(layout, value, like=like))

    def multiply(self, store: _Store, H: Tensor, V: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return H P, shape (m, n)."""
        return _leave(store.kernels.multiply(store.inner, *_enter(store.on_host, H, V, scale, shift)))

    def correlate(self, H: Tensor, V: Tensor) -> Tensor:
        """Return (H V^T) V, shape (m, n)."""
        kernels, on_host = _choose(H)
        return _leave(kernels.correlate(*_enter(on_host, H, V)))

    def fold(self, store: _Store, V: Tensor, scale: Tensor, shift: Tensor, *, donate: bool) -> _Store:
        """Return the store of P."""
        inner = store.kernels.fold(store.inner, *_enter(store.on_host, V, scale, shift), donate=donate)
        return _Store(store.kernels, store.on_host, inner)

    def traces(self, store: _Store) -> Tensor:
        """Return the trace of each block of Q, shape (L,)."""
        return _leave(store.kernels.traces(store.inner))

    def block_sums(self, store: _Store, A: Tensor) -> Tensor:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        return _leave(store.kernels.block_sums(store.inner, *_enter(store.on_host, A)))

    def spread(self, store: _Store, values: Tensor) -> Tensor:
        """Return the vector that has in each block the number of `values` for it, shape (n,)."""
        return _leave(store.kernels.spread(store.inner, *_enter(store.on_host, values)))

    def lower(self, store: _Store, index: int) -> Tensor:
        """Return Q_l; its upper triangle may have no meaning."""
        return _leave(store.kernels.lower(store.inner, index))

    def from_lower(self, layout: BlockLayout, matrices: Iterable[Tensor]) -> _Store:
        """Return the store of the blocks with these lower triangles."""
        first, *others = matrices
        kernels, on_host = _choose(first)
        return _Store(kernels, on_host, kernels.from_lower(layout, _enter(on_host, first, *others)))


def _choose(like: Tensor) -> tuple[Backend, bool]:
    """Return the kernels for tensors like this one, and whether they take NumPy's arrays."""
    if like.device.type == "cpu":
        return get_backend(None, like=np.empty(0)), True
    return TorchTiles(edge=128), False


def _enter(on_host: bool, *tensors: Tensor) -> list[Any]:
    return [tensor.numpy() for tensor in tensors] if on_host else list(tensors)


def _leave(result: Any) -> Tensor:
    return torch.from_numpy(result) if isinstance(result, np.ndarray) else result


backend = TorchBackend()
