"""Layers of an embedding net on panels of neighbours, compiled.

A panel is an array (channels, 2 LANES): a column for the value at each neighbour, and behind them one for each slope in
s. A weight matrix multiplies both alike, and its gradient is one product over all columns. Channels are padded with
zeros to a multiple of ten, because the products work on blocks of two by five, whose sums fit into the registers. What
a product leaves in the padding does not matter: no other number depends on it.
"""

import numpy as np

from ekfcore.compiling.jit import inlined

from ._tanh_numba import tanh

__all__ = ["LANES", "aligned_zeros", "forward", "reverse"]

LANES = 64  # neighbours at a time: the panels of all layers fit into the second-level cache


@inlined
def aligned_zeros(shape, like):  # type: ignore[no-untyped-def]
    """Return an array of rank three that begins on a cache line: a register that crosses one costs twice the time."""
    count = shape[0] * shape[1] * shape[2]
    raw = np.zeros(count + 64 // like.itemsize, like.dtype)
    offset = -raw.ctypes.data % 64 // like.itemsize
    return raw[offset : offset + count].reshape(shape)


@inlined
def forward(widths, copies, W, b, x, a):  # type: ignore[no-untyped-def]
    """Run through all layers.

    Parameters
    ----------
    widths : array of int, shape (L + 1,)
        Channels of the input and of each layer.
    copies : array of int, shape (L,)
        How many copies of its input each layer adds.
    W, b : array, shapes (L, C, C) and (L, C)
        Matrices and biases, padded.
    x : array, shape (L + 1, C, 2 LANES)
        Inputs of the layers; the first is given, the others are written, and the last is the output.
    a : array, shape (L, C, 2 LANES)
        Written: tanh', and tanh'' times the slope of its argument.
    """
    for layer in range(W.shape[0]):
        n_in, n_out = widths[layer], widths[layer + 1]
        z, below, above = a[layer], x[layer], x[layer + 1]
        for o in range(n_out):
            _fill(z, o, b[layer, o])
        _multiply(W[layer], below, z, n_in, n_out, 2 * LANES)
        for o in range(n_out):
            _activate(z, above, o)
        for o in range(copies[layer] * n_in):
            _add(below, o % n_in, above, o)


@inlined
def reverse(widths, copies, WT, x, a, ybar, zbar, Wbar, bbar, lanes):  # type: ignore[no-untyped-def]
    """Add the gradients of the sum of `ybar` times the output.

    Parameters
    ----------
    widths, copies : array
        After `forward`.
    WT : array, shape (L, C, C)
        Transposed matrices.
    x, a : array
        After `forward`.
    ybar : array, shape (C, 2 LANES)
        Weights of values and slopes; overwritten.
    zbar : array, shape (C, 2 LANES)
        Workspace.
    Wbar, bbar : array, shapes (L, C, C) and (L, C)
        Where the gradients are added.
    lanes : int
        2 LANES, or LANES if the weights of the slopes are all zero.
    """
    for layer in range(WT.shape[0] - 1, -1, -1):
        n_in, n_out = widths[layer], widths[layer + 1]
        slopes = a[layer]
        for o in range(n_out):
            bbar[layer, o] += _scale(slopes, ybar, zbar, o) if lanes == LANES else _scale_both(slopes, ybar, zbar, o)
        # Over values and slopes at once: Wbar = zbar x^T + zdotbar xdot^T.
        _add_products(zbar, x[layer], Wbar[layer], n_in, n_out, lanes)
        if layer == 0:
            break  # the gradient with respect to s is not asked for
        for i in range(n_in):
            if copies[layer] == 0:  # with one copy, ybar itself is what the residual sends back
                _fill(ybar, i, 0)
            elif copies[layer] == 2:
                _add(ybar, n_in + i, ybar, i)
        _multiply(WT[layer], zbar, ybar, n_out, n_in, lanes)


# The functions below take row indices, not row views: Numba counts the references to each view, which costs time.


@inlined
def _fill(z, o, bias):  # type: ignore[no-untyped-def]
    """Begin with the bias, which the slopes do not have."""
    for lane in range(LANES):
        z[o, lane] = bias
        z[o, LANES + lane] = 0


@inlined
def _add(source, i, target, o):  # type: ignore[no-untyped-def]
    for lane in range(2 * LANES):
        target[o, lane] += source[i, lane]


@inlined
def _activate(z, y, o):  # type: ignore[no-untyped-def]
    """Write tanh and its change to y, and replace z by what the reverse pass needs."""
    for lane in range(LANES):
        value = tanh(z[o, lane])
        slope = 1 - value * value
        change = slope * z[o, LANES + lane]  # tanh' times the slope of z
        z[o, lane] = slope
        z[o, LANES + lane] = -2 * value * change  # tanh'' = -2 tanh tanh'
        y[o, lane] = value
        y[o, LANES + lane] = change


@inlined
def _scale(a, ybar, zbar, o):  # type: ignore[no-untyped-def]
    """Write the gradient with respect to z, and return its sum."""
    total = ybar.dtype.type(0)
    for lane in range(LANES):
        value = a[o, lane] * ybar[o, lane]
        zbar[o, lane] = value
        total += value
    return total


@inlined
def _scale_both(a, ybar, zbar, o):  # type: ignore[no-untyped-def]
    """Do so for value and slope."""
    total = ybar.dtype.type(0)
    for lane in range(LANES):
        # y = tanh(z), ydot = tanh'(z) zdot: z gets tanh' ybar + tanh'' zdot ydotbar, zdot gets tanh' ydotbar.
        value = a[o, lane] * ybar[o, lane] + a[o, LANES + lane] * ybar[o, LANES + lane]
        zbar[o, lane] = value
        zbar[o, LANES + lane] = a[o, lane] * ybar[o, LANES + lane]
        total += value
    return total


@inlined
def _multiply(W, x, z, n_in, n_out, lanes):  # type: ignore[no-untyped-def]
    """Add W x to z."""
    for o in range(0, n_out, 2):
        for i in range(0, n_in, 5):
            a0, a1, a2, a3, a4 = W[o, i], W[o, i + 1], W[o, i + 2], W[o, i + 3], W[o, i + 4]
            b0, b1, b2, b3, b4 = W[o + 1, i], W[o + 1, i + 1], W[o + 1, i + 2], W[o + 1, i + 3], W[o + 1, i + 4]
            for lane in range(lanes):
                x0, x1, x2, x3, x4 = x[i, lane], x[i + 1, lane], x[i + 2, lane], x[i + 3, lane], x[i + 4, lane]
                z[o, lane] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3 + a4 * x4
                z[o + 1, lane] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3 + b4 * x4


@inlined
def _add_products(zbar, x, Wbar, n_in, n_out, lanes):  # type: ignore[no-untyped-def]
    """Add zbar x^T to Wbar."""
    zero = zbar.dtype.type(0)
    for o in range(0, n_out, 2):
        for i in range(0, n_in, 5):
            a0, a1, a2, a3, a4, b0, b1, b2, b3, b4 = zero, zero, zero, zero, zero, zero, zero, zero, zero, zero
            for lane in range(lanes):
                z0, z1 = zbar[o, lane], zbar[o + 1, lane]
                x0, x1, x2, x3, x4 = x[i, lane], x[i + 1, lane], x[i + 2, lane], x[i + 3, lane], x[i + 4, lane]
                a0 += z0 * x0
                a1 += z0 * x1
                a2 += z0 * x2
                a3 += z0 * x3
                a4 += z0 * x4
                b0 += z1 * x0
                b1 += z1 * x1
                b2 += z1 * x2
                b3 += z1 * x3
                b4 += z1 * x4
            for k, (a, b) in enumerate(((a0, b0), (a1, b1), (a2, b2), (a3, b3), (a4, b4))):
                Wbar[o, i + k] += a
                Wbar[o + 1, i + k] += b
