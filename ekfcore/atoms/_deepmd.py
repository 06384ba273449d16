"""Folders in the native layout of DeePMD-kit: ``type.raw``, ``type_map.raw``, ``set.*/*.npy``."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

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
    _check_types(folder, np.loadtxt(folder / "type.raw", dtype=np.int64), len(numbers))
    sets = sorted(folder.glob("set.*"))
    if not sets:
        raise InputError(f"{folder}: holds no set.* folder; convert the data to deepmd/npy, for example with dpdata")
    labelled = any((path / "energy.npy").exists() for path in sets)
    dpdata = load_extra("dpdata")
    system = (dpdata.LabeledSystem if labelled else dpdata.System)(str(folder), fmt="deepmd/npy")
    data: dict[str, Any] = system.data
    n_frames = len(data["coords"])
    # The layout deepmd/npy/mixed has types frame by frame, -1 for atoms that only fill up the array.
    types = data.get("real_atom_types", np.broadcast_to(data["atom_types"], (n_frames, len(data["atom_types"]))))
    _check_types(folder, types, len(numbers))

    def frame(k: int) -> Frame:
        real = types[k] >= 0
        return Frame(
            numbers=numbers[types[k][real]],
            positions=np.array(data["coords"][k][real], dtype=np.float64),
            cell=np.array(data["cells"][k], dtype=np.float64),
            pbc=np.full(3, not data.get("nopbc", False)),
            energy=float(data["energies"][k]) if "energies" in data else None,
            forces=np.array(data["forces"][k][real], dtype=np.float64) if "forces" in data else None,
            virial=np.array(data["virials"][k], dtype=np.float64) if "virials" in data else None,
            source=f"{folder}, frame {k}",
        )

    return [frame(k) for k in range(n_frames)]


def _atomic_numbers(folder: Path) -> NDArray[np.int64]:
    """Atomic number of each type."""
    path = folder / "type_map.raw"
    if not path.is_file():
        raise InputError(f"{folder}: has no type_map.raw; add one with the element of each type in type.raw, in order")
    known = load_extra("ase.data").atomic_numbers
    names = path.read_text().split()
    for name in names:
        if name not in known:
            raise InputError(f"{path}: each name must be a chemical symbol, got {name!r}")
    return np.array([known[name] for name in names], dtype=np.int64)


def _check_types(folder: Path, types: NDArray[np.int64], n_names: int) -> None:
    if types.max(initial=-1) >= n_names:
        raise InputError(f"{folder}: type {types.max()} must have a name, got {n_names} names; complete type_map.raw")
