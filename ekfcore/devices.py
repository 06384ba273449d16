"""Which devices the backends find on this machine, and how arrays get there."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from array_api_compat import array_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import library_of
from ekfcore.errors import InputError
from ekfcore.registry import BACKENDS, get_namespace

__all__ = ["find_devices", "free_memory", "place", "resolve"]

_ON_CUDA = ("cupy", "torch")
"""Backends for a GPU, the first choice first."""


def place(array: Array, *, backend: str, device: str) -> Array:
    """Bring an array of NumPy into the library of a backend, onto a device.

    Parameters
    ----------
    array : array of NumPy
        What to bring there.
    backend : str
        Name of a backend, or "auto" for the fastest one on that device.
    device : str
        One of `find_devices`; "cuda" is the first GPU.

    Raises
    ------
    InputError
        If the backend or the device cannot be used here.
    """
    name = resolve(backend, device)
    found = find_devices(name)
    if device not in found and f"{device}:0" not in found:
        raise InputError(
            f"backend {name!r} finds no device {device!r} here, only {', '.join(found)}; see `ekfcore info`"
        )
    put = _PLACE.get(BACKENDS[name].library, _place_on_the_host)
    return put(get_namespace(name), array, device)


def resolve(backend: str, device: str) -> str:
    """Return the backend for a device, which is `backend` itself unless that is "auto".

    Raises
    ------
    InputError
        If no backend works on the device.
    """
    if backend != "auto":
        return backend
    if device == "cpu":
        return "numpy"
    if not device.startswith("cuda"):
        raise InputError(
            f"device {device!r} cannot be used with backend 'auto'; name a backend that has it, see `ekfcore info`"
        )
    reasons = []
    for name in _ON_CUDA:
        try:
            if any(found.startswith("cuda") for found in find_devices(name)):
                return name
            reasons.append(f"backend {name!r} finds no CUDA device")
        except InputError as error:
            reasons.append(str(error))
    raise InputError(f"device {device!r} cannot be used: {'; '.join(reasons)}")


def find_devices(backend: str) -> list[str]:
    """Return the names of the devices on which a backend works here, as "cpu" and "cuda:0".

    Raises
    ------
    InputError
        If there are none; the message says why and what to do.
    """
    get_namespace(backend)
    library = BACKENDS[backend].library
    find = _FIND.get(library)
    return find(import_module(library)) if find else ["cpu"]


def free_memory(like: Array) -> int:
    """Return how many bytes are free where an array lives."""
    find = _FREE.get(library_of(array_namespace(like)))
    found = find(like) if find else None
    return int(import_module("psutil").virtual_memory().available) if found is None else found


def _find_with_torch(torch: Any) -> list[str]:
    mps = ["mps:0"] if torch.backends.mps.is_available() else []
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count())), *mps]


def _find_with_cupy(cupy: Any) -> list[str]:
    try:
        return [f"cuda:{index}" for index in range(cupy.cuda.runtime.getDeviceCount())]
    except RuntimeError as error:
        raise InputError(f"backend 'cupy' finds no CUDA device ({str(error).partition(chr(10))[0]})") from None


def _find_with_jax(jax: Any) -> list[str]:
    others = (device for device in jax.devices() if device.platform != "cpu")
    return ["cpu", *(f"{'cuda' if device.platform == 'gpu' else device.platform}:{device.id}" for device in others)]


def _free_of_torch(like: Any) -> int | None:
    return int(import_module("torch").cuda.mem_get_info(like.device)[0]) if like.device.type == "cuda" else None


def _free_of_jax(like: Any) -> int | None:
    """Return what is left of the memory that JAX has taken for itself; the CPU tells nothing of its own."""
    stats = next(iter(like.devices())).memory_stats()
    return None if stats is None else int(stats["bytes_limit"] - stats["bytes_in_use"])


def _place_on_the_host(xp: Namespace, array: Array, device: str) -> Array:
    return xp.asarray(array)


def _place_by_name(xp: Namespace, array: Array, device: str) -> Array:
    return xp.asarray(array, device=device)


def _place_with_cupy(xp: Namespace, array: Array, device: str) -> Array:
    with import_module("cupy").cuda.Device(_number(device)):
        return xp.asarray(array)


def _place_with_jax(xp: Namespace, array: Array, device: str) -> Array:
    if array.dtype.name not in xp.__array_namespace_info__().dtypes():
        raise InputError(f"backend 'jax' has no {array.dtype.name} as it is set up here; set JAX_ENABLE_X64=1")
    return xp.asarray(array, device=import_module("jax").devices(device.partition(":")[0])[_number(device)])


def _number(device: str) -> int:
    """Return k of "cuda:k"."""
    return int(device.partition(":")[2] or 0)


# What a library does with devices; one that has no entry here works on the host.
_FIND: Mapping[str, Callable[[Any], list[str]]] = {
    "torch": _find_with_torch,
    "cupy": _find_with_cupy,
    "jax": _find_with_jax,
}
_PLACE: Mapping[str, Callable[[Namespace, Array, str], Array]] = {
    "torch": _place_by_name,
    "cupy": _place_with_cupy,
    "jax": _place_with_jax,
}
_FREE: Mapping[str, Callable[[Any], int | None]] = {
    "torch": _free_of_torch,
    "cupy": lambda like: int(like.device.mem_info[0]),
    "jax": _free_of_jax,
}
