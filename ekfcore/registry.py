"""Find backends by name at run time, so that the core imports none of them."""

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from array_api_compat import is_numpy_array, is_torch_array

from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError
from ekfcore.protocols import Backend

__all__ = ["BACKENDS", "BackendEntry", "get_backend", "get_namespace", "place"]


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Where a backend is found.

    Parameters
    ----------
    module : str
        Module with the object ``backend``.
    library : str
        Array API namespace in which a run with this backend makes its arrays.
    install : str
        Command that installs what it needs.
    """

    module: str
    library: str
    install: str


BACKENDS = {
    "numpy": BackendEntry("ekfcore.backends._numpy", "array_api_compat.numpy", 'pip install "ekfcore[atoms]"'),
    "numba": BackendEntry("ekfcore.backends._numba", "array_api_compat.numpy", 'pip install "ekfcore[numba]"'),
    "generic": BackendEntry("ekfcore.backends._generic", "array_api_compat.numpy", "pip install ekfcore"),
    "torch": BackendEntry("ekfcore.backends._torch", "array_api_compat.torch", 'pip install "ekfcore[torch]"'),
}

_FASTEST = {"numpy": ("numba", "numpy"), "torch": ("torch",), "other": ()}
"""Backends for the arrays of a library, the fastest first."""


def get_backend(name: str | None, *, like: Array) -> Backend:
    """Return the kernels of that name, or for None and "auto" the fastest that work for arrays such as `like`.

    Raises
    ------
    InputError
        If the name is unknown, what the backend needs is not installed, or it does not take such arrays.
    """
    chosen = _fastest(like) if name is None or name == "auto" else name
    entry = _entry(chosen)
    try:
        backend = cast(Backend, import_module(entry.module).backend)
    except ImportError as error:
        raise _missing(chosen, entry, error) from None
    library = entry.library.rpartition(".")[2]
    if chosen != "generic" and library != _library(like):
        raise InputError(
            f"backend {chosen!r} takes arrays of {library}, got {type(like).__module__}.{type(like).__name__}; "
            "use backend 'generic'"
        )
    return backend


def get_namespace(name: str) -> Namespace:
    """Return the array library in which a run with the backend of that name makes its arrays.

    Raises
    ------
    InputError
        If the name is unknown or the library is not installed.
    """
    chosen = "numpy" if name == "auto" else name
    entry = _entry(chosen)
    try:
        import_module(entry.module)
        return import_module(entry.library)
    except ImportError as error:
        raise _missing(chosen, entry, error) from None


def place(array: Array, *, backend: str, device: str) -> Array:
    """Bring an array of NumPy into the library of a backend, onto a device.

    Raises
    ------
    InputError
        If the backend or the device cannot be used here.
    """
    try:
        return get_namespace(backend).asarray(array, device=device)
    except (RuntimeError, ValueError, AssertionError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(
            f"device {device!r} cannot be used with backend {backend!r} ({reason}); see `ekfcore info`"
        ) from None


def _entry(name: str) -> BackendEntry:
    if name not in BACKENDS:
        raise InputError(f"`backend` must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]


def _missing(name: str, entry: BackendEntry, error: ImportError) -> InputError:
    return InputError(f"backend {name!r} needs a package that is not installed ({error}); run: {entry.install}")


def _library(array: Array) -> str:
    """Return the name of the array's library, if it is one with kernels of its own."""
    return "numpy" if is_numpy_array(array) else "torch" if is_torch_array(array) else "other"


def _fastest(like: Array) -> str:
    """Choose by the array's library alone, which is the same on every call."""
    for name in _FASTEST[_library(like)]:
        with suppress(ImportError):
            import_module(BACKENDS[name].module)
            return name
    return "generic"
