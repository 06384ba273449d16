"""Reading of validated frames from files of many formats."""

import difflib
import glob
import logging
import os
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ekfcore.errors import InputError, one_line

from ._ase import format_of, read_ase, unpacked
from ._deepmd import find_deepmd, read_deepmd, read_hdf5
from ._dpdata import canonical_name, read_dpdata
from ._extra import load_extra
from ._movement import is_movement, read_movement
from ._options import ReadOptions
from ._promises import warn_unfinished
from ._recognise import looks_like, other_reader
from .frame import Frame, validate_frame

__all__ = ["read_frames", "split_frames"]

_log = logging.getLogger(__name__)
_LONGEST = 160  # characters of the message of a parser

# Formats of dpdata with other readers here: dpdata misreads interleaved species and virials of PWmat, does not check
# sets of DeePMD-kit, and includes the PSTRESS term in the energy of vasprun.xml; the other formats are those of ASE.
_MOVEMENT = "pwmat/movement"
_ASE = {"quip/gap/xyz": "extxyz", "ase/traj": "traj", "vasp/xml": "vasp-xml", "n2p2": "runnerdata"}
_DEEPMD = ("deepmd/npy", "deepmd/raw", "deepmd/npy/mixed", "deepmd/hdf5", "deepmd/hdf5/mixed")
_PREFIXES = ("qe/cp/traj", "openmx/md", "amber/md")  # the path is the common prefix of the files


def read_frames(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    require: Collection[str] = ("energy", "forces"),
    format: str | None = None,
    type_map: Sequence[str] | Mapping[str, str] | None = None,
    elements: Sequence[str] | None = None,
    energy_key: str | None = None,
    forces_key: str | None = None,
    virial_key: str | None = None,
    stress_key: str | None = None,
    weight_key: str | None = None,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keep_unconverged: bool = False,
) -> list[Frame]:
    """Read frames from one or several paths and check each of them.

    Parameters
    ----------
    paths : path or sequence of paths
        Each a file that ASE reads (extended XYZ, also compressed; ASE database; OUTCAR; ...), a PWmat ``MOVEMENT``, a
        deepmd/npy folder, a folder of such folders, an HDF5 file of DeePMD-kit or ``file.hdf5#group`` in one; or a
        pattern such as ``"run-*/OUTCAR"``.
    require : collection of str
        Labels that every frame must have: any of ``"energy"``, ``"forces"`` and ``"virial"``.
    format : str, optional
        Name of the format in dpdata, as in ``"cp2k/output"``, or in ASE, as in ``"vasp-out"``; ASE takes precedence if
        both know a name. By default, the format is recognised from the file.
    type_map : sequence or mapping, optional
        Elements of numbered types: those of the types 1, 2, ... in a file of LAMMPS, and of 0, 1, ... in data of
        DeePMD-kit; or the element of each name that is not a chemical symbol, as in ``{"D": "H", "Fe1": "Fe"}``.
    elements : sequence of str, optional
        Elements of the model, used for the types of data of DeePMD-kit without ``type_map.raw``.
    energy_key, forces_key, virial_key, stress_key, weight_key : str, optional
        Names of the labels in files that ASE reads.
    energy_unit, length_unit : str, optional
        Units of the numbers in extended XYZ or in the input.data of n2p2, as ``"hartree"`` and ``"bohr"``.
    keep_unconverged : bool
        Keep the frames whose electronic steps did not converge.

    Returns
    -------
    list of Frame
        Frames in the order of the paths and of the files. A warning of `logging`, once for each file, names data that
        were left out, not used, or interpreted by a guess. If energies and free energies differ, the free energies are
        used.

    Raises
    ------
    InputError
        One line that names the path, and the faulty frame if there is one.
    """
    options = ReadOptions(
        format=format,
        type_map=type_map,
        elements=elements,
        energy_key=energy_key,
        forces_key=forces_key,
        virial_key=virial_key,
        stress_key=stress_key,
        weight_key=weight_key,
        energy_unit=energy_unit,
        length_unit=length_unit,
        keep_unconverged=keep_unconverged,
    )
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    frames = [frame for path in paths for place in _places(path) for frame in _read(place, options)]
    if not frames:
        raise InputError("no data files given; name at least one")
    for frame in frames:
        validate_frame(frame, require=require)
    return frames


