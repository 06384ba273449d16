"""As much of CuPy as the CUDA kernels' callers use, on NumPy arrays, with kernels that run on the CPU.

Each launch is checked: types, layout and number of the arguments, sizes of the grid, writes beside an array or into one
that is `const`, barriers that are missing or that only some threads reach. Memory that nobody wrote holds NaN.
"""

import ctypes
import re
import subprocess
import tempfile
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["make_cupy"]

_HERE = Path(__file__).parent
_GUARD = 64  # numbers before and behind each array, which a kernel must leave alone
_COMPILE = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror"]
_COMPILE += ["-U_FORTIFY_SOURCE"]  # its longjmp refuses to go to another stack
_COMPILE += ["-fsanitize=bounds,signed-integer-overflow", "-fsanitize-undefined-trap-on-error"]


def make_cupy() -> ModuleType:
    """Return a module to stand for `cupy`."""
    module = ModuleType("cupy")
    for name in ("arange", "argsort", "asarray", "ascontiguousarray", "concatenate", "searchsorted", "take"):
        setattr(module, name, getattr(np, name))
    stand_ins = {
        "empty": _empty,
        "empty_like": lambda array: _empty(array.shape, dtype=array.dtype),
        "cuda": SimpleNamespace(Device=nullcontext),
        "RawModule": RawModule,
    }
    vars(module).update(stand_ins)
    return module


def _empty(shape: int | tuple[int, ...], *, dtype: Any) -> NDArray[Any]:
    return np.full(shape, np.nan, dtype=dtype)


class RawModule:
    """CUDA C, compiled for the CPU."""

    def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
        self._code, self._library = code, _compile(code, options)
        self._real = np.dtype(np.float32 if "-DREAL=float" in options else np.float64)

    def get_function(self, name: str) -> "Kernel":
        """Return a kernel."""
        parameters = re.search(rf"__global__ void {name}\((.*?)\)", self._code, re.DOTALL)
        assert parameters is not None, f"there is no kernel {name}"
        found = [_Parameter.of(text, self._real) for text in parameters[1].split(",")]
        return Kernel(name, getattr(self._library, f"emulate_{name}"), found)


@cache
def _compile(code: str, options: tuple[str, ...]) -> ctypes.CDLL:
    names = re.findall(r'extern "C" __global__ void (\w+)', code)
    wrapper = f'#include "{_HERE / "emulator.h"}"\n{code}\n' + "".join(f"EMULATE({name})\n" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder, "kernels.cpp"), Path(folder, "kernels.so")
        source.write_text(wrapper, encoding="utf-8")
        run = subprocess.run(
            [*_COMPILE, *options, "-o", str(library), str(source)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return ctypes.CDLL(str(library))


class _Parameter(NamedTuple):
    name: str
    dtype: np.dtype[Any]
    is_pointer: bool
    is_const: bool

    @classmethod
    def of(cls, text: str, real: np.dtype[Any]) -> "_Parameter":
        match = re.fullmatch(r"\s*(const )?(\w+) (\*?)(\w+)\s*", text)
        assert match is not None, f"cannot read the parameter {text!r}"
        const, kind, star, name = match.groups()
        return cls(name, real if kind == "REAL" else np.dtype(np.int32), bool(star), bool(const))


class Kernel:
    """A kernel that can be launched as CuPy's RawKernel is."""

    def __init__(self, name: str, function: Any, parameters: list[_Parameter]) -> None:
        self._name, self._function, self._parameters = name, function, parameters

    def __call__(self, grid: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        """Run all threads, once forwards and once backwards, and compare."""
        self._check(grid, threads, arguments)
        forwards, backwards = (self._run(grid, threads, arguments, order) for order in (0, 1))
        for parameter, argument, one, other in zip(self._parameters, arguments, forwards, backwards, strict=True):
            if parameter.is_pointer:
                what = f"{self._name}: {parameter.name} depends on the order of the threads"
                np.testing.assert_array_equal(one, other, what)
                if not parameter.is_const:
                    argument[...] = one

    def _check(self, grid: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        assert 1 <= len(grid) <= 3, self._name
        assert 1 <= len(threads) <= 3, self._name
        assert all(1 <= size <= limit for size, limit in zip(grid, (2**31 - 1, 65535, 65535), strict=False)), grid
        assert 1 <= np.prod(threads) <= 1024, threads
        assert len(arguments) == len(self._parameters), self._name
        for parameter, argument in zip(self._parameters, arguments, strict=True):
            where = f"{self._name}: {parameter.name}"
            assert isinstance(argument, np.ndarray if parameter.is_pointer else np.generic), where
            assert argument.dtype == parameter.dtype, where
            assert argument.flags.c_contiguous, where

    def _run(
        self, grid: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...], backwards: int
    ) -> list[NDArray[Any]]:
        """Return the arguments after a run on copies of them."""
        guarded: dict[int, NDArray[Any]] = {}  # one for each place in memory, for a kernel may work in place
        views, values = [], []
        for argument, parameter in zip(arguments, self._parameters, strict=True):
            copy = guarded.setdefault(argument.ctypes.data, _guard(argument)) if parameter.is_pointer else argument
            view = copy[_GUARD:-_GUARD].reshape(argument.shape) if parameter.is_pointer else argument
            views.append(view)
            # A kernel gets the address of an array, or the number itself; the launcher, where that stands.
            values.append(np.asarray(view.ctypes.data if parameter.is_pointer else argument))
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = [(ctypes.c_uint * 3)(*size, *[1] * (3 - len(size))) for size in (grid, threads)]
        outcome = self._function(*sizes, backwards, addresses)
        assert outcome == 0, f"{self._name}: some threads of a block do not reach a barrier"
        for copy in guarded.values():
            around = np.concat([copy[:_GUARD], copy[-_GUARD:]])
            np.testing.assert_array_equal(around, _guard(copy[:0]), f"{self._name} wrote beside an array")
        self._check_const(arguments, views)
        return views

    def _check_const(self, arguments: tuple[Any, ...], views: list[NDArray[Any]]) -> None:
        pairs = list(zip(arguments, self._parameters, strict=True))
        in_place = {argument.ctypes.data for argument, p in pairs if p.is_pointer and not p.is_const}
        for (argument, parameter), view in zip(pairs, views, strict=True):
            if parameter.is_const and argument.ctypes.data not in in_place:
                np.testing.assert_array_equal(view, argument, f"{self._name} wrote into {parameter.name}")


def _guard(array: NDArray[Any]) -> NDArray[Any]:
    """Return a flat copy with numbers around it that no kernel would write."""
    blank = np.nan if array.dtype.kind == "f" else np.iinfo(array.dtype).max
    return np.pad(array.ravel(), _GUARD, constant_values=blank)
