"""From files of many formats to validated frames."""

import bz2
import gzip
import logging
import lzma
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ekfcore.errors import InputError

from ._deepmd import find_deepmd, read_deepmd
from ._dpdata import read_dpdata
from ._extra import load_extra
from ._labels import energy_gap
from ._movement import is_movement, read_movement
from .frame import Frame, validate_frame

__all__ = ["read_frames", "split_frames"]

# dpdata takes atoms of interleaved species and the virial of PWmat for others than they are.
_OURS = ("deepmd/npy", "pwmat/movement", "pwmat/mlmd")

_GAP = 1e-3  # [eV/atom] between energy and free energy, above which it is told which of them is taken
_log = logging.getLogger(__name__)

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def read_frames(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    require: Collection[str] = ("energy", "forces"),
    format: str | None = None,
) -> list[Frame]:
    """Read frames from one or several places and check each of them.

    Parameters
    ----------
    paths : path or sequence of paths
        Each a file that ASE reads (extended XYZ, also compressed; ASE database; OUTCAR; ...), a PWmat ``MOVEMENT``, a
        deepmd/npy folder, a folder of such folders, or ``file.hdf5#group`` of DeePMD-kit.
    format : str, optional
        What dpdata calls the format, as in ``"cp2k/output"``, or what ASE calls it, as in ``"vasp-out"``; names with a
        slash are dpdata's. Without it, the format is recognised from the file.
    require : collection of str
        Labels that every frame must have: any of ``"energy"``, ``"forces"`` and ``"virial"``.

    Returns
    -------
    list of Frame
        In the order of the paths and of the frames in them. A file with energies and free energies that differ is
        named in a warning of `logging`, once: the free energy is taken.

    Raises
    ------
    InputError
        One line that names the path, and the frame where one is at fault.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    frames = [frame for path in paths for frame in _read(Path(path), format)]
    if not frames:
        raise InputError("no data files given; name at least one")
    for frame in frames:
        validate_frame(frame, require=require)
    return frames


def split_frames(frames: Sequence[Frame], test_fraction: float, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Set aside a random part of the frames for testing.

    Parameters
    ----------
    frames : sequence of Frame
        All frames.
    test_fraction : float
        Share of the frames to set aside, between 0 and 1, rounded to whole frames.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, test : list of Frame
        Both in the order of `frames`.

    Raises
    ------
    InputError
        If the fraction is not between 0 and 1, or one of the parts would be empty.
    """
    if not 0.0 < test_fraction < 1.0:
        raise InputError(f"test_fraction must lie between 0 and 1, got {test_fraction}")
    n_test = round(test_fraction * len(frames))
    if not 0 < n_test < len(frames):
        raise InputError(
            f"test_fraction = {test_fraction} must leave frames to train on and to test on, "
            f"got {len(frames) - n_test} and {n_test} of {len(frames)}; give more frames or another fraction"
        )
    chosen = set(np.random.default_rng(seed).permutation(len(frames))[:n_test].tolist())
    train = [frame for index, frame in enumerate(frames) if index not in chosen]
    test = [frame for index, frame in enumerate(frames) if index in chosen]
    return train, test


def _read(path: Path, format: str | None) -> list[Frame]:
    """Read one path, which may stand for several folders."""
    file, group, _ = str(path).partition(".hdf5#")
    if group and format is None:
        format = "deepmd/hdf5"
    if not os.path.exists(file + ".hdf5" if group else path):  # Path.exists raises on a name that is too long
        raise InputError(f"{path}: no such file or folder; check the spelling and the working directory")
    if format is not None and "/" in format and format not in _OURS:
        return _parse(lambda place: read_dpdata(str(place), format), path)
    if not path.is_dir():
        return _parse(lambda place: _read_file(place, format), path)
    folders = find_deepmd(path)
    if not folders:
        raise InputError(f"{path}: is a folder without deepmd/npy data (no type.raw in it or below); name a file in it")
    return [frame for folder in folders for frame in _parse(read_deepmd, folder)]


def _parse(read: Callable[[Path], list[Frame]], path: Path) -> list[Frame]:
    """Read one file or folder; whatever the parser stumbles over becomes one line."""
    try:
        frames = read(path)
    except InputError:
        raise
    except Exception as error:  # parsers raise anything on a bad file, AssertionError and StopIteration included
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:160]
        raise InputError(f"{path}: cannot be read ({reason}); it may be incomplete or of an unknown format") from None
    if not frames:
        raise InputError(f"{path}: holds no frames")
    return frames


def _read_file(path: Path, format: str | None) -> list[Frame]:
    with _unpacked(path) as plain:
        if plain.stat().st_size == 0:
            raise InputError(f"{path}: is empty")
        if is_movement(plain):
            return read_movement(plain, name=str(path))
        # Without do_not_split_by_at_sign ASE takes what follows an @ in a file name for frame numbers.
        images = load_extra("ase.io").read(str(plain), index=":", format=format, do_not_split_by_at_sign=True)
    frames = [Frame.from_ase(atoms, f"{path}, frame {index}") for index, atoms in enumerate(images)]
    _tell_energies_apart([energy_gap(atoms, f.source) for atoms, f in zip(images, frames, strict=True)], path)
    return frames


def _tell_energies_apart(gaps: Sequence[float], path: Path) -> None:
    """Say so once for a file whose energies and free energies [eV/atom] are not the same."""
    if count := sum(gap > _GAP for gap in gaps):
        _log.warning(
            "%s: energy and free_energy lie up to %.3g meV/atom apart (%d of %d frames); the free energy is taken, as "
            "the forces belong to it; remove free_energy from the file where the energy is meant",
            *(path, 1e3 * max(gaps), count, len(gaps)),
        )


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Give a file without compression: ASE jumps back to every frame, for which it would unpack all before it."""
    if path.suffix not in _OPEN:
        yield path
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder, path.stem)  # without .gz, but with the suffix by which ASE knows the format
        with _OPEN[path.suffix](path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
        yield plain
