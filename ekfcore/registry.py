"""Find backends by name at run time, so that the core imports none of them."""

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import cast

from array_api_compat import array_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import library_of
from ekfcore.errors import InputError
from ekfcore.protocols import Backend

__all__ = ["BACKENDS", "BackendEntry", "get_backend", "get_namespace"]


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """Where a backend is found.

    Parameters
    ----------
    module : str
        Module with the object ``backend``.
    namespace : str
        Array API namespace in which a run with this backend makes its arrays.
    install : str
        Command that installs what it needs.
    kernels : str
        Package that its kernels come from, where that is not the library of its arrays.
    """

    module: str
    namespace: str
    install: str
    kernels: str = ""

    @property
    def library(self) -> str:
        """Package that the arrays belong to."""
        return self.namespace.removeprefix("array_api_compat.").partition(".")[0]


BACKENDS = {
    "numpy": BackendEntry("ekfcore.backends._numpy", "array_api_compat.numpy", 'pip install "ekfcore[atoms]"', "scipy"),
    "numba": BackendEntry("ekfcore.backends._numba", "array_api_compat.numpy", 'pip install "ekfcore[numba]"', "numba"),
    "torch": BackendEntry("ekfcore.backends._torch", "array_api_compat.torch", 'pip install "ekfcore[torch]"'),
    "cupy": BackendEntry("ekfcore.backends._cupy", "array_api_compat.cupy", 'pip install "ekfcore[cupy]"'),
    "jax": BackendEntry("ekfcore.backends._jax", "jax.numpy", 'pip install "ekfcore[jax]"'),
    "generic": BackendEntry("ekfcore.backends._generic", "array_api_compat.numpy", "pip install ekfcore"),
}

_FASTEST = {"numpy": ("numba", "numpy"), "torch": ("torch",), "cupy": ("cupy",), "jax": ("jax",)}
"""Backends for the arrays of a library, the fastest first; "generic" takes whatever is left."""


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
    if chosen != "generic" and library_of(array_namespace(like)) != entry.library:
        raise InputError(
            f"backend {chosen!r} takes arrays of {entry.library}, got {type(like).__module__}.{type(like).__name__}; "
            "use backend 'auto'"
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
        return import_module(entry.namespace)
    except ImportError as error:
        raise _missing(chosen, entry, error) from None


def _entry(name: str) -> BackendEntry:
    if not isinstance(name, str) or name not in BACKENDS:  # type: ignore[redundant-expr]
        raise InputError(f"`backend` must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]


def _missing(name: str, entry: BackendEntry, error: ImportError) -> InputError:
    return InputError(f"backend {name!r} needs a package that is not installed ({error}); run: {entry.install}")


def _fastest(like: Array) -> str:
    """Choose by the array's library and what is installed, which is the same on every call."""
    for name in _FASTEST.get(library_of(array_namespace(like)), ()):
        with suppress(ImportError):
            import_module(BACKENDS[name].module)
            return name
    return "generic"
