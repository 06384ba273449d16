"""The descriptor D = A^T A_< of each atom from its matrix A, shape (4, M), and its derivatives."""

from array_api_compat import array_namespace

from ekfcore._typing import Array

__all__ = ["descriptor", "descriptor_reverse", "descriptor_tangent"]


def descriptor(A: Array, axis: int) -> Array:
    """Return D, shape (..., M, axis), for `A` of shape (..., 4, M)."""
    return A.mT @ A[..., :axis]


def descriptor_tangent(A: Array, Adot: Array, axis: int) -> Array:
    """Return the change of D, shape (..., M, axis), for the change `Adot` of A."""
    return Adot.mT @ A[..., :axis] + A.mT @ Adot[..., :axis]


def descriptor_reverse(Dbar: Array, A: Array) -> Array:
    """Return the gradient with respect to A, shape (..., 4, M), of the sum of `Dbar`, (..., M, axis), times D."""
    xp, axis = array_namespace(A), Dbar.shape[-1]
    wide, narrow = A[..., :axis] @ Dbar.mT, A @ Dbar
    return xp.concat([wide[..., :axis] + narrow, wide[..., axis:]], axis=-1)
