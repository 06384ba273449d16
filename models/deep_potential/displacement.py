"""How the rows of the environment matrix change when atoms move, and forces from the derivatives of the rows."""

from collections.abc import Sequence

from ekfcore._typing import Array, Namespace
from ekfcore.protocols import Cotangent

from .environment import Environment, PairBlock

__all__ = ["collect_forces", "pair_force", "rows_tangent"]


def rows_tangent(xp: Namespace, block: PairBlock, moving: Sequence[Cotangent]) -> Array:
    """Return the change of the normalised rows, shape (m, n, K, 4), under the displacement of each functional.

    Forces are minus the derivative of the energy, so weights c of the forces displace the atoms by -c, and weights v of
    the virial displace the neighbours by -v^T r.
    """
    shape = block.unit.shape
    if not moving:
        return xp.zeros((0, *block.rows.shape), dtype=block.rows.dtype, device=block.rows.device)
    displacements = []
    for cotangent in moving:
        u = xp.zeros_like(block.unit)
        if "forces" in cotangent:
            c = cotangent["forces"]
            u = u + xp.reshape(xp.take(c, block.centre, axis=0) - xp.take(c, block.neighbour, axis=0), shape)
        if "virial" in cotangent:
            u = u - block.unit @ cotangent["virial"] * block.distance[..., None]
        displacements.append(u)
    u = xp.stack(displacements)  # changes of the pair vectors r_j - r_i
    # With e = r / |r|: d(s) = s' (u e), and d(s e) = s' (u e) e + s/r (u - (u e) e).
    along = _dot(u, block.unit)
    change = block.slope * along
    across = block.ratio[..., None] * (u - along[..., None] * block.unit)
    return xp.concat([change[..., None], change[..., None] * block.unit + across], axis=-1) * block.scale


def pair_force(xp: Namespace, block: PairBlock, rows_bar: Array, s_bar: Array) -> Array:
    """Return dE/dr of each pair vector, shape (n, K, 3), from dE/drows and the part of dE/ds through G."""
    # The transpose of the map in `rows_tangent`; `scale` undoes the normalisation of rows, and of s in G.
    radial = (rows_bar[..., 0] + s_bar) * block.scale[0]
    v = rows_bar[..., 1:] * block.scale[1:]
    along = _dot(v, block.unit)
    inward = block.slope * (radial + along) - block.ratio * along
    return inward[..., None] * block.unit + block.ratio[..., None] * v


def collect_forces(xp: Namespace, pair_forces: list[Array], sample: Environment) -> Array:
    """Sum dE/dr over the pairs that each atom belongs to: plus as the centre, minus as the neighbour."""
    table = xp.concat([*pair_forces, xp.zeros_like(pair_forces[0][:1, :])])  # the last row stands for "no slot"

    def gather(slots: Array) -> Array:
        rows = xp.take(table, xp.reshape(slots, (-1,)), axis=0)
        return xp.sum(xp.reshape(rows, (*slots.shape, 3)), axis=1)

    # F_i = -dE/dx_i, and r = x_j - x_i falls with x_i: dE/dr with a plus for the centre.
    return gather(sample.outgoing) - gather(sample.incoming)


def _dot(a: Array, b: Array) -> Array:
    """Return the products of vectors; a sum over an axis as short as this one costs NumPy three times as much."""
    products = a * b
    return products[..., 0] + products[..., 1] + products[..., 2]