def split_frames(frames: Sequence[Frame], test_fraction: float, seed: int) -> tuple[list[Frame], list[Frame]]:
    """Split the frames at random into training and test frames.

    Every element stays in the training frames: if the draw sets all frames of an element aside, the first of them is
    put back.

    Parameters
    ----------
    frames : sequence of Frame
        All frames.
    test_fraction : float
        Share of test frames, between 0 and 1, rounded to whole frames.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    train, test : list of Frame
        Both in the order of `frames`.

    Raises
    ------
    InputError
        If the fraction is not between 0 and 1, or a part would be empty.
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
    _keep_elements(frames, chosen)
    if not chosen:
        raise InputError(
            f"test_fraction = {test_fraction} leaves no frame to test on: each that it chose is the only one of an "
            "element; give more frames"
        )
    train = [frame for index, frame in enumerate(frames) if index not in chosen]
    test = [frame for index, frame in enumerate(frames) if index in chosen]
    return train, test


def _keep_elements(frames: Sequence[Frame], chosen: set[int]) -> None:
    """Remove frames from `chosen` until every element has a frame outside of it."""
    held = [set(frame.numbers.tolist()) for frame in frames]
    kept = set().union(*(numbers for index, numbers in enumerate(held) if index not in chosen))
    for index in sorted(chosen):
        if not held[index] <= kept:
            chosen.discard(index)
            kept |= held[index]


def _places(path: str | os.PathLike[str]) -> list[Path]:
    """Return the path itself if it exists, or the paths that match it as a pattern."""
    text = os.fspath(path)
    if os.path.exists(text):  # Path.exists raises on a name that is too long
        return [Path(text)]
    head, _, group = text.rpartition("#")
    for pattern, end in ((text, ""), (head, f"#{group}")):
        if found := _matches(pattern):
            return [Path(f"{each}{end}") for each in found]
    if glob.has_magic(head or text):
        raise InputError(f"{text}: matches no file or folder; check the spelling and the working directory")
    return [Path(text)]


def _matches(pattern: str) -> list[str]:
    """Return the matches of a pattern; its existing leading part is literal, even with special characters."""
    root = next((str(each) for each in Path(pattern).parents if os.path.exists(each)), ".")
    rest = os.path.relpath(pattern, root) if pattern else ""
    return sorted(glob.glob(os.path.join(glob.escape(root), rest), recursive=True)) if glob.has_magic(rest) else []


def _read(path: Path, options: ReadOptions) -> list[Frame]:
    """Read one path, which may contain several folders of data."""
    name = _format_of_dpdata(path, options)
    if name not in (None, _MOVEMENT, *_ASE, *_DEEPMD):
        return _read_with_dpdata(path, str(name), options)
    file, _, group = str(path).partition("#")
    if not os.path.exists(path) and os.path.isfile(file):
        return _parse(lambda place: read_hdf5(place, group, options), Path(file), name=str(path))
    if not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder; check the spelling and the working directory")
    if not path.is_dir():
        return _parse(lambda place: _read_file(place, name, options), path, other=other_reader(options.format))
    folders = find_deepmd(path)
    if not folders:
        raise InputError(
            f"{path}: is a folder without deepmd/npy data (no type.raw in it or below); {looks_like(path)}"
        )
    return [frame for folder in folders for frame in _parse(lambda place: read_deepmd(place, options), folder)]


def _format_of_dpdata(path: Path, options: ReadOptions) -> str | None:
    """Return the format if dpdata reads it; None if ASE does, or if the format must be recognised."""
    name = options.format
    if name is None or name in (ours := load_extra("ase.io.formats").ioformats):
        return None
    found = canonical_name(name)
    if found is None:
        known = sorted(load_extra("dpdata.format").Format.get_formats())
        if "/" in name:
            # Names without a slash are aliases.
            names = ", ".join(each for each in known if "/" in each)
            raise InputError(f"{path}: dpdata knows no format {name!r}, only {names}")
        near = difflib.get_close_matches(name, [*ours, *known], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see docs/how-to/data.md for their names"
        raise InputError(f"{path}: neither ASE nor dpdata knows a format {name!r}; {hint}")
    return found


def _read_with_dpdata(path: Path, name: str, options: ReadOptions) -> list[Frame]:
    files = glob.glob(f"{glob.escape(str(path))}.*") if name in _PREFIXES else []
    if not files and not os.path.exists(path):
        raise InputError(f"{path}: no such file or folder; check the spelling and the working directory")

    def read(place: Path) -> list[Frame]:
        with unpacked(place) as plain:
            warn_unfinished(plain, str(path))
            return read_dpdata(plain, name, options, source=str(path))

    return _parse(read, path, other=other_reader(name))


def _parse(read: Callable[[Path], list[Frame]], path: Path, *, name: str = "", other: str = "") -> list[Frame]:
    """Read one file or folder; any error of the parser becomes one line."""
    name, hint = name or str(path), f'try format = "{other}"' if other else ""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")  # warnings of non-finite numbers and of deprecations
            warnings.simplefilter("always", UserWarning)
            frames = read(path)
    except InputError:
        raise
    except Exception as error:  # parsers raise anything on a bad file, AssertionError and StopIteration included
        raise InputError(f"{name}: cannot be read ({one_line(error, _LONGEST)}); {hint or looks_like(path)}") from None
    for message in dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught):
        _log.warning("%s: its reader says: %s", name, message[:_LONGEST])
    if not frames:
        raise InputError(f"{name}: holds no frames; {hint or looks_like(path)}")
    return frames


def _read_file(path: Path, name: str | None, options: ReadOptions) -> list[Frame]:
    """Read a file with a reader of ekfcore or with ASE, or with dpdata if ASE fails."""
    source = str(path)
    with unpacked(path) as plain:
        if plain.stat().st_size == 0:
            raise InputError(f"{path}: is empty")
        warn_unfinished(plain, source)
        if name == _MOVEMENT or is_movement(plain):
            options.only(source, "a MOVEMENT of PWmat")
            return read_movement(plain, name=source)
        if name in _DEEPMD or (options.format is None and _is_hdf5(plain)):
            return read_hdf5(plain, "", options)
        format = _ASE[name] if name is not None else options.format or format_of(plain)
        try:
            return read_ase(plain, format, options, source=source)
        except InputError:
            raise
        except Exception as error:  # parsers raise exceptions of any type
            other = other_reader(format)
            if options.format is not None or not other:
                raise
            try:
                frames = read_dpdata(plain, other, options, source=source)
            except Exception:
                raise error from None
            _log.warning(
                "%s: ASE cannot read it (%s), dpdata can, as format %s", source, one_line(error, _LONGEST), other
            )
            return frames


def _is_hdf5(path: Path) -> bool:
    """Whether a file has the signature of HDF5 and is not a trajectory of netCDF, which has it as well."""
    with path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n" and path.suffix != ".nc"
