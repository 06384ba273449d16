"""Which library and device an array belongs to, and how it leaves them."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_cupy_array, is_numpy_array, is_torch_array
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.errors import InputError

__all__ = ["check_home", "detach", "to_numpy"]


def check_home(array: Array, name: str, *, like: Array) -> None:
    """Refuse an argument that is no array of the library of `like`, or lives on another device.

    Raises
    ------
    InputError
        With the name of the argument and both homes.
    """
    if is_array_api_obj(array) and array_namespace(array) is array_namespace(like):
        here, there = device(array), device(like)
        if here == there or here is None or there is None:  # while JAX compiles, arrays have no device
            return
    raise InputError(f"`{name}` must be an array like the weights, {_home(like)}, got {_home(array)}")


def _home(array: Array) -> str:
    kind = f"{type(array).__module__}.{type(array).__qualname__}"
    return f"{kind} on {device(array)}" if is_array_api_obj(array) else kind


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
