"""Uncertainty of a prediction from the covariance of the weights, and what a measurement would teach."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._numbers import variances
from ekfcore._roots import (
    check_numbers,
    chosen_weights,
    row_root,
    sum_columns,
    sum_groups,
    tied_groups,
    triangular_root,
)
from ekfcore._types import check_type
from ekfcore._typing import Array, Namespace
from ekfcore.arrays import check_array, check_dense, check_precision, check_real, detach, is_array, to_numpy
from ekfcore.errors import InputError
from ekfcore.filter import EKFState

__all__ = ["CovarianceRoot", "entropy_change", "fisher_information", "kpu"]

_PANEL = 128  # columns multiplied at once: wide enough for a fast product, narrow enough to skip most zeros of L


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
    check_type(state, EKFState, "state")
    xp = array_namespace(state.weights)
    rows = _rows(xp, state, H)
    # The diagonal alone: m n products, where H P H^T would take m^2 n.
    return xp.sum(state.covariance.multiply(rows) * rows, axis=1)


def entropy_change(state: EKFState, H: Array, noise: float | Sequence[float]) -> Array:
    r"""Return by how much m measurements, absorbed together, would lower the entropy of the weights.

    Parameters
    ----------
    state : EKFState
        State of the filter.
    H : array, shape (n,) or (m, n)
        Gradient of each measured quantity with respect to the weights; no label is needed.
    noise : float or sequence of m floats
        Variance R of each measurement.

    Returns
    -------
    array, 0-d
        :math:`\tfrac12 \log\det(I + R^{-1/2} H P H^T R^{-1/2})` [nat], at :math:`\lambda = 1`.

    Raises
    ------
    InputError
        If a shape does not fit, or the noise is not positive.

    References
    ----------
    ALKPU, arXiv 2411.13850, Theorem 4.2.

    Examples
    --------
    >>> import numpy as np
    >>> from ekfcore import init, partition
    >>> state = init(np.zeros(2), partition([2]))
    >>> round(float(entropy_change(state, np.asarray([[1.0, 0.0], [1.0, 0.0]]), noise=1.0)), 6)  # log(3) / 2
    0.549306
    """
    check_type(state, EKFState, "state")
    xp = array_namespace(state.weights)
    scaled = _scaled(xp, _rows(xp, state, H), noise)
    # I + R^-1/2 H P H^T R^-1/2, whose determinant is that of S over that of R.
    S = state.covariance.multiply(scaled) @ scaled.T + xp.eye(
        scaled.shape[0], dtype=scaled.dtype, device=device(scaled)
    )
    sign, logdet = xp.linalg.slogdet(S)
    # The entropy of a Gaussian is log det(P) / 2 and a constant; an indefinite P has none.
    return xp.where(sign > 0, logdet, xp.nan) / 2


def fisher_information(H: Array, noise: float | Sequence[float]) -> Array:
    r"""Return what m measurements tell about the weights, :math:`H^T R^{-1} H`.

    At :math:`\lambda = 1` an update adds it to the inverse of P, and in general
    :math:`P_t^{-1} = \lambda_t P_{t-1}^{-1} + H^T R^{-1} H`. It is dense, hence for small networks.

    Parameters
    ----------
    H : array, shape (n,) or (m, n)
        Gradient of each measured quantity with respect to the weights.
    noise : float or sequence of m floats
        Variance R of each measurement.

    Returns
    -------
    array, shape (n, n)
        Fisher information matrix.

    Raises
    ------
    InputError
        If the noise is not positive or does not fit, or H is no such array.

    References
    ----------
    ALKPU, arXiv 2411.13850, Theorem 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> fisher_information(np.asarray([1.0, 2.0]), noise=0.5)
    array([[2., 4.],
           [4., 8.]])
    """
    if not is_array(H):
        raise InputError(f"`H` must be an array, got {type(H).__module__}.{type(H).__qualname__}")
    if H.ndim not in (1, 2) or 0 in H.shape:
        raise InputError(f"`H` must have shape (n,) or (m, n), m and n at least 1, got {tuple(H.shape)}")
    xp = array_namespace(H)
    check_dense(H, "H")
    check_real(H, "H")
    rows = xp.reshape(detach(H), (-1, H.shape[-1]))
    if not xp.isdtype(rows.dtype, "real floating"):
        rows = xp.astype(rows, xp.__array_namespace_info__().default_dtypes(device=device(rows))["real floating"])
    scaled = _scaled(xp, rows, noise)
    return scaled.T @ scaled


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Panel:
    """Some columns of the root of one block: they reach from the diagonal to the end of the block."""

    rows: slice
    matrix: Array


class CovarianceRoot:
    r"""A root of P, for many uncertainties with one state: :math:`P_l = L_l L_l^T` with lower triangular L_l.

    Then :math:`H P H^T = |H L|^2`, which is never negative and takes half the arithmetic of H P. Where rows join the
    blocks, P is :math:`L (I - W^T W) L^T`, and the root :math:`L (I - W^T X W)` with a small matrix X.

    Parameters
    ----------
    state : EKFState
        State of the filter; later updates, donated ones too, leave the root as it is.
    parameters : array of int, optional
        Numbers of the weights that count; all of them if not given. The root is that of the rows and columns of P of
        the chosen weights, their covariance while the others stay uncertain, too.
    ties : array of int, shape (n,), optional
        Weights of a block with the same number have equal gradients, and are taken as one.
    dtype : {"float64", "float32"}, optional
        Precision of the root and of the products; that of P if not given. The root itself is always found in double
        precision. With rows that join the blocks, the variance is a small difference, and float32 has few digits of it.

    Attributes
    ----------
    clipped : tuple of float
        For each block how negative its lowest eigenvalue was, relative to the largest one, before it was set to zero;
        0 where P was positive definite, as it nearly always is.

    Raises
    ------
    InputError
        If the library has no such precision, or `parameters` or `ties` are no such numbers.
    FilterError
        If a block has eigenvalues below zero that rounding does not explain, or is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from ekfcore import EKFConfig, init, partition
    >>> root = CovarianceRoot(init(np.zeros(2), partition([2]), EKFConfig(p0=4.0)))
    >>> root.whiten(np.asarray([[3.0, 4.0]])), root.kpu(np.asarray([3.0, 4.0]))
    (array([[6., 8.]]), array([100.]))
    """

    def __init__(
        self,
        state: EKFState,
        *,
        parameters: NDArray[np.integer] | None = None,
        ties: NDArray[np.integer] | None = None,
        dtype: str | None = None,
    ) -> None:
        check_type(state, EKFState, "state")
        n = state.covariance.layout.n_params
        check_numbers(parameters, "parameters", range(n))
        check_numbers(ties, "ties", shape=(n,))
        P, self._like = state.covariance, state.weights
        xp = array_namespace(P.scale)
        self._xp, self._n = xp, P.layout.n_params
        if dtype is not None:
            check_precision(xp, dtype, "`dtype`", on=device(P.scale))
        self._dtype = P.scale.dtype if dtype is None else getattr(xp, dtype)
        tolerance = float(xp.finfo(P.scale.dtype).eps) ** 0.5  # of the largest eigenvalue: half of the digits of P
        kept, panels, joining, clipped, start = [], [], [], [], 0
        # P = D (Q + d I) D - (V D)^T V D: the rows V D stand beside the blocks where they join them.
        V = to_numpy(P.joining()) if P.coupled else np.zeros((0, self._n))
        for index, part in enumerate(P.layout.slices):
            chosen = chosen_weights(part, parameters)
            if not len(chosen):
                continue
            leading, group = tied_groups(chosen, ties)
            kept.append(leading)
            block = sum_groups(
                to_numpy(P.uncoupled(index) if P.coupled else P.dense(index)), chosen - part.start, group
            )
            L, lowest = triangular_root(block, index, tolerance)
            clipped.append(lowest)
            if len(V):
                # W = V D L^-T, so that P = L (I - W^T W) L^T.
                joining.append(np.linalg.solve(L, sum_columns(V, chosen, group).T).T)
            for first in range(0, len(L), _PANEL):
                matrix = np.ascontiguousarray(L[first:, first : first + _PANEL])  # L is zero above these rows
                matrix = xp.asarray(matrix, dtype=self._dtype, device=device(P.scale))
                panels.append(_Panel(rows=slice(start + first, start + len(L)), matrix=matrix))
            start += len(L)
        self.clipped, self._panels = tuple(clipped), tuple(panels)
        self._rows: tuple[Array, Array] | None = None
        if joining:
            W = np.concatenate(joining, axis=1)
            kind = {"dtype": self._dtype, "device": device(P.scale)}
            self._rows = xp.asarray(W, **kind), xp.asarray(row_root(W), **kind)
        whole = parameters is None and ties is None
        self._kept = None if whole else xp.asarray(np.concatenate(kept), device=device(P.scale))

    def whiten(self, H: Array) -> Array:
        """Return Y = H L, so that H P H^T = Y Y^T.

        Parameters
        ----------
        H : array, shape (n,) or (m, n)
            Gradients with respect to all weights.

        Returns
        -------
        array, shape (m, n)
            With `parameters` or `ties`, fewer columns than there are weights.

        Raises
        ------
        InputError
            If a shape does not fit.
        """
        rows = self._prepare(H)
        Y = self._xp.concat([rows[:, panel.rows] @ panel.matrix for panel in self._panels], axis=1)
        if self._rows is None:
            return Y
        W, X = self._rows
        return Y - (Y @ W.T @ X) @ W  # H L (I - W^T X W), small products first

    def kpu(self, H: Array) -> Array:
        """Return the diagonal of H P H^T, shape (m,), as `kpu` does, in the precision of the root."""
        if self._rows is not None:
            return self._xp.sum(self.whiten(H) ** 2, axis=1)
        rows = self._prepare(H)
        total = self._xp.zeros((rows.shape[0],), dtype=rows.dtype, device=device(rows))
        for panel in self._panels:
            total = total + self._xp.sum((rows[:, panel.rows] @ panel.matrix) ** 2, axis=1)
        return total

    def _prepare(self, H: Array) -> Array:
        """Bring H to shape (m, n) and to the precision of the root."""
        rows = _checked(self._xp, H, self._n, like=self._like)
        if self._kept is not None:
            rows = self._xp.take(rows, self._kept, axis=1)
        return self._xp.astype(rows, self._dtype, copy=False)


def _rows(xp: Namespace, state: EKFState, H: Array) -> Array:
    """Bring H to shape (m, n) and to the precision of P."""
    rows = _checked(xp, H, state.covariance.layout.n_params, like=state.weights)
    return xp.astype(rows, state.covariance.scale.dtype, copy=False)


def _checked(xp: Namespace, H: Array, n: int, *, like: Array) -> Array:
    check_array(H, "H", like=like)
    if H.ndim not in (1, 2) or H.shape[-1] != n:
        raise InputError(f"`H` must have shape ({n},) or (m, {n}), got {tuple(H.shape)}")
    return xp.reshape(detach(H), (-1, n))


def _scaled(xp: Namespace, rows: Array, noise: float | Sequence[float]) -> Array:
    """Return R^-1/2 H."""
    m = rows.shape[0]
    if m == 0:
        raise InputError("`H` must hold at least one measurement, got none")
    return rows / xp.sqrt(xp.asarray(variances(noise, m), dtype=rows.dtype, device=device(rows)))[:, None]
