"""Numba kernels of the nodal embedding: what loops over the neighbours.

The interpolation weights of a neighbour are recomputed from its place between two nodes, eight polynomials at once,
which costs less than to read them from memory.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ekfcore.compiling.jit import jit

from ._nodal_generic import GenericKernels
from .nodal_environment import NodalGroup
from .stencil import COEFFICIENTS, ORDER

__all__ = ["NumbaKernels", "kernels"]

_Array = NDArray[np.floating]


class NumbaKernels(GenericKernels):
    """See `NodalKernels`; what is not here, NumPy's matrix products do faster."""

    def forces(self, group: NodalGroup, C: _Array, spacing: float, n_atoms: int) -> tuple[_Array, _Array]:
        """Return the part of the forces, shape (N, 3), and of the virial, (3, 3), from dE/dB, shape (n, 4, K)."""
        out = np.zeros((n_atoms, 3), dtype=C.dtype)
        virial = np.zeros((3, 3), dtype=C.dtype)
        c = COEFFICIENTS.astype(C.dtype, copy=False)
        _forces(group.geometry, group.index, group.mean, group.scale, c, C.dtype.type(1 / spacing), C, out, virial)
        return out, virial

    def tangent(self, group: NodalGroup, moves: _Array, strains: _Array, spacing: float) -> _Array:
        """Return the change of B, shape (m, n, 4, K)."""
        out = np.zeros((len(moves), *group.B.shape), dtype=moves.dtype)
        c = COEFFICIENTS.astype(moves.dtype, copy=False)
        inverse = moves.dtype.type(1 / spacing)
        _tangent(group.geometry, group.index, group.mean, group.scale, c, inverse, moves, strains, out)
        return out

    def descriptor(self, A: _Array, axis: int) -> _Array:
        """Return D, shape (n, M, axis), for `A` of shape (n, 4, M)."""
        out = np.zeros((len(A), A.shape[2], axis), dtype=A.dtype)
        _add_products(A, A, out)
        return out

    def descriptor_tangent(self, A: _Array, Adot: _Array, axis: int) -> _Array:
        """Return the changes of D, shape (m, n, M, axis), for the changes `Adot` of A."""
        out = np.zeros((*Adot.shape[:2], A.shape[2], axis), dtype=A.dtype)
        for change, D in zip(Adot, out, strict=True):
            _add_products(change, A, D)
            _add_products(A, change, D)
        return out


kernels = NumbaKernels()


@njit(inline="always")
def _weight(c, u, q):  # type: ignore[no-untyped-def]
    """Return polynomial q and its slope at u = t - 1/2; written out, so that a loop over q is one of vectors."""
    # Horner for value and slope together: w' <- w' u + w before w <- w u + c.
    w = c[7, q] * u + c[6, q]
    dw = c[7, q] * u + w
    w = w * u + c[5, q]
    dw = dw * u + w
    w = w * u + c[4, q]
    dw = dw * u + w
    w = w * u + c[3, q]
    dw = dw * u + w
    w = w * u + c[2, q]
    dw = dw * u + w
    w = w * u + c[1, q]
    dw = dw * u + w
    return w * u + c[0, q], dw


@njit(inline="always")
def _row(pair, mean, scale):  # type: ignore[no-untyped-def]
    """Return the normalised row of the environment matrix."""
    s = pair[4]
    return (
        (s - mean[0]) * scale[0],
        (s * pair[0] - mean[1]) * scale[1],
        (s * pair[1] - mean[2]) * scale[2],
        (s * pair[2] - mean[3]) * scale[3],
    )


@njit(inline="always")
def _nodes(table, first):  # type: ignore[no-untyped-def]
    """Return the nodes of a pair in each row of `table`, shape (4, K), as vectors that Numba sees as contiguous."""
    last = first + ORDER
    return table[0, first:last], table[1, first:last], table[2, first:last], table[3, first:last]


