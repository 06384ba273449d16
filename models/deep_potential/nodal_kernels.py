"""Kernels of the nodal embedding, found by the library of the arrays."""

from importlib import import_module
from typing import Protocol, cast

from array_api_compat import is_cupy_namespace, is_jax_namespace, is_numpy_namespace, is_torch_namespace

from ekfcore._typing import Array, Namespace

from .nodal_environment import NodalGroup

__all__ = ["NodalKernels", "find_kernels"]


class NodalKernels(Protocol):
    """What of the nodal embedding loops over neighbours or over atoms."""

    def forces(self, group: NodalGroup, C: Array, spacing: float, n_atoms: int) -> tuple[Array, Array]:
        """Return the group's part of the forces, shape (N, 3), and virial, (3, 3), from C = dE/dB, shape (n, 4, K)."""

    def tangent(self, group: NodalGroup, moves: Array, strains: Array, spacing: float) -> Array:
        """Return the change of B, shape (m, n, 4, K), under m displacements.

        `moves`, shape (m, N, 3), are weights of the forces and displace the atoms by minus that; `strains`, shape
        (m, 3, 3), are weights v of the virial and displace a neighbour by -v^T r.
        """

    def descriptor(self, A: Array, axis: int) -> Array:
        """Return D, shape (n, M, axis), for `A` of shape (n, 4, M)."""

    def descriptor_tangent(self, A: Array, Adot: Array, axis: int) -> Array:
        """Return the changes of D, shape (m, n, M, axis), for the changes `Adot` of A."""

    def descriptor_reverse(self, Dbar: Array, A: Array) -> Array:
        """Return the gradient with respect to A, shape (n, 4, M), of the sum of `Dbar` times D."""

    def descriptor_reverse_tangent(self, Dbar: Array, A: Array, Dbars: Array, Adot: Array) -> Array:
        """Return the gradients with respect to A, shape (m, n, 4, M), of `Dbars` times D plus `Dbar` times Ddot."""


def find_kernels(xp: Namespace) -> NodalKernels | None:
    """Return the fastest kernels for arrays of the library `xp`, or None if none can do it.

    The Array API cannot add to repeated places of an array, so a library that is not known here has no kernels.
    """
    if is_numpy_namespace(xp):
        try:
            return cast(NodalKernels, import_module("ekfcore.models.deep_potential._nodal_numba").kernels)
        except ImportError:
            pass
    if is_cupy_namespace(xp):
        return cast(NodalKernels, import_module("ekfcore.models.deep_potential._nodal_cupy").kernels)
    if any(known(xp) for known in (is_numpy_namespace, is_torch_namespace, is_jax_namespace)):
        return cast(NodalKernels, import_module("ekfcore.models.deep_potential._nodal_generic").kernels)
    return None
