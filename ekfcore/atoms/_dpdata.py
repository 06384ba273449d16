"""Whatever dpdata reads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._extra import load_extra
from .frame import Frame

__all__ = ["atomic_numbers", "check_types", "frames_of", "read_dpdata"]


def read_dpdata(path: str, name: str) -> list[Frame]:
    """Read frames with dpdata.

    Parameters
    ----------
    path : str
        File or folder; for ``deepmd/hdf5`` also ``file.hdf5#group``.
    name : str
        What dpdata calls the format, as in ``vasp/outcar``.

    Raises
    ------
    InputError
        If dpdata knows no such format.
    """
    dpdata = load_extra("dpdata")
    known = load_extra("dpdata.format").Format.get_formats()
    if name not in known:
        # What has no slash in its name is a short name for another.
        names = ", ".join(sorted(each for each in known if "/" in each))
        raise InputError(f"{path}: dpdata knows no format {name!r}, only {names}")
    try:
        systems = [dpdata.LabeledSystem(path, fmt=name)]
    except NotImplementedError:  # without labels, or in several systems
        try:
            systems = [dpdata.System(path, fmt=name)]
        except NotImplementedError:
            systems = list(dpdata.MultiSystems().load_systems_from_file(path, fmt=name).systems.values())
    return [
        frame
        for system in systems
        for frame in frames_of(system.data, atomic_numbers(system.data["atom_names"], path), path)
    ]


def frames_of(data: dict[str, Any], numbers: NDArray[np.int64], source: str) -> list[Frame]:
    """Return the frames of what dpdata calls a system.

    Parameters
    ----------
    data : dict
        Of one system.
    numbers : array of int
        Atomic number of each type.
    source : str
        Where it comes from.
    """
    n_frames = len(data["coords"])
    # The layout deepmd/npy/mixed has types frame by frame, -1 for atoms that only fill up the array.
    types = data.get("real_atom_types", np.broadcast_to(data["atom_types"], (n_frames, len(data["atom_types"]))))
    check_types(source, types, len(numbers))

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
            source=f"{source}, frame {k}",
        )

    return [frame(k) for k in range(n_frames)]


def atomic_numbers(names: list[str], source: str) -> NDArray[np.int64]:
    """Return the atomic number of each type.

    Raises
    ------
    InputError
        If a name is no chemical symbol.
    """
    known = load_extra("ase.data").atomic_numbers
    for name in names:
        if name not in known:
            raise InputError(f"{source}: each name must be a chemical symbol, got {name!r}")
    return np.array([known[name] for name in names], dtype=np.int64)


def check_types(source: str, types: NDArray[np.int64], n_names: int) -> None:
    """Refuse types without a name, which the layouts of DeePMD-kit can have.

    Raises
    ------
    InputError
        If there is one.
    """
    if types.max(initial=-1) >= n_names:
        raise InputError(f"{source}: type {types.max()} must have a name, got {n_names} names; complete type_map.raw")
