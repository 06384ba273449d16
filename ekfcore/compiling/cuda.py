"""CUDA C in files beside the modules that launch it, compiled by CuPy."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from ekfcore._typing import Namespace

__all__ = ["Launcher"]

_REAL = {"float64": "double", "float32": "float"}


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches the kernels of a file on the current device and stream.

    Parameters
    ----------
    cupy : module
        CuPy, which this module leaves to its callers to import.
    package, file : str
        Where the kernels are.
    dtype : dtype
        Type of the numbers, REAL in the file.
    macros : tuple of str
        What else the compiler is told, such as `-DROWS=8`.
    """

    cupy: Namespace
    package: str
    file: str
    dtype: Any
    macros: tuple[str, ...] = ()

    def __call__(self, name: str, grid: tuple[int, ...], threads: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
        """Launch a kernel; integers become 32 bits wide and other numbers REAL, as the kernels expect them."""
        if 0 in grid:
            return  # CUDA takes a grid without blocks for an error
        options = (f"-DREAL={_REAL[self.dtype.name]}", *self.macros)
        kernel = _kernel(self.cupy, self.package, self.file, options, name)
        kernel(grid, threads, tuple(self._convert(argument) for argument in arguments))

    def _convert(self, argument: Any) -> Any:
        match argument:
            case int():
                return np.int32(argument)
            case float():
                return self.dtype.type(argument)
        return argument


@cache
def _kernel(cupy: Namespace, package: str, file: str, options: tuple[str, ...], name: str) -> Any:
    """Return a kernel; CuPy compiles the file once for each set of options and keeps the binaries on the disk."""
    source = files(package).joinpath(file).read_text(encoding="utf-8")
    return cupy.RawModule(code=source, options=options).get_function(name)
