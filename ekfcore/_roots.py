"""The triangular root of one block of P, or of the part of it that counts."""

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import FilterError, InputError

__all__ = ["check_numbers", "chosen_weights", "row_root", "sum_columns", "sum_groups", "tied_groups", "triangular_root"]


def check_numbers(
    given: object, name: str, within: range | None = None, *, shape: tuple[int, ...] | None = None
) -> None:
    """Refuse anything but a vector of at least one integer, all of them within a range; None passes.

    Raises
    ------
    InputError
        With the name of the argument.
    """
    if given is None:
        return
    if not isinstance(given, np.ndarray) or given.dtype.kind not in "iu" or given.ndim != 1 or not given.size:
        raise InputError(f"`{name}` must be an array of at least one integer, got {given}")
    if shape is not None and given.shape != shape:
        raise InputError(f"`{name}` must have shape {shape}, got {given.shape}")
    if within is not None and not (given.min() >= within.start and given.max() < within.stop):
        raise InputError(f"`{name}` must lie between 0 and {within.stop - 1}, got {given.min()} to {given.max()}")


def chosen_weights(part: slice, parameters: NDArray[np.integer] | None) -> NDArray[np.integer]:
    """Return which weights of a block count, sorted."""
    if parameters is None:
        return np.arange(part.start, part.stop)
    return np.unique(parameters[(parameters >= part.start) & (parameters < part.stop)])


def tied_groups(
    chosen: NDArray[np.integer], ties: NDArray[np.integer] | None
) -> tuple[NDArray[np.integer], NDArray[np.integer] | None]:
    """Return the first weight of each tied group, and to which group each of the chosen weights belongs."""
    if ties is None:
        return chosen, None
    _, first, group = np.unique(ties[chosen], return_index=True, return_inverse=True)
    return chosen[first], group


def sum_groups(
    P: NDArray[np.floating], rows: NDArray[np.integer], group: NDArray[np.integer] | None
) -> NDArray[np.floating]:
    """Return the part of P for these rows and columns, summed over each group."""
    if group is None:
        part: NDArray[np.floating] = P[np.ix_(rows, rows)]
        return part
    # A row of H with equal numbers in a group needs only the sum of P over the group. `reduceat` sums runs, so that
    # the weights of a group must stand side by side.
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(np.max(group) + 1))
    rows = rows[order]
    sums: NDArray[np.floating] = np.add.reduceat(np.add.reduceat(P[rows][:, rows], starts, axis=0), starts, axis=1)
    return sums


def sum_columns(
    V: NDArray[np.floating], columns: NDArray[np.integer], group: NDArray[np.integer] | None
) -> NDArray[np.floating]:
    """Return these columns of rows that join blocks, summed over each group."""
    if group is None:
        return V[:, columns]
    sums = np.zeros((int(np.max(group)) + 1, len(V)), dtype=V.dtype)
    np.add.at(sums, group, V[:, columns].T)  # `sums[group] += ...` would add one weight of each group only
    return sums.T


def row_root(W: NDArray[np.floating]) -> NDArray[np.float64]:
    r"""Return X, shape (k, k), with :math:`(I - W^T X W)^2 = I - W^T W` for rows W, shape (k, n).

    With :math:`W W^T = Z \Sigma Z^T` it is :math:`Z (1 + \sqrt{1 - \Sigma})^{-1} Z^T`. Rounding may leave an eigenvalue
    slightly above one; the variance is zero there.
    """
    # For each eigenvalue sigma, 2 x - sigma x^2 = 1: x = (1 - sqrt(1 - sigma)) / sigma, written without 0 / 0.
    values, Z = np.linalg.eigh(W @ W.T)  # (k, k), however many weights there are
    X: NDArray[np.float64] = (Z / (1 + np.sqrt(np.maximum(1 - values, 0.0)))) @ Z.T
    return X


def triangular_root(P: NDArray[np.floating], index: int, tolerance: float) -> tuple[NDArray[np.float64], float]:
    """Return the lower triangular root of a block, and how much of it had to be clipped.

    Rounding may leave a block with eigenvalues slightly below zero, where its variance is nothing beside its largest:
    they become zero, and P = B^T B with B^T = Q R gives the triangular root R^T.
    """
    advice = "train with dtype float64 or a larger noise"
    if not np.all(np.isfinite(P)):
        raise FilterError(f"block {index} of P is no covariance: it is not finite; {advice}")
    P = P.astype(np.float64, copy=False)
    try:
        return np.linalg.cholesky(P), 0.0
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(P)
    lowest = -float(values[0] / values[-1]) if values[-1] > 0 else np.inf
    if lowest > tolerance:
        raise FilterError(
            f"block {index} of P is no covariance: its eigenvalues reach from {values[0]:.3g} to {values[-1]:.3g}; "
            f"{advice}"
        )
    B = (vectors * np.sqrt(np.maximum(values, 0.0))).T  # B^T B = P
    R: NDArray[np.float64] = np.asarray(np.linalg.qr(B, mode="r"))
    return R.T, max(lowest, 0.0)  # the diagonal may be negative, which no variance |H L|^2 shows
