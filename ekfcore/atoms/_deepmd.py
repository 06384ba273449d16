"""Folders in the native layout of DeePMD-kit: ``type.raw``, ``type_map.raw``, ``set.*/*.npy``."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._dpdata import atomic_numbers, check_types, frames_of
from ._extra import load_extra
from .frame import Frame

__all__ = ["find_deepmd", "read_deepmd"]


def find_deepmd(folder: Path) -> list[Path]:
    """Look for DeePMD-kit data in a folder and below it.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    list of Path
        `folder` itself when it holds ``type.raw``, else every folder below it that does, sorted.
    """
    if (folder / "type.raw").is_file():
        return [folder]
    return sorted(path.parent for path in folder.rglob("type.raw"))


def read_deepmd(folder: Path) -> list[Frame]:
    """Read all frames of one folder; atoms stay in the order of the files.

    Parameters
    ----------
    folder : Path
        Holds ``type.raw``. A file ``nopbc`` in it means an isolated molecule.

    Returns
    -------
    list of Frame
        In double precision; the virial of DeePMD-kit has the sign of ours.

    Raises
    ------
    InputError
        If ``type_map.raw`` or the sets are missing, or names and types do not fit together.
    """
    numbers = _atomic_numbers(folder)
    check_types(str(folder), np.loadtxt(folder / "type.raw", dtype=np.int64), len(numbers))
    sets = sorted(folder.glob("set.*"))
    if not sets:
        raise InputError(f"{folder}: holds no set.* folder; convert the data to deepmd/npy, for example with dpdata")
    labelled = any((path / "energy.npy").exists() for path in sets)
    dpdata = load_extra("dpdata")
    system = (dpdata.LabeledSystem if labelled else dpdata.System)(str(folder), fmt="deepmd/npy")
    return frames_of(system.data, numbers, str(folder))


def _atomic_numbers(folder: Path) -> NDArray[np.int64]:
    """Atomic number of each type."""
    path = folder / "type_map.raw"
    if not path.is_file():
        raise InputError(f"{folder}: has no type_map.raw; add one with the element of each type in type.raw, in order")
    return atomic_numbers(path.read_text().split(), str(path))
