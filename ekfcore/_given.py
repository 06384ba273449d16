"""Check the arguments of `update` against the state, before a kernel relies on them."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace, device, is_numpy_array, is_numpy_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import check_array, check_dense, detach, is_array, library_of
from ekfcore.config import EKFConfig
from ekfcore.errors import InputError

if TYPE_CHECKING:
    from ekfcore.filter import EKFState

__all__ = ["check_settings", "flags", "measurement"]


def check_settings(xp: Namespace, state: "EKFState", config: EKFConfig) -> None:
    """Refuse settings for which P would need another form or precision."""
    P = state.covariance
    if P.coupled != (config.rows > 0):
        begun = "keeps rows that join the blocks" if P.coupled else "keeps none"
        raise InputError(f"`config.rows` is {config.rows}, but the state {begun}; use the settings that it began with")
    if not xp.isdtype(P.scale.dtype, getattr(xp, config.dtype)):
        begun = "float32" if config.dtype == "float64" else "float64"
        raise InputError(
            f"`config.dtype` is {config.dtype}, but P of the state is {begun}; use the settings that it began with, or "
            f"save it and load it with dtype={config.dtype!r}"
        )


def measurement(xp: Namespace, state: "EKFState", H: Array, innovation: Array | float) -> tuple[Array, Array]:
    """Bring H to shape (m, n) and the innovation to (m,), in the precision of P."""
    like = state.covariance.scale
    # H is checked against P, not against the weights: kernels rely on P, and the user may exchange the weights.
    n = state.covariance.layout.n_params
    check_array(H, "H", like=like)
    if H.ndim not in (1, 2) or H.shape[-1] != n or H.shape[0] == 0:
        raise InputError(f"`H` must have shape ({n},) or (m, {n}) with m at least 1, got {tuple(H.shape)}")
    _check_weights(xp, state.weights, n, like=like)
    H = xp.astype(xp.reshape(detach(H), (-1, n)), like.dtype, copy=False)
    if _is_on_host(xp, innovation):
        e = xp.full((1,), _float(innovation), dtype=like.dtype, device=device(like))
    else:
        check_array(innovation, "innovation", like=like)
        e = xp.astype(xp.reshape(detach(innovation), (-1,)), like.dtype, copy=False)
    if e.shape[0] != H.shape[0]:
        raise InputError(
            f"`innovation` must hold one number for each of the {H.shape[0]} rows of `H`, got {e.shape[0]}"
        )
    return H, e


def _check_weights(xp: Namespace, weights: Array, n: int, *, like: Array) -> None:
    """Refuse weights that the user has put into a state whose covariance is not theirs."""
    if not is_array(weights) or array_namespace(weights) is not xp:
        raise InputError(
            f"`state.weights` must be an array of {library_of(xp)} as its covariance is, "
            f"got {type(weights).__module__}.{type(weights).__qualname__}"
        )
    check_dense(weights, "state.weights")
    if tuple(weights.shape) != (n,):
        raise InputError(f"`state.weights` must have shape ({n},) to fit its covariance, got {tuple(weights.shape)}")
    if not xp.isdtype(weights.dtype, "real floating"):
        raise InputError(f"`state.weights` must hold floating-point numbers, got {weights.dtype}")


def flags(tracked: Sequence[bool] | None, count: int) -> list[bool]:
    """Return whether each of so many measurements is tracked; all are if nothing is said.

    Raises
    ------
    InputError
        If there are not that many flags.
    """
    if tracked is None:
        return [True] * count
    found = list(tracked) if isinstance(tracked, Iterable) and getattr(tracked, "ndim", 1) == 1 else []  # type: ignore[redundant-expr]
    if len(found) != count:
        raise InputError(f"`tracked` must hold {count} flags, one for each measurement, got {tracked}")
    return [bool(flag) for flag in found]


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer that no float can hold
        return math.inf


def _is_on_host(xp: Namespace, innovation: Array | float) -> bool:
    """Return whether an innovation is a number of Python or NumPy rather than an array of the weights' library."""
    if isinstance(innovation, Real):
        return True
    return is_numpy_array(innovation) and not is_numpy_namespace(xp) and innovation.ndim == 0
