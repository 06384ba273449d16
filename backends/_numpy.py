"""NumPy kernels through SciPy's BLAS, which reads and writes one triangle only."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import get_blas_funcs

__all__ = ["NumpyBackend", "backend"]


class NumpyBackend:
    """Blocks as square matrices in column order of which only the lower triangle is kept up to date."""

    name = "numpy"

    def identity(self, n: int, value: float, *, like: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return `value` times the identity, shape (n, n)."""
        store = np.zeros((n, n), dtype=like.dtype, order="F")
        np.fill_diagonal(store, value)
        return store

    def multiply(self, store: NDArray[np.floating], H: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return H Q, shape (m, n)."""
        symv = get_blas_funcs("symv", dtype=store.dtype)
        # One symv a row: symm reaches its speed only for many more rows than a frame has measurements.
        return np.asarray([symv(1.0, store, h, lower=1) for h in H], dtype=H.dtype).reshape(H.shape)

    def fold(
        self,
        store: NDArray[np.floating],
        V: NDArray[np.floating],
        scale: NDArray[np.floating],
        shift: NDArray[np.floating],
        *,
        donate: bool,
    ) -> NDArray[np.floating]:
        """Return scale (Q + shift I - V^T V)."""
        Q = store if donate else store.copy(order="F")
        if shift:
            Q[np.diag_indices_from(Q)] += shift
        syrk = get_blas_funcs("syrk", dtype=store.dtype)
        folded: NDArray[np.floating] = syrk(-scale, V.T, beta=scale, c=Q, lower=1, overwrite_c=1)
        return folded

    def trace(self, store: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the trace of Q."""
        return np.asarray(np.trace(store))

    def lower(self, store: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return Q, whose upper triangle has no meaning."""
        return store

    def from_lower(self, matrix: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return `matrix` in column order."""
        return np.asfortranarray(matrix)


backend = NumpyBackend()
