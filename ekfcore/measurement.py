"""Turn labels into measurements: signed means, groups of atoms, and the reduction of a batch."""

import math
from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.errors import InputError

__all__ = ["atom_groups", "reduce_batch", "signed_mean"]


def signed_mean(prediction: Array, label: Array, weight: Array | None = None) -> tuple[Array, Array]:
    """Make one measured quantity of many predicted numbers.

    A prediction above its label changes sign, so that all errors point the same way; the measured quantity is the mean
    of the signed predictions and its innovation the mean absolute error.

    Parameters
    ----------
    prediction, label : array, same shape
        What the model says and what it should say.
    weight : array, broadcastable to their shape, optional
        Weight of each number in the mean; equal weights that add up to one if not given.

    Returns
    -------
    cotangent : array, shape of the prediction
        Derivative of the measured quantity with respect to each prediction.
    innovation : array, 0-d
        Weighted mean absolute error.

    References
    ----------
    Hu et al., RLEKF, arXiv 2212.06989, Algorithm 1, lines 1 to 7.

    Examples
    --------
    >>> import numpy as np
    >>> cotangent, innovation = signed_mean(np.asarray([1.0, 4.0]), np.asarray([2.0, 2.0]))
    >>> cotangent, float(innovation)
    (array([ 0.5, -0.5]), 1.5)
    """
    xp = array_namespace(prediction, label)
    if tuple(prediction.shape) != tuple(label.shape):
        raise InputError(
            f"`label` must have the shape of the prediction {tuple(prediction.shape)}, got {tuple(label.shape)}"
        )
    size = math.prod(prediction.shape)
    if not size:
        raise InputError(f"`prediction` must hold at least one number, got shape {tuple(prediction.shape)}")
    if weight is None:
        weight = xp.full_like(prediction, 1 / size)
    one = xp.ones_like(prediction)
    # sigma_i = sign(label - prediction); where they are equal, the error is zero and either sign will do.
    cotangent = xp.where(prediction >= label, -one, one) * weight
    return cotangent, xp.sum(xp.abs(label - prediction) * weight)


def atom_groups(rng: np.random.Generator, n_atoms: int, *, size: int | None, count: int) -> list[list[int]]:
    """Draw groups of atoms whose forces are measured together.

    No atom is measured twice in a frame: a frame with fewer than `size` times `count` atoms gives fewer groups, of
    which the last may be smaller.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the draw.
    n_atoms : int
        Atoms in the frame.
    size : int or None
        Atoms in a group, 6 in the paper; None for groups that share all atoms of the frame.
    count : int
        Largest number of groups, 4 in the paper.

    Returns
    -------
    list of list of int
        Indices of the atoms of each group.
    """
    size = -(-n_atoms // count) if size is None else size  # rounded up, so that no atom is left over
    drawn = rng.permutation(n_atoms)[: size * count].tolist()  # one draw without repetition makes the groups disjoint
    return [drawn[start : start + size] for start in range(0, len(drawn), size)]


def reduce_batch(rows: Sequence[Array], innovations: Sequence[Array]) -> tuple[Array, Array]:
    """Make one measurement of the same quantity in several samples, before the filter sees it.

    The early reduction of the fast EKF: the sum of the signed gradients, and the mean absolute error times the square
    root of the number of samples.

    Parameters
    ----------
    rows : sequence of b arrays, shape (n,)
        Gradient of each sample's signed quantity.
    innovations : sequence of b 0-d arrays
        Their absolute errors.

    Returns
    -------
    H : array, shape (n,)
        Gradient of the reduced measurement.
    innovation : array, 0-d
        Its innovation.
    """
    xp = array_namespace(*rows)
    return xp.sum(xp.stack(list(rows)), axis=0), xp.mean(xp.stack(list(innovations))) * len(rows) ** 0.5
