"""Numbers that a user may hand over in the form of any library, as numbers of Python."""

import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array

from ekfcore.arrays import detach, is_array
from ekfcore.errors import InputError

__all__ = ["keep_number", "number", "variances"]


def number(value: object) -> float:
    """Return a real number, or an array without axes that holds one, as a number of Python; NaN for anything else.

    An integer that no float can hold is infinite. NaN fails every comparison, so a caller's rule for numbers refuses
    what is no number as well.
    """
    if isinstance(value, bool):
        return math.nan  # True is an integer of Python
    if isinstance(value, Integral):
        whole = int(value)
        return whole if abs(whole) <= sys.float_info.max else (math.inf if whole > 0 else -math.inf)
    if isinstance(value, Real):  # the scalars of NumPy, too
        return float(value)
    return _without_axes(value) if is_array(value) else math.nan


def _without_axes(array: Any) -> float:
    if array is np.ma.masked or (is_torch_array(array) and array.is_meta):
        return math.nan  # a masked number, or a tensor without memory, has no value
    xp, array = array_namespace(array), detach(array)
    if array.ndim == 0 and xp.isdtype(array.dtype, "integral"):
        return int(array)
    return float(array) if array.ndim == 0 and xp.isdtype(array.dtype, "real floating") else math.nan


def keep_number(settings: object, name: str) -> float:
    """Return a field of a frozen dataclass as `number` does, and keep it there as a number of Python."""
    found = number(getattr(settings, name))
    if not math.isnan(found):
        object.__setattr__(settings, name, found)
    return found


def variances(noise: object, count: int | None = None) -> list[float]:
    """Return the variance of each of so many measurements, from one number for all of them or one for each.

    Raises
    ------
    InputError
        If they are not that many (at least one, if that is not known yet), or not positive and finite.
    """
    one = number(noise)
    values = [one] * (count or 1)
    if math.isnan(one):
        several = isinstance(noise, Iterable) and getattr(noise, "ndim", 1) == 1
        values = [number(r) for r in noise] if several else []  # type: ignore[attr-defined]
    if len(values) != (count or max(1, len(values))) or not all(0 < r < math.inf for r in values):
        raise InputError(f"`noise` must be one or {count or 'several'} positive numbers, got {noise}")
    return values