@jit
def _forces(geometry, index, mean, scale, c, inverse, C, out, virial):  # type: ignore[no-untyped-def]
    zero, half = C.dtype.type(0), C.dtype.type(0.5)
    f = np.empty(3, C.dtype)
    for p in range(geometry.shape[0]):
        pair = geometry[p]
        row0, row1, row2, row3 = _row(pair, mean, scale)
        C0, C1, C2, C3 = _nodes(C[index[p, 0]], index[p, 3])
        bar0, bar1, bar2, bar3, slope_bar = zero, zero, zero, zero, zero
        for q in range(ORDER):
            w, dw = _weight(c, pair[6] - half, q)
            bar0 += w * C0[q]
            bar1 += w * C1[q]
            bar2 += w * C2[q]
            bar3 += w * C3[q]
            slope_bar += dw * (row0 * C0[q] + row1 * C1[q] + row2 * C2[q] + row3 * C3[q])
        f[0], f[1], f[2] = bar1 * scale[1], bar2 * scale[2], bar3 * scale[3]
        along = f[0] * pair[0] + f[1] * pair[1] + f[2] * pair[2]
        # As `pair_force`; `inverse` = 1/h turns a slope in t into one in s.
        ratio = pair[4] / pair[3]
        inward = pair[5] * (bar0 * scale[0] + inverse * slope_bar + along) - ratio * along
        for k in range(3):
            f[k] = inward * pair[k] + ratio * f[k]
            out[index[p, 1], k] += f[k]
            out[index[p, 2], k] -= f[k]
        for k in range(3):
            for n in range(3):
                virial[k, n] -= pair[3] * pair[k] * f[n]  # -sum r (dE/dr)^T


@jit
def _tangent(geometry, index, mean, scale, c, inverse, moves, strains, out):  # type: ignore[no-untyped-def]
    half = out.dtype.type(0.5)
    u = np.empty(3, out.dtype)
    for m in range(out.shape[0]):
        strain = strains[m]
        strained = np.any(strain != 0)
        # A group of forces moves few atoms; a pair of which neither moves changes nothing.
        still = np.empty(moves.shape[1], np.bool_)
        for i in range(moves.shape[1]):
            still[i] = not strained and moves[m, i, 0] == 0 and moves[m, i, 1] == 0 and moves[m, i, 2] == 0
        for p in range(geometry.shape[0]):
            i, j = index[p, 1], index[p, 2]
            if still[i] and still[j]:
                continue
            pair = geometry[p]
            for k in range(3):
                shift = pair[0] * strain[0, k] + pair[1] * strain[1, k] + pair[2] * strain[2, k]
                u[k] = moves[m, i, k] - moves[m, j, k] - pair[3] * shift
            along = u[0] * pair[0] + u[1] * pair[1] + u[2] * pair[2]
            # As `rows_tangent`, for one pair.
            sdot, ratio = pair[5] * along, pair[4] / pair[3]
            row0, row1, row2, row3 = _row(pair, mean, scale)
            change0 = sdot * scale[0]
            change1 = (sdot * pair[0] + ratio * (u[0] - along * pair[0])) * scale[1]
            change2 = (sdot * pair[1] + ratio * (u[1] - along * pair[1])) * scale[2]
            change3 = (sdot * pair[2] + ratio * (u[2] - along * pair[2])) * scale[3]
            B0, B1, B2, B3 = _nodes(out[m, index[p, 0]], index[p, 3])
            for q in range(ORDER):
                w, dw = _weight(c, pair[6] - half, q)
                steeper = dw * sdot * inverse
                B0[q] += w * change0 + steeper * row0
                B1[q] += w * change1 + steeper * row1
                B2[q] += w * change2 + steeper * row2
                B3[q] += w * change3 + steeper * row3


@jit
def _add_products(left, right, D):  # type: ignore[no-untyped-def]
    for n in range(D.shape[0]):
        right0, right1, right2, right3 = right[n, 0], right[n, 1], right[n, 2], right[n, 3]
        for i in range(D.shape[1]):
            left0, left1, left2, left3 = left[n, 0, i], left[n, 1, i], left[n, 2, i], left[n, 3, i]
            row = D[n, i]
            for j in range(D.shape[2]):
                row[j] += left0 * right0[j] + left1 * right1[j] + left2 * right2[j] + left3 * right3[j]
