"""Interpolation on equidistant nodes: the eight Lagrange polynomials of the nodes around a point."""

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

__all__ = ["COEFFICIENTS", "FIRST", "ORDER", "stencil_weights"]

ORDER = 8
"""Nodes that a point is interpolated from."""

FIRST = -3
"""The first of them, counted from the node at or below the point, so that the point lies in the middle."""


def _coefficients() -> NDArray[np.float64]:
    """Return c with w_q(t) = sum_d c[d, q] (t - 1/2)^d, shape (ORDER, ORDER)."""
    # Around the middle of the interval, where the powers cancel least.
    nodes = np.arange(FIRST, FIRST + ORDER) - 0.5
    columns = []
    for q, node in enumerate(nodes):
        # Lagrange's polynomial: one at its own node, zero at the seven others.
        others = np.delete(nodes, q)
        columns.append(polynomial.polyfromroots(others) / np.prod(node - others))
    return np.ascontiguousarray(np.transpose(columns))


COEFFICIENTS = _coefficients()


def stencil_weights(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of the nodes for points at `t`, shape (..., ORDER).

    Parameters
    ----------
    t : array
        Position between the node at or below the point, 0, and the next one, 1.
    """
    return np.asarray(polynomial.polyval(t[..., None] - 0.5, COEFFICIENTS, tensor=False), dtype=np.float64)
