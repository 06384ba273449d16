"""Backend-neutral files of DeePMD-kit: HDF5, with a description in JSON that refers to arrays by name."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from ekfcore.atoms._extra import load_extra
from ekfcore.errors import CheckpointError, InputError
from ekfcore.files import replace_file

__all__ = ["read_dp", "write_dp"]

_VARIABLES = "@variables"
"""Below this key, every string is the name of an array."""
_DIGEST = "sha256"


def write_dp(path: Path, data: Mapping[str, Any]) -> None:
    """Write a file atomically.

    Parameters
    ----------
    path : Path
        File to write or to replace.
    data : mapping
        Nested mappings and lists, with NumPy arrays below keys ``@variables``.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    h5py, numbers = load_extra("h5py"), count()
    with replace_file(path) as handle, h5py.File(handle, "w") as file:

        def store(array: Any) -> Any:
            return file.create_dataset(f"variable_{next(numbers):04d}", data=array).name

        # As a string of variable length, the description may exceed the 64 KiB of other attributes.
        file.attrs["json"] = json.dumps(_mapped(data, store), separators=(",", ":"))
        file.attrs[_DIGEST] = _digest(file)


def read_dp(path: Path) -> dict[str, Any]:
    """Read a file that this module or DeePMD-kit wrote.

    Raises
    ------
    InputError
        If the file does not exist.
    CheckpointError
        If the file is truncated, altered or of another format.
    """
    if not path.is_file():
        raise InputError(f"{path} is no file; give a model of DeePMD-kit that ends in .dp")
    h5py = load_extra("h5py")
    with _readable(path), h5py.File(path, "r") as file:
        if _DIGEST in file.attrs and file.attrs[_DIGEST] != _digest(file):  # files that DeePMD-kit wrote have no digest
            raise ValueError("it was altered after it was written: its SHA-256 differs")
        data = _mapped(json.loads(file.attrs["json"]), lambda name: np.asarray(file[name]))
        if not isinstance(data, dict):
            raise ValueError("its description is no table")
        return data


def _digest(file: Any) -> str:
    """Return the SHA-256 of the description and the arrays."""
    digest = hashlib.sha256(str(file.attrs["json"]).encode())
    for name in sorted(file):
        array = np.asarray(file[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _mapped(node: Any, call: Callable[[Any], Any], *, inside: bool = False) -> Any:
    """Return a copy of a tree with `call` applied to each variable."""
    if isinstance(node, Mapping):
        return {key: _mapped(value, call, inside=inside or key == _VARIABLES) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_mapped(value, call, inside=inside) for value in node]
    return call(node) if inside and node is not None else node


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn errors of HDF5 and JSON on a broken file into one line."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} is damaged or no model of DeePMD-kit ({reason}); copy or freeze it again"
        ) from None
