"""Find backends by name at run time, so that the core imports none of them."""

from importlib import import_module
from typing import cast

from array_api_compat import is_numpy_array

from ekfcore._typing import Array
from ekfcore.errors import InputError
from ekfcore.protocols import Backend

__all__ = ["BACKENDS", "get_backend"]

BACKENDS = {
    "numpy": ("ekfcore.backends._numpy", 'pip install "ekfcore[atoms]"'),
    "generic": ("ekfcore.backends._generic", "pip install ekfcore"),
}
"""For each backend the module that holds it and the command that installs what it needs."""


def get_backend(name: str | None, *, like: Array) -> Backend:
    """Return the kernels of that name, or for None the fastest that work for arrays such as `like`.

    Raises
    ------
    InputError
        If the name is unknown, what the backend needs is not installed, or it does not take such arrays.
    """
    if name in (None, "auto"):
        name = _fastest(like)
    if name not in BACKENDS:
        raise InputError(f"`backend` must be one of auto, {', '.join(BACKENDS)}, got {name!r}")
    module, command = BACKENDS[name]
    try:
        backend = cast(Backend, import_module(module).backend)
    except ImportError as error:
        raise InputError(f"backend {name!r} needs a package that is not installed ({error}); run: {command}") from None
    if name == "numpy" and not is_numpy_array(like):
        raise InputError(f"backend 'numpy' takes NumPy arrays, got {type(like)}; use backend 'generic'")
    return backend


def _fastest(like: Array) -> str:
    """Choose by the array's library alone, which is the same on every call."""
    if not is_numpy_array(like):
        return "generic"
    try:
        import_module(BACKENDS["numpy"][0])
    except ImportError:
        return "generic"
    return "numpy"
