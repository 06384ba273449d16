"""Reference kernels in pure Array API code; they work with any library that conforms."""

from array_api_compat import array_namespace

from ekfcore._typing import Array

__all__ = ["GenericBackend", "backend"]


class GenericBackend:
    """Blocks as full square matrices of the caller's array library.

    Parameters
    ----------
    name : str
        Name under which the kernels are chosen.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def name(self) -> str:
        """Name under which the kernels are chosen."""
        return self._name

    def identity(self, n: int, value: float, *, like: Array) -> Array:
        """Return `value` times the identity, shape (n, n)."""
        return array_namespace(like).eye(n, dtype=like.dtype, device=like.device) * value

    def multiply(self, store: Array, H: Array) -> Array:
        """Return H Q, shape (m, n)."""
        return H @ store

    def fold(self, store: Array, V: Array, scale: Array, shift: Array, *, donate: bool) -> Array:
        """Return scale (Q + shift I - V^T V), always as a new array."""
        eye = self.identity(store.shape[0], 1.0, like=store)
        # Mirrored, because a matrix product need not round V^T V symmetrically (torch's does not).
        return self.from_lower(scale * (store + shift * eye - V.T @ V))

    def trace(self, store: Array) -> Array:
        """Return the trace of Q."""
        return array_namespace(store).linalg.trace(store)

    def lower(self, store: Array) -> Array:
        """Return Q itself."""
        return store

    def from_lower(self, matrix: Array) -> Array:
        """Return the symmetric matrix with the lower triangle of `matrix`."""
        xp = array_namespace(matrix)
        return xp.tril(matrix) + xp.tril(matrix, k=-1).T


backend = GenericBackend("generic")
