"""Greedy choice of a batch: each pick reduces the uncertainty of the other frames, as its label would."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["choose_greedily", "remaining_variance"]


def choose_greedily(
    gram: NDArray[np.float64], values: NDArray[np.float64], *, noise: NDArray[np.float64], maximum: int, low: float
) -> list[int]:
    r"""Choose frames one after another, each the most uncertain one given those chosen before.

    The update of P by the filter depends on the gradient of a label, not on its value. Only the products of P with the
    gradients of the candidates matter, so the update acts on a matrix of their size: it is a Cholesky factorisation of
    :math:`H P H^T` with the frames as pivots.

    Parameters
    ----------
    gram : array, shape (N, q, N, q)
        :math:`H P H^T` of q measurements in each of N frames; overwritten.
    values : array, shape (N,)
        Uncertainty of each frame before the first choice; it decreases in proportion to the trace of its block.
    noise : array, shape (q,) or (N, q)
        Variance R of the measurements in a labelled frame, equal for all frames or one row for each.
    maximum : int
        Maximum number of frames to choose.
    low : float
        Threshold of the uncertainty below which frames are not chosen.

    Returns
    -------
    list of int
        Indices of the chosen frames, in the order of choice.

    Examples
    --------
    Two equal frames, and one that differs from them:

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
    """Return the remaining share of the variance of each frame, shape (N,)."""
    now = np.trace(gram.diagonal(axis1=0, axis2=2))
    share: NDArray[np.float64] = np.clip(now / np.where(before > 0, before, 1.0), 0.0, 1.0)
    return share


def _condition(gram: NDArray[np.float64], pick: int, noise: NDArray[np.float64]) -> None:
    """Overwrite H P H^T by its value given the measurements in a frame."""
    n, q = gram.shape[:2]
    S = gram[pick, :, pick, :] + np.diag(noise)
    rows = gram[pick].reshape(q, n * q)  # of the picked frame with all frames
    half = np.linalg.solve(np.linalg.cholesky(S), rows)
    flat = gram.reshape(n * q, n * q)
    flat -= half.T @ half
