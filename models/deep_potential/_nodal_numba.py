"""Numba kernels of the nodal embedding: what loops over the neighbours.

The interpolation weights of a neighbour are recomputed from its place between two nodes, eight polynomials at once,
which costs less than to read them from memory.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from .nodal_environment import NodalGroup
from .stencil import COEFFICIENTS, ORDER

__all__ = ["forces", "tangent"]

_Array = NDArray[np.floating]


def forces(group: NodalGroup, C: _Array, spacing: float, n_atoms: int) -> tuple[_Array, _Array]:
    """Return the group's part of the forces, shape (N, 3), and of the virial, (3, 3), from dE/dB, shape (n, 4, K)."""
    out = np.zeros((n_atoms, 3), dtype=C.dtype)
    virial = np.zeros((3, 3), dtype=C.dtype)
    c = COEFFICIENTS.astype(C.dtype, copy=False)
    _forces(group.geometry, group.index, group.mean, group.scale, c, C.dtype.type(1 / spacing), C, out, virial)
    return out, virial


def tangent(group: NodalGroup, moves: _Array, strains: _Array, spacing: float) -> _Array:
    """Return the change of B, shape (m, n, 4, K).

    Parameters
    ----------
    group : NodalGroup
        Neighbours and B.
    moves : array, shape (m, N, 3)
        Weights of the forces in each functional; they displace the atoms by minus that.
    strains : array, shape (m, 3, 3)
        Weights v of the virial; they displace a neighbour by -v^T r.
    spacing : float
        Distance between two nodes [1/Å].
    """
    out = np.zeros((len(moves), *group.B.shape), dtype=moves.dtype)
    c = COEFFICIENTS.astype(moves.dtype, copy=False)
    inverse = moves.dtype.type(1 / spacing)
    _tangent(group.geometry, group.index, group.mean, group.scale, c, inverse, moves, strains, out)
    return out


_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}


@njit(inline="always")
def _weights(c, u, w, dw):  # type: ignore[no-untyped-def]
    """Evaluate the eight polynomials and their slopes at u = t - 1/2."""
    for q in range(ORDER):
        w[q] = c[ORDER - 1, q]
        dw[q] = 0.0
    for d in range(ORDER - 2, -1, -1):
        for q in range(ORDER):
            dw[q] = dw[q] * u + w[q]
            w[q] = w[q] * u + c[d, q]


@njit(**_OPTIONS)
def _forces(geometry, index, mean, scale, c, inverse, C, out, virial):  # type: ignore[no-untyped-def]
    w, dw = np.empty(ORDER, C.dtype), np.empty(ORDER, C.dtype)
    f = np.empty(3, C.dtype)
    for p in range(geometry.shape[0]):
        s, slope, r = geometry[p, 4], geometry[p, 5], geometry[p, 3]
        _weights(c, geometry[p, 6] - C.dtype.type(0.5), w, dw)
        a, first = index[p, 0], index[p, 3]
        value = C.dtype.type(0)
        along = C.dtype.type(0)
        for k in range(4):
            unit = geometry[p, k - 1] if k else C.dtype.type(1)
            row = (s * unit - mean[k]) * scale[k]
            bar = C.dtype.type(0)
            dbar = C.dtype.type(0)
            for q in range(ORDER):
                bar += w[q] * C[a, k, first + q]
                dbar += dw[q] * C[a, k, first + q]
            value += dbar * inverse * row
            bar *= scale[k]
            if k:
                f[k - 1] = bar
                along += bar * unit
            else:
                value += bar
        ratio = s / r
        inward = slope * (value + along) - ratio * along
        i, j = index[p, 1], index[p, 2]
        for k in range(3):
            f[k] = inward * geometry[p, k] + ratio * f[k]
            out[i, k] += f[k]
            out[j, k] -= f[k]
        for k in range(3):
            for n in range(3):
                virial[k, n] -= r * geometry[p, k] * f[n]


@njit(inline="always")
def _displacement(u, move_i, move_j, strain, pair):  # type: ignore[no-untyped-def]
    """Fill `u` with the change of the vector between two atoms; return whether it is any."""
    moved = False
    for k in range(3):
        u[k] = move_i[k] - move_j[k]
        for n in range(3):
            u[k] -= pair[3] * pair[n] * strain[n, k]
        moved = moved or u[k] != 0
    return moved


@njit(**_OPTIONS)
def _tangent(geometry, index, mean, scale, c, inverse, moves, strains, out):  # type: ignore[no-untyped-def]
    half = out.dtype.type(0.5)
    w, dw = np.empty(ORDER, out.dtype), np.empty(ORDER, out.dtype)
    u = np.empty(3, out.dtype)
    for m in range(out.shape[0]):
        for p in range(geometry.shape[0]):
            pair = geometry[p]
            # A group of atoms moves few of the pairs.
            if not _displacement(u, moves[m, index[p, 1]], moves[m, index[p, 2]], strains[m], pair):
                continue
            along = u[0] * pair[0] + u[1] * pair[1] + u[2] * pair[2]
            s = pair[4]
            sdot, ratio = pair[5] * along, s / pair[3]
            _weights(c, pair[6] - half, w, dw)
            target = out[m, index[p, 0]]
            first = index[p, 3]
            for k in range(4):
                unit = pair[k - 1] if k else 2 * half
                across = ratio * (u[k - 1] - along * unit) if k else 0 * half
                change = (sdot * unit + across) * scale[k]
                steeper = (s * unit - mean[k]) * scale[k] * sdot * inverse
                for q in range(ORDER):
                    target[k, first + q] += w[q] * change + dw[q] * steeper
