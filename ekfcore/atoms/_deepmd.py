"""Data of DeePMD-kit, in folders and in HDF5: ``type.raw``, ``type_map.raw``, ``set.*/*.npy``.

dpdata joins the arrays of all sets before it checks their lengths, so that an extra energy in one set shifts those of
the next. Here each set is checked separately.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._dpdata import check_types, frames_of
from ._elements import atomic_numbers
from ._extra import load_extra
from ._options import ReadOptions
from ._promises import warn_unfinished
from .frame import Frame

__all__ = ["find_deepmd", "read_deepmd", "read_hdf5"]

_log = logging.getLogger(__name__)

# For each array of a set: its name in dpdata, and its numbers for each frame (None: three for each atom).
_ARRAYS = {
    "coord": ("coords", None),
    "box": ("cells", 9),
    "energy": ("energies", 1),
    "force": ("forces", None),
    "virial": ("virials", 9),
}
_TYPES = "real_atom_types"


class _Store(Protocol):
    """A folder, or a group of an HDF5 file."""

    def names(self) -> list[str]: ...
    def words(self, name: str) -> list[str]: ...
    def array(self, name: str) -> NDArray[Any]: ...
    def below(self, name: str) -> "_Store": ...


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def words(self, name: str) -> list[str]:
        return (self._path / name).read_text().split()

    def array(self, name: str) -> NDArray[Any]:
        path = self._path / name
        if path.suffix != ".raw":
            return np.asarray(np.load(path))
        warn_unfinished(path, str(path))
        return np.loadtxt(path, ndmin=2)

    def below(self, name: str) -> _Store:
        return _Folder(self._path / name)


class _Group:
    def __init__(self, group: Any) -> None:
        self._group = group

    def names(self) -> list[str]:
        return sorted(self._group)

    def words(self, name: str) -> list[str]:
        values = np.ravel(self._group[name][()]).tolist()
        return [value.decode() if isinstance(value, bytes) else str(value) for value in values]

    def array(self, name: str) -> NDArray[Any]:
        return np.asarray(self._group[name][()])

    def below(self, name: str) -> _Store:
        return _Group(self._group[name])


def find_deepmd(folder: Path) -> list[Path]:
    """Find DeePMD-kit data in a folder and below it.

    Parameters
    ----------
    folder : Path
        An existing folder.

    Returns
    -------
    list of Path
        Every folder with a file ``type.raw``, `folder` itself included, sorted.
    """
    return sorted(path.parent for path in folder.rglob("type.raw"))


def read_deepmd(folder: Path, options: ReadOptions) -> list[Frame]:
    """Read all frames of one folder; atoms stay in the order of the files.

    Parameters
    ----------
    folder : Path
        Folder with ``type.raw``. A file ``nopbc`` in it means an isolated molecule.
    options : ReadOptions
        Elements of the types, if ``type_map.raw`` is missing.

    Returns
    -------
    list of Frame
        In double precision; the virial of DeePMD-kit has the sign of ours.

    Raises
    ------
    InputError
        If names, types, sets or the lengths of arrays are missing or do not fit together.
    """
    return _read(_Folder(folder), str(folder), options)


def read_hdf5(file: Path, group: str, options: ReadOptions) -> list[Frame]:
    """Read a group of an HDF5 file, and the groups below it.

    Parameters
    ----------
    file : Path
        The file, with any suffix.
    group : str
        Group to read; empty for the whole file.
    options : ReadOptions
        As for `read_deepmd`.

    Returns
    -------
    list of Frame
        Group by group in the order of their names.

    Raises
    ------
    InputError
        As for `read_deepmd`, and if the group does not exist or has no data.
    """
    with load_extra("h5py").File(file, "r") as root:
        name = group.strip("/")
        if name and name not in root:
            raise InputError(f"{file}#{group}: has no such group, only {', '.join(sorted(root)[:12])}")
        frames: list[Frame] = []
        for each in _groups(root[name] if name else root):
            path = each.name.strip("/")
            # The group that the user named keeps its spelling.
            source = f"{file}#{group}" if path == name and group else f"{file}#{path}".removesuffix("#")
            frames += _read(_Group(each), source, options)
        if not frames:
            place = f"{file}#{group}" if group else file
            raise InputError(f"{place}: holds no data of DeePMD-kit (no type.raw in it or below)")
        return frames


def _groups(group: Any) -> Iterator[Any]:
    """Yield the groups with ``type.raw``, this one or those below it."""
    if "type.raw" in group:
        yield group
        return
    for name in sorted(group):
        if hasattr(group[name], "keys"):
            yield from _groups(group[name])


def _read(store: _Store, source: str, options: ReadOptions) -> list[Frame]:
    options.only(source, "data of DeePMD-kit", "type_map")
    names = store.names()
    types = np.array(store.words("type.raw"), dtype=np.int64)
    numbers = _numbers(store, names, source, options, count=int(types.max(initial=-1)) + 1)
    check_types(source, types, len(numbers))
    sets = [name for name in names if name.startswith("set.")]
    if not sets and "coord.raw" not in names:
        raise InputError(f"{source}: holds no set.* folder; convert the data to deepmd/npy, for example with dpdata")
    isolated, frames = "nopbc" in names, list[Frame]()
    unused: set[str] = set()
    for name in sets or [""]:
        place = f"{source}/{name}".rstrip("/")
        arrays, others = _arrays(store.below(name) if name else store, "npy" if name else "raw")
        unused |= others
        system = {"atom_types": types, "nopbc": isolated, **_system(arrays, len(types), place, isolated)}
        frames += frames_of(system, numbers, source, first=len(frames))
    if unused:
        _log.warning("%s: not used: %s", source, ", ".join(sorted(unused)))
    return frames


def _numbers(store: _Store, names: list[str], source: str, options: ReadOptions, *, count: int) -> NDArray[np.int64]:
    """Return the atomic number of each type."""
    if "type_map.raw" in names:
        place, own = f"{source}/type_map.raw", store.words("type_map.raw")
        if isinstance(options.type_map, list | tuple) and list(options.type_map) != own:
            raise InputError(f"{place}: says {' '.join(own)}, and type_map {' '.join(options.type_map)}; remove one")
        return atomic_numbers(own, place, options.type_map if isinstance(options.type_map, dict) else None)
    if isinstance(options.type_map, dict):
        return atomic_numbers([options.type_map.get(str(n), str(n)) for n in range(count)], source)
    known = options.type_map or options.elements
    if known is None:
        raise InputError(
            f"{source}: has no type_map.raw; add one with the element of each type in type.raw, in order, "
            'or say it with type_map = ["O", "H"]'
        )
    if options.type_map is None:
        _log.warning("%s: has no type_map.raw; its types are taken for the model's %s", source, ", ".join(known))
    return atomic_numbers(list(known), source)


def _arrays(store: _Store, suffix: str) -> tuple[dict[str, NDArray[Any]], set[str]]:
    """Return the arrays of a set, and the names of unused files."""
    files = [name for name in store.names() if name.endswith(f".{suffix}") and not name.startswith("type")]
    known = [name for name in files if name.rpartition(".")[0] in (*_ARRAYS, _TYPES)]
    return {name.rpartition(".")[0]: store.array(name) for name in known}, {*files} - {*known}


def _system(arrays: dict[str, NDArray[Any]], n_atoms: int, source: str, isolated: bool) -> dict[str, NDArray[Any]]:
    """Return the arrays of a set under the names of dpdata, after checking that their shapes match."""
    if "coord" not in arrays:
        raise InputError(f"{source}: has no coord.npy; add it, or remove the set")
    n_frames = len(arrays["coord"])
    if isolated:
        arrays = {**arrays, "box": np.zeros((n_frames, 9))}
    elif "box" not in arrays:
        raise InputError(f"{source}: has no box.npy; add it, or an empty file nopbc beside type.raw for molecules")
    elif not np.any(arrays["box"], axis=tuple(range(1, arrays["box"].ndim))).all():
        raise InputError(
            f"{source}: box.npy has boxes of zeros; put an empty file nopbc beside type.raw if these are molecules"
        )
    system = {}
    for name, array in arrays.items():
        key, width = _ARRAYS.get(name, (_TYPES, n_atoms))
        width = 3 * n_atoms if width is None else width
        if len(array) != n_frames:
            raise InputError(
                f"{source}: {name} has {len(array)} frames and coord {n_frames}; they must be those of the same frames"
            )
        if array.size != n_frames * width:
            raise InputError(f"{source}: {name} must have {width} numbers for each frame, got shape {array.shape}")
        shape = {"energies": (n_frames,), _TYPES: (n_frames, n_atoms)}.get(key, (n_frames, -1, 3))
        system[key] = array.reshape(shape)
    return system
