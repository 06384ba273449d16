"""On which backends and devices everything is measured, and how to bring arrays there."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import numpy as np
from array_api_compat import is_cupy_array, is_jax_array, is_torch_array
from numpy.typing import NDArray

from ekfcore import registry
from ekfcore._typing import Array
from ekfcore.devices import place
from ekfcore.errors import InputError

__all__ = [
    "BACKENDS",
    "DTYPES",
    "LIBRARIES",
    "ON_NUMPY",
    "WITH_KERNELS",
    "name_and_device",
    "on_backend",
    "skip_slow",
    "skip_unusable",
    "wait",
]

_DEVICES = {"torch": ("", ":cuda"), "cupy": (":cuda",)}
BACKENDS = tuple(name + device for name in registry.BACKENDS for device in _DEVICES.get(name, ("",)))
"""Names of backends, after the colon a device other than the CPU."""

WITH_KERNELS = tuple(backend for backend in BACKENDS if backend not in ("generic", "jax"))
"""The others are matrix products of a library, far slower: what is measured of them is kept small."""

ON_NUMPY = tuple(name for name, entry in registry.BACKENDS.items() if entry.library == "numpy")
"""Backends for arrays of NumPy."""

LIBRARIES = ("numpy", *(backend for backend in BACKENDS if backend not in ON_NUMPY))
"""One backend for each library of arrays and device."""

DTYPES = ("float64", "float32")

_LARGEST_WITHOUT_KERNELS = 1024


def name_and_device(backend: str) -> tuple[str, str]:
    """Take "torch:cuda" apart."""
    name, _, device = backend.partition(":")
    return name, device or "cpu"


def skip_slow(backend: str, block_size: int) -> None:
    """Skip large blocks with backends that have no kernels of their own."""
    if backend not in WITH_KERNELS and block_size > _LARGEST_WITHOUT_KERNELS:
        raise NotImplementedError(f"backend {backend!r} is measured with blocks of {_LARGEST_WITHOUT_KERNELS} only")


@contextmanager
def skip_unusable() -> Iterator[None]:
    """Skip the benchmark, with the reason, if the backend that it asks for cannot be used here."""
    try:
        yield
    except InputError as error:
        raise NotImplementedError(str(error)) from None


def on_backend(backend: str, array: NDArray[np.floating], dtype: str) -> Array:
    """Return the array in the library and on the device of a backend."""
    name, device = name_and_device(backend)
    with skip_unusable():
        if registry.get_namespace(name).__name__ == "jax.numpy":
            import_module("jax").config.update("jax_enable_x64", True)  # its arrays hold 32 bits otherwise
        return place(array.astype(dtype), backend=name, device=device)


def wait(array: Array) -> None:
    """Wait until the device has computed everything that was asked of it."""
    if is_torch_array(array) and array.is_cuda:
        import_module("torch").cuda.synchronize(array.device)
    elif is_cupy_array(array):
        array.device.synchronize()
    elif is_jax_array(array):
        array.block_until_ready()
