"""Calibration of error bars: the share of errors that they cover on labelled frames, and a factor to correct it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from ekfcore.atoms import Frame
from ekfcore.errors import InputError

from .kpu import FrameUncertainty

__all__ = ["bar_factor", "coverage", "force_errors", "rank_correlation"]

_Vector = NDArray[np.float64]

_ONE_SIGMA = math.erf(0.5**0.5)  # share of a Gaussian within one standard deviation


def force_errors(found: FrameUncertainty, forces: Any, frame: Frame) -> _Vector:
    """Return the errors of the forces on the chosen atoms, shape (k, 3) [eV/Å].

    Raises
    ------
    InputError
        If the frame has no forces.
    """
    if frame.forces is None:
        raise InputError(f"{frame.source}: must have forces to be compared with; leave it out")
    errors: _Vector = np.asarray(forces)[found.atoms] - frame.forces[found.atoms]
    return errors


def bar_factor(pairs: Iterable[tuple[FrameUncertainty, _Vector]]) -> float:
    """Return the factor with which error bars would cover 68.3 % of the errors, as one standard deviation does.

    As a quantile, it is robust against a few errors that KPU misses, such as those of forces that vanish by symmetry.

    Parameters
    ----------
    pairs : iterable of pairs
        Uncertainties of frames with their `force_errors`.

    Raises
    ------
    InputError
        If there are no frames.

    Examples
    --------
    >>> certain, unsure = (
    ...     FrameUncertainty(energy=0.0, forces=np.asarray([3 * v]), atoms=np.asarray([0])) for v in (0.01, 0.04)
    ... )
    >>> pairs = [(certain, np.asarray([[0.2, -0.2, 0.2]])), (unsure, np.asarray([[0.4, 0.4, -0.4]]))]
    >>> round(bar_factor(pairs), 6)
    2.0
    """
    return float(np.quantile(_standardised(pairs), _ONE_SIGMA))


def coverage(pairs: Iterable[tuple[FrameUncertainty, _Vector]]) -> tuple[float, float]:
    """Return the shares of force-component errors within one and within two error bars, without any factor.

    Raises
    ------
    InputError
        If there are no frames.

    Examples
    --------
    >>> found = FrameUncertainty(energy=0.0, forces=np.asarray([3 * 0.01]), atoms=np.asarray([0]))
    >>> coverage([(found, np.asarray([[0.05, -0.15, 0.3]]))])
    (0.3333333333333333, 0.6666666666666666)
    """
    away = _standardised(pairs)
    return float(np.mean(away <= 1)), float(np.mean(away <= 2))


def rank_correlation(uncertainty: Sequence[float] | _Vector, error: Sequence[float] | _Vector) -> float:
    """Return Spearman's rank correlation; NaN for fewer than three pairs, or where one of the two never changes.

    Examples
    --------
    >>> round(rank_correlation([1.0, 2.0, 3.0], [0.1, 0.2, 5.0]), 6)
    1.0
    """
    x, y = np.asarray(uncertainty), np.asarray(error)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(spearmanr(x, y).statistic)


def _standardised(pairs: Iterable[tuple[FrameUncertainty, _Vector]]) -> _Vector:
    """Return the sizes of the errors of all components in units of the root of their variance."""
    parts = [
        np.ravel(np.abs(errors) / np.sqrt(np.maximum(found.forces[:, None] / 3, np.finfo(np.float64).tiny)))
        for found, errors in pairs
    ]
    if not parts:
        raise InputError("no frames with forces to hold error bars against; give labelled ones")
    return np.concatenate(parts)
