"""Reference kernels in pure Array API code; they work with any library that conforms."""

from array_api_compat import array_namespace, device

from ekfcore._typing import Array

from ._blockwise import BlockwiseBackend

__all__ = ["GenericBackend", "backend"]


class GenericBackend(BlockwiseBackend):
    """Blocks as full square matrices of the caller's array library."""

    def _square(self, matrix: Array) -> Array:
        xp = array_namespace(matrix)
        return xp.tril(matrix) + xp.tril(matrix, k=-1).T

    def _product(self, Q: Array, H: Array) -> Array:
        return H @ Q

    def _folded(self, Q: Array, V: Array, scale: Array, shift: Array, *, donate: bool) -> Array:
        """Return a new array, whatever `donate` says."""
        eye = array_namespace(Q).eye(Q.shape[0], dtype=Q.dtype, device=device(Q))
        # `_square` mirrors the lower triangle: a matrix product need not round V^T V symmetrically (torch's does not).
        return self._square(scale * (Q + shift * eye - V.T @ V))


backend = GenericBackend("generic")
