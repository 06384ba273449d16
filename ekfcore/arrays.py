"""Move arrays between libraries."""

from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_numpy_array, is_torch_array
from numpy.typing import NDArray

from ekfcore._typing import Array

__all__ = ["detach", "to_numpy"]


def detach(array: Array) -> Array:
    """Return the same numbers in the same memory, without the history that a tensor of PyTorch may carry."""
    return array.detach() if is_torch_array(array) else array


def to_numpy(array: Array) -> NDArray[Any]:
    """Return the numbers of an array of any library on the host, shared with it where that is possible.

    Examples
    --------
    >>> to_numpy(np.asarray([1.0, 2.0]))
    array([1., 2.])
    """
    if is_numpy_array(array):
        return np.asarray(array)
    if is_torch_array(array):
        return np.asarray(array.detach().cpu())  # NumPy refuses tensors that carry gradients
    if is_cupy_array(array):
        return np.asarray(array.get())
    return np.from_dlpack(array)
