"""Activation functions with their first and second derivatives."""

from collections.abc import Callable
from math import pi, sqrt

from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError

__all__ = ["ACTIVATIONS", "activation"]

_Derivatives = tuple[Array, Array, Array]


def activation(name: str) -> Callable[[Namespace, Array], _Derivatives]:
    """Return the function that maps (xp, z) to the value, slope and curvature at z.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def _tanh(xp: Namespace, z: Array) -> _Derivatives:
    a = xp.tanh(z)
    slope = 1 - a * a
    return a, slope, -2 * a * slope


def _sigmoid(xp: Namespace, z: Array) -> _Derivatives:
    # Through tanh, which does not overflow.
    a = (1 + xp.tanh(z / 2)) / 2
    slope = a * (1 - a)
    return a, slope, slope * (1 - 2 * a)


def _softplus(xp: Namespace, z: Array) -> _Derivatives:
    s, slope, _ = _sigmoid(xp, z)
    zero = xp.zeros_like(z)
    return xp.maximum(z, zero) + xp.log1p(xp.exp(-xp.abs(z))), s, slope


def _silu(xp: Namespace, z: Array) -> _Derivatives:
    s, slope, curvature = _sigmoid(xp, z)
    return z * s, s + z * slope, 2 * slope + z * curvature


def _gelu(xp: Namespace, z: Array) -> _Derivatives:
    # The tanh form, as in DeePMD-kit: z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))) / 2.
    scale, cubic = sqrt(2 / pi), 0.044715
    t, dt, ddt = _tanh(xp, scale * (z + cubic * z * z * z))
    inner, dinner = scale * (1 + 3 * cubic * z * z), scale * 6 * cubic * z
    slope, curvature = dt * inner, ddt * inner * inner + dt * dinner
    return z * (1 + t) / 2, (1 + t + z * slope) / 2, slope + z * curvature / 2


def _relu(xp: Namespace, z: Array) -> _Derivatives:
    zero = xp.zeros_like(z)
    return xp.maximum(z, zero), xp.astype(z > 0, z.dtype), zero


def _relu6(xp: Namespace, z: Array) -> _Derivatives:
    zero = xp.zeros_like(z)
    return xp.clip(z, 0.0, 6.0), xp.astype((z > 0) & (z < 6), z.dtype), zero


def _linear(xp: Namespace, z: Array) -> _Derivatives:
    return z, xp.ones_like(z), xp.zeros_like(z)


ACTIVATIONS: dict[str, Callable[[Namespace, Array], _Derivatives]] = {
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_tf": _gelu,
    "silu": _silu,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "relu": _relu,
    "relu6": _relu6,
    "linear": _linear,
    "none": _linear,
}
"""Names as in DeePMD-kit."""
