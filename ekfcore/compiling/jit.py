"""Compile loops with Numba, in one way for all kernels."""

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from typing import Any

__all__ = ["inlined", "jit", "tell_of_compiling"]

_Kernel = Callable[..., Any]
_tell: list[Callable[[], None]] = []  # what is to be called, until it has been


def jit(function: _Kernel, *, reorder: bool = True, forceinline: bool = False) -> _Kernel:
    """Compile a kernel when it is first called, and keep the result on disk if any folder for it can be written.

    The kernel gives up the interpreter's lock. With `reorder`, sums may be reordered, which lets them be kept in
    vectors; NaN and infinity keep their meaning.
    """
    njit: Callable[..., Callable[[_Kernel], _Kernel]] = import_module("numba").njit
    _watch_compiler()
    fastmath = {"contract", "reassoc", "arcp", "nsz"} if reorder else {"contract"}
    options = {"fastmath": fastmath, "nogil": True, "error_model": "numpy", "forceinline": forceinline}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is no such folder
        return njit(**options)(function)


inlined = partial(jit, forceinline=True)
"""Compile what kernels call, as a part of each of them.

A process that compiles has such a function twice, by itself and in the kernel, optimised differently. Were it not
inlined, that process would call the one, and a process that loads the kernel from disk the other: their sums differ in
the last bits, and a training that is resumed would not be the one that never stopped.
"""


def tell_of_compiling(tell: Callable[[], None]) -> None:
    """Call `tell`, once, before a kernel is compiled; not if all are found on disk."""
    _tell[:] = [tell]


@cache
def _watch_compiler() -> None:
    event = import_module("numba.core.event")

    class Watch(event.Listener):  # type: ignore[misc, name-defined]
        def on_start(self, found: Any) -> None:
            if _tell and found.data["dispatcher"].py_func.__module__.startswith("ekfcore."):
                _tell.pop()()

        def on_end(self, found: Any) -> None:
            pass

    event.register("numba:compile", Watch())
