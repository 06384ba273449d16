"""Compile loops with Numba, in one way for all kernels."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["jit"]

_Kernel = Callable[..., Any]


def jit(function: _Kernel, *, reorder: bool = True) -> _Kernel:
    """Compile when first called, and keep the result on disk if any folder for it can be written.

    The kernel gives up the interpreter's lock. With `reorder`, sums may be reordered, which lets them be kept in
    vectors; NaN and infinity keep their meaning.
    """
    njit: Callable[..., Callable[[_Kernel], _Kernel]] = import_module("numba").njit
    fastmath = {"contract", "reassoc", "arcp", "nsz"} if reorder else {"contract"}
    options = {"fastmath": fastmath, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no such folder
        return njit(**options)(function)
