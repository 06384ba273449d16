"""Uncertainty of a prediction from the covariance of the weights."""

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.arrays import check_home, detach
from ekfcore.errors import InputError
from ekfcore.filter import EKFState

__all__ = ["kpu"]


def kpu(state: EKFState, H: Array) -> Array:
    r"""Return the Kalman prediction uncertainty, the variance :math:`H P H^T` of each predicted quantity.

    Parameters
    ----------
    state : EKFState
        State of the filter.
    H : array, shape (n,) or (m, n)
        Gradient of each quantity with respect to the weights.

    Returns
    -------
    array, shape (m,)
        Diagonal of H P H^T, in the unit of the quantity squared; relative to R, which fixes the scale of P.

    Raises
    ------
    InputError
        If a shape does not fit.

    References
    ----------
    ALKPU, arXiv 2411.13850, Algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from ekfcore import init, partition
    >>> kpu(init(np.zeros(2), partition([2])), np.asarray([3.0, 4.0]))
    array([25.])
    """
    xp = array_namespace(state.weights)
    n = state.weights.shape[0]
    check_home(H, "H", like=state.weights)
    if H.ndim not in (1, 2) or H.shape[-1] != n:
        raise InputError(f"`H` must have shape ({n},) or (m, {n}), got {tuple(H.shape)}")
    rows = xp.astype(xp.reshape(detach(H), (-1, n)), state.covariance.scale.dtype, copy=False)
    return xp.sum(state.covariance.multiply(rows) * rows, axis=1)
