"""What `update` is given, held against the state before any kernel trusts it."""

from numbers import Real
from typing import TYPE_CHECKING

from array_api_compat import device, is_numpy_array, is_numpy_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import check_array, detach
from ekfcore.config import EKFConfig
from ekfcore.errors import InputError

if TYPE_CHECKING:
    from ekfcore.filter import EKFState

__all__ = ["check_settings", "measurement"]


def check_settings(xp: Namespace, state: "EKFState", config: EKFConfig) -> None:
    """Refuse settings that need another P."""
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
    # Kernels trust P's layout, library and device, so H is held against them: the user may exchange the weights.
    n = state.covariance.layout.n_params
    check_array(H, "H", like=like)
    if H.ndim not in (1, 2) or H.shape[-1] != n or H.shape[0] == 0:
        raise InputError(f"`H` must have shape ({n},) or (m, {n}) with m at least 1, got {tuple(H.shape)}")
    if tuple(state.weights.shape) != (n,):
        raise InputError(
            f"`state.weights` must have shape ({n},) to fit its covariance, got {tuple(state.weights.shape)}"
        )
    H = xp.astype(xp.reshape(detach(H), (-1, n)), like.dtype, copy=False)
    if _is_on_host(xp, innovation):
        e = xp.full((1,), float(innovation), dtype=like.dtype, device=device(like))
    else:
        check_array(innovation, "innovation", like=like)
        e = xp.astype(xp.reshape(detach(innovation), (-1,)), like.dtype, copy=False)
    if e.shape[0] != H.shape[0]:
        raise InputError(
            f"`innovation` must hold one number for each of the {H.shape[0]} rows of `H`, got {e.shape[0]}"
        )
    return H, e


def _is_on_host(xp: Namespace, innovation: Array | float) -> bool:
    """Return whether an innovation is a number of Python or NumPy, and no array of the library of the weights."""
    if isinstance(innovation, Real):
        return True
    return is_numpy_array(innovation) and not is_numpy_namespace(xp) and innovation.ndim == 0
