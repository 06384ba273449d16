"""Kernels of the nodal embedding on whole arrays, for any library that can add to repeated places."""

from array_api_compat import array_namespace, is_jax_namespace, is_torch_namespace

from ekfcore._typing import Array, Namespace

from .descriptor import descriptor, descriptor_reverse, descriptor_tangent
from .nodal_environment import NodalGroup
from .stencil import COEFFICIENTS, ORDER

__all__ = ["GenericKernels", "kernels"]


class GenericKernels:
    """See `NodalKernels`."""

    def forces(self, group: NodalGroup, C: Array, spacing: float, n_atoms: int) -> tuple[Array, Array]:
        """Return the group's part of the forces and of the virial."""
        xp = array_namespace(C)
        unit, r, s, slope, weights, slopes = _unpack(xp, group, spacing)
        at = xp.reshape(xp.take(xp.reshape(C, (-1,)), xp.reshape(_places(xp, group), (-1,)), axis=0), (-1, 4, ORDER))
        rows_bar = xp.sum(at * weights[:, None, :], axis=-1) * group.scale
        s_bar = xp.sum(xp.sum(at * slopes[:, None, :], axis=-1) * _rows(xp, group, unit, s), axis=-1)
        v = rows_bar[:, 1:]  # from here on as `pair_force`
        along = xp.sum(v * unit, axis=-1)
        ratio = s / r
        inward = slope * (rows_bar[:, 0] + s_bar + along) - ratio * along
        f = inward[:, None] * unit + ratio[:, None] * v
        out = xp.zeros((n_atoms, 3), dtype=C.dtype, device=C.device)
        out = _add_at(xp, _add_at(xp, out, group.index[:, 1], f), group.index[:, 2], -f)
        return out, -((unit * r[:, None]).T @ f)

    def tangent(self, group: NodalGroup, moves: Array, strains: Array, spacing: float) -> Array:
        """Return the change of B."""
        xp = array_namespace(moves)
        unit, r, s, slope, weights, slopes = _unpack(xp, group, spacing)
        u = xp.take(moves, group.index[:, 1], axis=1) - xp.take(moves, group.index[:, 2], axis=1)
        u = u - (unit * r[:, None]) @ strains
        along = xp.sum(u * unit, axis=-1)
        sdot = slope * along
        across = (s / r)[:, None] * (u - along[..., None] * unit)
        change = xp.concat([sdot[..., None], sdot[..., None] * unit + across], axis=-1) * group.scale
        steeper = _rows(xp, group, unit, s) * sdot[..., None]
        values = weights[:, None, :] * change[..., None] + slopes[:, None, :] * steeper[..., None]
        m, (n, _, width) = moves.shape[0], group.B.shape
        out = xp.zeros((n * 4 * width, m), dtype=moves.dtype, device=moves.device)
        places = xp.reshape(_places(xp, group), (-1,))
        return xp.reshape(_add_at(xp, out, places, xp.reshape(values, (m, -1)).T).T, (m, n, 4, width))

    def descriptor_reverse_tangent(self, Dbar: Array, A: Array, Dbars: Array, Adot: Array) -> Array:
        """Return the gradients with respect to A of both."""
        return descriptor_reverse(Dbars, A) + descriptor_reverse(Dbar, Adot)

    def descriptor(self, A: Array, axis: int) -> Array:
        """Return the descriptors."""
        return descriptor(A, axis)

    def descriptor_tangent(self, A: Array, Adot: Array, axis: int) -> Array:
        """Return their changes."""
        return descriptor_tangent(A, Adot, axis)

    def descriptor_reverse(self, Dbar: Array, A: Array) -> Array:
        """Return the gradient with respect to A."""
        return descriptor_reverse(Dbar, A)


kernels = GenericKernels()


def _unpack(xp: Namespace, group: NodalGroup, spacing: float) -> tuple[Array, ...]:
    """Return unit vectors, r, s, ds/dr, and the weights of the nodes with their slopes in s, shape (P, ORDER)."""
    geometry = group.geometry
    u = geometry[:, 6:7] - 0.5
    c = xp.asarray(COEFFICIENTS, dtype=geometry.dtype, device=geometry.device)
    weights, slopes = c[-1, :] + xp.zeros_like(u), xp.zeros_like(u)
    for d in range(ORDER - 2, -1, -1):  # Horner for value and slope together
        slopes = slopes * u + weights
        weights = weights * u + c[d, :]
    return geometry[:, :3], geometry[:, 3], geometry[:, 4], geometry[:, 5], weights, slopes / spacing


def _rows(xp: Namespace, group: NodalGroup, unit: Array, s: Array) -> Array:
    """Return the normalised rows of the environment matrix, shape (P, 4)."""
    return (xp.concat([s[:, None], s[:, None] * unit], axis=1) - group.mean) * group.scale


def _places(xp: Namespace, group: NodalGroup) -> Array:
    """Return where in B, flattened, the nodes of each pair stand, shape (P, 4, ORDER)."""
    width = group.B.shape[2]
    index = xp.astype(group.index, xp.int64)
    rows = index[:, 0:1] * 4 + xp.arange(4, dtype=xp.int64, device=index.device)
    first = rows * width + index[:, 3:4]
    return first[..., None] + xp.arange(ORDER, dtype=xp.int64, device=index.device)


def _add_at(xp: Namespace, out: Array, places: Array, values: Array) -> Array:
    """Return `out` with `values` added to the rows `places`, which may repeat."""
    if is_torch_namespace(xp):
        return out.index_add(0, places, values)
    if is_jax_namespace(xp):
        return out.at[places].add(values)
    xp.add.at(out, places, values)
    return out
