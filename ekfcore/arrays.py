"""Which library and device an array belongs to, and how it leaves them."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_cupy_array, is_numpy_array, is_torch_array
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError

__all__ = [
    "check_array",
    "check_dense",
    "check_precision",
    "check_real",
    "detach",
    "is_array",
    "library_of",
    "to_numpy",
]


def is_array(value: object) -> bool:
    """Return whether a value is an array of any library; the types of NumPy only look like one."""
    return not isinstance(value, type) and bool(is_array_api_obj(value))


def check_array(array: Array, name: str, *, like: Array) -> None:
    """Refuse an argument that is no array of the library of `like`, lives on another device, or is not real.

    Raises
    ------
    InputError
        With the name of the argument and both homes, or its type.
    """
    if not (is_array(array) and array_namespace(array) is array_namespace(like) and _same_device(array, like)):
        raise InputError(f"`{name}` must be an array like the weights, {_home(like)}, got {_home(array)}")
    check_dense(array, name)
    if array.dtype != like.dtype:  # `like` is real
        check_real(array, name)


def check_dense(array: Array, name: str) -> None:
    """Refuse an array of which some numbers are not there: sparse, masked, or without memory.

    Raises
    ------
    InputError
        With the name of the argument and its kind.
    """
    if is_torch_array(array) and str(array.layout) != "torch.strided":
        raise InputError(f"`{name}` must be dense, got {array.layout}; use .to_dense()")
    if is_torch_array(array) and array.is_meta:
        raise InputError(f"`{name}` must hold numbers, got a tensor on device meta, which holds none")
    if isinstance(array, np.ma.MaskedArray):
        raise InputError(f"`{name}` must have no mask, got a MaskedArray; use .filled(...)")


def check_real(array: Array, name: str) -> None:
    """Refuse an array of complex numbers, whose imaginary parts would be dropped, or of truth values.

    Raises
    ------
    InputError
        With the name of the argument and its type.
    """
    if not array_namespace(array).isdtype(array.dtype, ("real floating", "integral")):
        raise InputError(f"`{name}` must hold real numbers, got {array.dtype}")


def check_precision(xp: Namespace, dtype: str, name: str, *, on: object) -> None:
    """Refuse a precision that a library does not have on a device, as JAX without x64.

    Raises
    ------
    InputError
        With the name of what asks for it and what to do.
    """
    if dtype not in xp.__array_namespace_info__().dtypes(device=on, kind="real floating"):
        raise InputError(
            f"{name} is {dtype}, which {library_of(xp)} does not have on device {on}; "
            "use float32, or for JAX set JAX_ENABLE_X64=1"
        )


def library_of(xp: Namespace) -> str:
    """Return the name of the package whose arrays a namespace makes.

    Examples
    --------
    >>> import array_api_compat.numpy
    >>> library_of(array_api_compat.numpy)
    'numpy'
    """
    name: str = xp.__name__
    return name.removeprefix("array_api_compat.").partition(".")[0]


def _same_device(one: Array, other: Array) -> bool:
    here, there = device(one), device(other)
    return here == there or here is None or there is None  # while JAX compiles, arrays have no device


def _home(array: Array) -> str:
    kind = f"{type(array).__module__}.{type(array).__qualname__}"
    return f"{kind} on {device(array)}" if is_array(array) else kind


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
        array = array.detach().cpu()  # NumPy refuses tensors that carry gradients, and has no bfloat16
        return np.asarray(array.float() if str(array.dtype) == "torch.bfloat16" else array)
    if is_cupy_array(array):
        return np.asarray(array.get())
    return np.from_dlpack(array)
