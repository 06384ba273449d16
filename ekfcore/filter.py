"""The extended Kalman filter: frozen state in, new state and a record of what happened out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from array_api_compat import array_namespace, device

from ekfcore._given import check_settings, flags, measurement
from ekfcore._numbers import variances
from ekfcore._types import check_type
from ekfcore._typing import Array, Namespace
from ekfcore.arrays import check_dense, check_precision, detach, is_array
from ekfcore.config import EKFConfig
from ekfcore.covariance import Covariance
from ekfcore.errors import FilterError, InputError
from ekfcore.noise import NoiseLevel
from ekfcore.partition import BlockLayout
from ekfcore.registry import get_backend
from ekfcore.share import Share

__all__ = ["EKFState", "Status", "UpdateInfo", "init", "update"]

Status = Literal["ok", "skipped", "non_finite", "not_psd", "unchecked"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class EKFState:
    """All that the next update needs.

    Parameters
    ----------
    weights : array, shape (n,)
        Weights w, an array of the caller's library on the caller's device; where the next measurement is linearised.
    average : array, shape (n,)
        Their running mean, see `EKFConfig.averaging`: the better weights to predict with. The weights themselves if
        nothing is averaged.
    covariance : Covariance
        P, shape (n, n).
    lam : float
        Memory factor lambda of the next update.
    count : int
        Measurements absorbed so far.
    noise : NoiseLevel
        What the innovations have said about the noise, if it is adaptive.
    """

    weights: Array
    average: Array
    covariance: Covariance
    lam: float
    count: int
    noise: NoiseLevel


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class UpdateInfo:
    """What one update did; nothing here is needed to go on.

    Parameters
    ----------
    innovation : array, shape (m,)
        Label minus prediction, e.
    gain : array, shape (n, m)
        Kalman gain K: the weights moved by K e.
    hph : array, shape (m,)
        Diagonal of H P H^T before the update, the variance that P gave the measured quantities.
    noise : array, shape (m,)
        Variance R that the update gave each measurement.
    lam : float
        Memory factor that the update used.
    trace : array, 0-d
        Trace of P after the update.
    status : str
        "ok"; "skipped" (H is zero, nothing to learn); "non_finite" (NaN or infinity in H, the innovation or H P H^T) or
        "not_psd" (H P H^T is negative), both of which leave the state as it was; "unchecked".
    """

    innovation: Array
    gain: Array
    hph: Array
    noise: Array
    lam: float
    trace: Array
    status: Status


def init(
    w: Array,
    layout: BlockLayout,
    config: EKFConfig | None = None,
    *,
    backend: str | None = None,
    share: Share | None = None,
) -> EKFState:
    """Start the filter at the weights `w` with P = p0 I.

    Parameters
    ----------
    w : array, shape (n,)
        Initial weights, any array library.
    layout : BlockLayout
        Blocks of P, from `partition`.
    config : EKFConfig, optional
        Settings; the default filter if not given.
    backend : str, optional
        Name of the kernels; the fastest that works for `w` if not given.
    share : Share, optional
        Blocks of P that this process keeps, where several share them; all of them if not given.

    Returns
    -------
    EKFState
        The state before the first measurement.

    Raises
    ------
    InputError
        If `w` is not a vector of floating-point numbers or does not fit the layout, or an argument is of another class.

    Examples
    --------
    >>> import numpy as np
    >>> state = init(np.zeros(3), BlockLayout((2, 1)))
    >>> state.lam, state.covariance.layout.sizes
    (0.98, (2, 1))
    """
    config = EKFConfig() if config is None else config
    check_type(layout, BlockLayout, "layout")
    check_type(config, EKFConfig, "config")
    if not is_array(w):
        raise InputError(f"`w` must be an array, got {type(w).__module__}.{type(w).__qualname__}")
    xp = array_namespace(w)
    if w.ndim != 1 or w.shape[0] != layout.n_params:
        raise InputError(f"`w` must have shape ({layout.n_params},) to fit the layout, got {tuple(w.shape)}")
    check_dense(w, "w")
    if not xp.isdtype(w.dtype, "real floating"):
        raise InputError(f"`w` must hold floating-point numbers, got {w.dtype}")
    check_precision(xp, config.dtype, "`config.dtype`", on=device(w))
    like = xp.zeros((1,), dtype=getattr(xp, config.dtype), device=device(w))
    kernels = get_backend(backend, like=like)
    covariance = Covariance.identity(
        layout, config.p0, backend=kernels, like=like, coupled=config.rows > 0, share=share
    )
    noise = NoiseLevel.unknown(xp, dtype=like.dtype, device=device(w))
    w = detach(w)
    return EKFState(weights=w, average=w, covariance=covariance, lam=config.memory.initial, count=0, noise=noise)


def update(
    state: EKFState,
    H: Array,
    innovation: Array | float,
    *,
    config: EKFConfig,
    noise: float | Sequence[float] | None = None,
    tracked: Sequence[bool] | None = None,
    check: bool = True,
    throw: bool = False,
    donate: bool = False,
) -> tuple[EKFState, UpdateInfo]:
    r"""Absorb one measurement, or m measurements linearised at the same weights.

    Parameters
    ----------
    state : EKFState
        State before the measurement; never changed unless `donate`.
    H : array, shape (n,) or (m, n)
        Gradient of each measured quantity with respect to the weights.
    innovation : float or array, shape (m,)
        Label minus prediction of each measured quantity.
    config : EKFConfig
        Settings.
    noise : float or sequence of m floats, optional
        Variance R of each measurement; `config.noise` if not given. Numbers of any library, and best of the host: a GPU
        would make it wait. With adaptive noise, the variances relative to each other; 1 if not given.
    tracked : sequence of m bool, optional
        The measurements from which adaptive noise learns; all of them if not given.
    check : bool
        Look for trouble and leave the state as it was if there is any; costs one read of a few numbers from the device.
    throw : bool
        Raise FilterError on trouble, where the status alone would tell.
    donate : bool
        Allow the memory of P to be overwritten; `state` and the states it came from must not be used again.

    Returns
    -------
    state : EKFState
        State after the measurement.
    info : UpdateInfo
        What happened.

    Raises
    ------
    InputError
        If a shape does not fit, a number is complex, the settings do not fit the state, or an argument is of another
        class.
    FilterError
        With `throw`, if the update broke down.

    Notes
    -----
    With the gain of each block :math:`G_l = P_l H_l^T`,

    .. math::

        S = \lambda\, \mathrm{diag}(R) + \sum_l H_l P_l H_l^T, \quad w_l \leftarrow w_l + G_l S^{-1} e, \quad
        P_l \leftarrow (P_l - G_l S^{-1} G_l^T) / \lambda ,

    or the same without the indices l while ``config.rows`` keeps what joins the blocks.

    For m = 1 this is Algorithm 1 of the paper, with R = L under ``noise="blocks"``. The m measurements are absorbed
    jointly and exactly, P is divided by lambda once, and lambda then counts m measurements.

    References
    ----------
    Hu et al., RLEKF, arXiv 2212.06989, Algorithm 1, lines 8 to 14.

    Examples
    --------
    >>> import numpy as np
    >>> config = EKFConfig(noise=1.0)
    >>> state = init(np.zeros(2), BlockLayout((2,)), config)
    >>> state, info = update(state, np.asarray([1.0, 0.0]), 0.5, config=config)
    >>> info.status, float(info.hph[0])
    ('ok', 1.0)
    """
    check_type(state, EKFState, "state")
    check_type(config, EKFConfig, "config")
    xp = array_namespace(state.covariance.scale)
    check_settings(xp, state, config)
    H, e = measurement(xp, state, H, innovation)
    R, level = _noise(xp, state, config, noise, tracked, H, e)
    lam = state.lam
    # Equation `vector` of the docs, with rows: G = H P is G_l^T there, and S = lam R + H P H^T.
    G = state.covariance.multiply(H)
    HPH = G @ H.T
    values, whiten = _whitening(xp, HPH, lam * R)
    active = state.covariance.touched(H)
    hph = xp.linalg.diagonal(HPH)
    # H P H^T of a covariance is not negative; what rounding may leave is small against the noise. The pivots
    # of S do not show it as long as lam R is larger.
    positive = xp.all(values > 0) & xp.all(hph > -_ROUNDING * lam * R)
    status = _status(xp, e, values, positive, active) if check else "unchecked"
    moved = status in ("ok", "unchecked")
    if throw and status in ("non_finite", "not_psd"):
        raise FilterError(f"update {state.count} of the filter broke down: {_REASON[status]}")
    U = whiten @ G  # U^T U = G^T S^-1 G, what the measurements take off P: symmetric to the last bit
    gain = (whiten.T @ U).T  # G^T S^-1, divided by S as K_l of the docs is not
    new = state
    if moved:
        # Woodbury: (P - U^T U)^-1 = P^-1 + H^T (lam R)^-1 H.
        information = H / xp.sqrt(lam * R)[:, None] if config.rows else None
        new = _advance(xp, state, U, whiten @ e, active, information, config, donate)
        new = replace(new, noise=level)
    trace = xp.sum(new.covariance.traces)
    info = UpdateInfo(innovation=e, gain=gain, hph=hph, noise=R, lam=lam, trace=trace, status=status)
    return new, info


_ROUNDING = 1e-6  # of lam R: how far below zero H P H^T may lie
_REASON = {
    "non_finite": "H, the innovation or H P H^T is not finite; look at the labels of this sample, or at the noise",
    "not_psd": "H P H^T is negative, so P is not a covariance any more but rounding; "
    "set the memory factor nearer to 1, or use dtype float64 or a larger noise",
}


def _noise(
    xp: Namespace,
    state: EKFState,
    config: EKFConfig,
    noise: float | Sequence[float] | None,
    tracked: Sequence[bool] | None,
    H: Array,
    e: Array,
) -> tuple[Array, NoiseLevel]:
    """Return R for each measurement, shape (m,), and the level of adaptive noise after them."""
    if noise is None:
        noise = config.noise_at(state.count, len(state.covariance.layout.sizes))
    values = variances(noise, e.shape[0])
    # `full` writes each number on the device; PyTorch makes the host wait when it copies numbers to a GPU.
    R = xp.stack([xp.full((), value, dtype=e.dtype, device=device(e)) for value in values])
    counts = flags(tracked, e.shape[0])
    adaptive = config.adaptive  # with it, R so far is the relative variance r of equation `adaptive`
    if adaptive is None:
        return R, state.noise
    level = state.noise.follow(e**2 / R, counts, adaptive.window)
    # Innovations may vanish, but R must not: an update leaves H P H^T < R, a difference of numbers that begin at
    # p0 |H|^2. The floor lies above their rounding, eps p0 |H|^2, by eps^-1/4, some 8000 in float64.
    floor = float(xp.finfo(H.dtype).eps) ** 0.75 * config.p0 * xp.sum(H**2, axis=1)
    found = xp.maximum(adaptive.variance(level) * R, floor)
    return xp.where(found == 0, R, found), level  # without a gradient there is no floor, and nothing to learn either


def _whitening(xp: Namespace, HPH: Array, noise: Array) -> tuple[Array, Array]:
    """Return the pivots of S = H P H^T + noise and W with W S W^T = I, so that W^T W is the inverse of S.

    Gaussian elimination turns (S, I) into (D L^T, L^-1), where S = L D L^T. An indefinite S shows in the pivots D; the
    factorisation of a library would raise, or make a GPU wait for the host.
    """
    m = HPH.shape[0]
    eye = xp.eye(m, dtype=HPH.dtype, device=device(HPH))
    # A matrix product need not round H P H^T symmetrically.
    rows = xp.concat([(HPH + HPH.T) / 2 + eye * noise, eye], axis=1)
    below = xp.tril(xp.ones_like(eye), k=-1)
    # No pivoting: elimination is stable for a positive definite matrix in any order of its rows.
    for k in range(m - 1):
        factors = below[:, k] * rows[:, k] / rows[k, k]
        rows = rows - factors[:, None] * rows[k, :]
    pivots = xp.linalg.diagonal(rows[:, :m])
    # W = D^-1/2 L^-1; NaN where S is not positive, so that an unchecked update shows it, too.
    return pivots, rows[:, m:] / xp.sqrt(xp.where(pivots > 0, pivots, xp.nan))[:, None]


def _status(xp: Namespace, e: Array, values: Array, positive: Array, active: Array) -> Status:
    """Name the trouble, in one read from the device."""
    finite = xp.all(xp.isfinite(e)) & xp.all(xp.isfinite(values))  # NaN in H or P ends in the pivots of S
    checks = xp.stack([finite, positive, xp.any(active)])
    is_finite, is_positive, is_active = (bool(flag) for flag in checks)
    if not is_finite:
        return "non_finite"
    if not is_positive:
        return "not_psd"
    return "ok" if is_active else "skipped"


def _advance(
    xp: Namespace,
    state: EKFState,
    U: Array,
    e: Array,
    active: Array,
    information: Array | None,
    config: EKFConfig,
    donate: bool,
) -> EKFState:
    """Move the weights by U^T e and take U^T U off P."""
    count = e.shape[0]
    noise = count * config.process_noise_at(state.count)  # q belongs to one measurement, and is added once an update
    covariance = state.covariance.downdate(U, active, state.lam, noise, information=information, donate=donate)
    # The older half of the rows goes at once, so that the cost of `age` is shared by rows / 2 measurements.
    if config.rows and covariance.count >= config.rows:
        covariance = covariance.age(config.rows // 2, donate=donate)
    elif not config.rows and covariance.count >= config.pending:
        covariance = covariance.fold(donate=donate)
    weights = state.weights + xp.astype(e @ U, state.weights.dtype, copy=False)
    return replace(
        state,
        weights=weights,
        average=_average(state, weights, count, config.averaging),
        covariance=covariance,
        lam=config.memory.advance(state.lam, count),
        count=state.count + count,
    )


def _average(state: EKFState, weights: Array, count: int, share: float) -> Array:
    """Return the mean of the weights over about the last `share` of all measurements, `count` of them new."""
    if not share:
        return weights
    # Equation `average` of the docs: m = count, and t - m measurements came before.
    return state.average + (weights - state.average) * (count / (count + share * state.count))
