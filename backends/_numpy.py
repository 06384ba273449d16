"""NumPy kernels through SciPy's BLAS, which reads and writes one triangle only."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import get_blas_funcs

from ._blockwise import BlockwiseBackend

__all__ = ["NumpyBackend", "backend"]

_MOST_VECTORS = 12  # for more rows than that, a matrix product is faster than one product with a vector a row


class NumpyBackend(BlockwiseBackend):
    """Blocks as square matrices in column order of which only the lower triangle is kept up to date."""

    def _square(self, matrix: NDArray[np.floating]) -> NDArray[np.floating]:
        return np.asfortranarray(matrix)  # BLAS reads columns; f2py would copy any other order at every call

    def _product(self, Q: NDArray[np.floating], H: NDArray[np.floating]) -> NDArray[np.floating]:
        if len(H) > _MOST_VECTORS:
            symm = get_blas_funcs("symm", dtype=Q.dtype)
            # Q H^T = (H Q)^T, since Q is symmetric.
            product: NDArray[np.floating] = symm(1.0, Q, H.T, lower=1).T
            return product
        symv = get_blas_funcs("symv", dtype=Q.dtype)
        return np.asarray([symv(1.0, Q, h, lower=1) for h in H], dtype=H.dtype).reshape(H.shape)

    def _folded(
        self,
        Q: NDArray[np.floating],
        V: NDArray[np.floating],
        scale: NDArray[np.floating],
        shift: NDArray[np.floating],
        *,
        donate: bool,
    ) -> NDArray[np.floating]:
        Q = Q if donate else Q.copy(order="F")
        if shift:
            Q[np.diag_indices_from(Q)] += shift
        syrk = get_blas_funcs("syrk", dtype=Q.dtype)
        # s Q - s V^T V, into the memory of Q.
        folded: NDArray[np.floating] = syrk(-scale, V.T, beta=scale, c=Q, lower=1, overwrite_c=1)
        return folded


backend = NumpyBackend("numpy")
