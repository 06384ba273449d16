"""Greedy choice of a batch: after each pick, what it would teach is taken off the uncertainty of the others."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_greedily", "remaining_variance"]


def choose_greedily(
    gram: NDArray[np.float64], values: NDArray[np.float64], *, noise: NDArray[np.float64], maximum: int, low: float
) -> list[int]:
    r"""Choose frames one after another, each the most uncertain one given those chosen before.

    A label changes P, by the update of the filter, in a way that needs the gradient and not the label. Of P only its
    products with the gradients of the candidates matter here, so the update is that of a matrix of their size: a
    Cholesky factorisation of :math:`H P H^T` with the frames as pivots.

    Parameters
    ----------
    gram : array, shape (N, q, N, q)
        :math:`H P H^T` of q measurements in each of N frames; overwritten.
    values : array, shape (N,)
        Uncertainty of each frame before anything is chosen; it falls in proportion to the trace of its measurements.
    noise : array, shape (q,) or (N, q)
        Variance R of the measurements in a labelled frame, in all or in each of them.
    maximum : int
        Frames to choose at most.
    low : float
        Frames whose uncertainty has fallen below it are not chosen.

    Returns
    -------
    list of int
        Chosen frames in their order.

    Examples
    --------
    Two frames that are the same, and one that is like none of them:

    >>> H = np.asarray([[2.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> gram = (H @ H.T).reshape(3, 1, 3, 1)
    >>> choose_greedily(gram, np.asarray([4.0, 4.0, 1.0]), noise=np.asarray([0.01]), maximum=3, low=0.5)
    [0, 2]
    """
    before = np.trace(gram.diagonal(axis1=0, axis2=2)) if len(values) else values
    noise = np.broadcast_to(noise, gram.shape[:2])
    chosen: list[int] = []
    left = values.copy()
    while len(chosen) < min(maximum, len(values)):
        best = int(np.argmax(left))
        if left[best] < low or not left[best] > 0:
            break
        chosen.append(best)
        _condition(gram, best, noise[best])
        left = values * remaining_variance(gram, before)
        left[chosen] = -np.inf
    return chosen


def remaining_variance(gram: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the variance of each frame that is left, shape (N,)."""
    now = np.trace(gram.diagonal(axis1=0, axis2=2))
    share: NDArray[np.float64] = np.clip(now / np.where(before > 0, before, 1.0), 0.0, 1.0)
    return share


def _condition(gram: NDArray[np.float64], pick: int, noise: NDArray[np.float64]) -> None:
    """Overwrite H P H^T by what it is once the measurements in a frame are known."""
    n, q = gram.shape[:2]
    S = gram[pick, :, pick, :] + np.diag(noise)
    rows = gram[pick].reshape(q, n * q)  # [frame picked] with all others
    half = np.linalg.solve(np.linalg.cholesky(S), rows)
    flat = gram.reshape(n * q, n * q)
    flat -= half.T @ half
