"""Reading with ASE, with checks and labels that ASE omits."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import bz2
import gzip
import logging
import lzma
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from ekfcore.errors import InputError

from ._convergence import check_some_converged, converged, steps_of
from ._elements import atomic_numbers, check_map
from ._extra import load_extra
from ._extxyz import SPECIES, read_header
from ._labels import CONVERGED, Labels, energy_gap, labels_of
from ._lammps import DUMP, FORMATS, open_lammps
from ._options import ReadOptions
from ._promises import check_promises
from ._units import unit
from .frame import Frame

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["format_of", "read_ase", "unpacked"]

_GAP = 1e-3  # [eV/atom] difference of energy and free energy above which a warning says which of them is taken
_log = logging.getLogger(__name__)

_OPEN: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}

_N2P2 = "runnerdata"
_LABELS = {"energy", "free_energy", "forces", "stress"} | {"energies", "stresses"}  # the last two are per atom
_DATABASES = ("db", "json")


def format_of(path: Path) -> str:
    """Return ASE's name of the format of a file."""
    return str(load_extra("ase.io.formats").filetype(str(path)))


def read_ase(path: Path, format: str, options: ReadOptions, *, source: str) -> list[Frame]:
    """Read frames with ASE.

    Parameters
    ----------
    path : Path
        A file without compression.
    format : str
        ASE's name of the format.
    options : ReadOptions
        What the user states about the file.
    source : str
        Name of the file in messages.

    Returns
    -------
    list of Frame
        Frames that did not converge are left out. A warning of `logging` names them, and another one the data in the
        file that were not used.

    Raises
    ------
    InputError
        If an option does not apply to the file, the file is cut off, or no frame has converged.
    """
    if options.type_map is not None and format not in ("extxyz", *FORMATS):
        raise InputError(f"{source}: type_map has no meaning for the format {format}; remove it")
    check_promises(path, format, source)
    steps = [] if options.keep_unconverged or format == "extxyz" else steps_of(path, format)
    check_some_converged(steps, source)
    images = _images(path, format, options, source)
    names = [f"{source}, frame {index}" for index in range(len(images))]
    # ASE has converted the units of n2p2 already, assuming Hartree and Bohr; `_in_units` corrects them.
    label_options = replace(options, energy_unit=None, length_unit=None) if format == _N2P2 else options
    labels = [labels_of(atoms, name, label_options) for atoms, name in zip(images, names, strict=True)]
    _check_keys(labels, options, source)
    frames = [Frame.from_ase(*each[:2], labels=each[2]) for each in zip(images, names, labels, strict=True)]
    if format == _N2P2:
        frames = _in_units(frames, options, source)
    if options.energy_key is None:
        _warn_of_energy_gaps([energy_gap(atoms, name) for atoms, name in zip(images, names, strict=True)], source)
    _warn_of_names(labels, images if format == "extxyz" else [], source)
    if format == "extxyz" and not options.keep_unconverged:
        steps = [_is_converged(atoms) for atoms in images]
    frames = converged(frames, steps, source)
    # pw.x repeats some structures without labels.
    return [f for f in frames if f.energy is not None or f.forces is not None] if format == "espresso-out" else frames


def _images(path: Path, format: str, options: ReadOptions, source: str) -> "list[Atoms]":
    """Return the configurations that ASE reads, with the elements of the type map."""
    file: str | StringIO = str(path)
    words: dict[str, Any] = {}
    if format == "extxyz":
        words["properties_parser"] = read_header
    elif format == "espresso-out":
        words["results_required"] = False  # otherwise steps without results would be missing without notice
    elif format in FORMATS:
        file, words = open_lammps(path, format, options, source)
    images = _read(file, format, words, source)
    if format == "extxyz":
        check_map({name for atoms in images for name in atoms.arrays.get(SPECIES, ())}, source, options.type_map)
    for index, atoms in enumerate(images):
        atoms.info = {**atoms.info.pop("key_value_pairs", {}), **atoms.info}
        if SPECIES in atoms.arrays:
            _name_elements(atoms, f"{source}, frame {index}", options)
        elif format == _N2P2:
            # The format requires these fields, which are zero in most files.
            if not np.any(atoms.arrays.get("atom_energy", 0)):
                atoms.arrays.pop("atom_energy", None)
            if not atoms.info.get("total_charge"):
                atoms.info.pop("total_charge", None)
        elif format == DUMP and atoms.calc is not None:
            atoms.calc.results.pop("energy", None)  # ASE sets it to 0 for a dump with forces
    return images


def _read(file: str | StringIO, format: str, words: dict[str, Any], source: str) -> "list[Atoms]":
    read = load_extra("ase.io").read
    if format in _DATABASES:  # `read` would leave out the key-value pairs of the rows
        with load_extra("ase.db").connect(file, serial=True) as database:
            return [row.toatoms(add_additional_information=True) for row in database.select()]
    try:
        # Without do_not_split_by_at_sign ASE interprets the part of a file name after an @ as frame numbers.
        images: list[Atoms] = read(file, index=":", format=format, do_not_split_by_at_sign=True, **words)
    except InputError as error:  # raised by `read_header`, which does not know the name of the file
        raise InputError(f"{source}: {error}") from None
    except IndexError:
        if "specorder" not in words:
            raise
        count = len(words["specorder"])
        raise InputError(f"{source}: has a type beyond {count}, the last that type_map names; add the others") from None
    return images


def _name_elements(atoms: "Atoms", source: str, options: ReadOptions) -> None:
    """Set the elements from the names of the atoms in the file; a column of atomic numbers takes precedence."""
    names = list(atoms.arrays.pop(SPECIES))
    if atoms.numbers.any() and options.type_map is None:
        return
    atoms.numbers = atomic_numbers(names, source, options.type_map)
    if atoms.calc is not None:
        atoms.calc.atoms = atoms.copy()  # results are valid only for the atoms that the calculator holds


def _in_units(frames: Sequence[Frame], options: ReadOptions, source: str) -> list[Frame]:
    """Return frames, which ASE has read as Bohr and Hartree, converted from their actual units."""
    units = load_extra("ase.units")
    energy, length = options.energy_unit or "hartree", options.length_unit or "bohr"
    _log.warning(
        "%s: lengths are taken as %s and energies as %s; length_unit and energy_unit say otherwise",
        source,
        length,
        energy,
    )
    e, r = unit(energy, "energy", source) / units.Hartree, unit(length, "length", source) / units.Bohr
    return [
        replace(
            frame,
            positions=frame.positions * r,
            cell=frame.cell * r,
            energy=None if frame.energy is None else frame.energy * e,
            forces=None if frame.forces is None else frame.forces * (e / r),
        )
        for frame in frames
    ]


def _check_keys(labels: Sequence[Labels], options: ReadOptions, source: str) -> None:
    """Refuse a key that the user names for a label and no frame has."""
    found = frozenset[str]().union(*(each.keys for each in labels))
    for quantity in ("energy", "forces", "virial", "stress", "weight"):
        name = options.key(quantity)
        if name is not None and quantity not in found and labels:
            others = sorted({name for each in labels for name in each.unused})
            held = f"it has {', '.join(others[:12])}" if others else "it has no names beside those of ASE"
            raise InputError(f"{source}: no frame has {name}, which {quantity}_key names; {held}")


def _warn_of_names(labels: Sequence[Labels], images: "Sequence[Atoms]", source: str) -> None:
    """Warn once for a file of guessed names and of unused data, including results in `images`."""
    for text in dict.fromkeys(text for each in labels for text in each.notes):
        count = sum(text in each.notes for each in labels)
        _log.warning("%s: %s (%d of %d frames)", source, text, count, len(labels))
    results = {name for atoms in images if atoms.calc is not None for name in atoms.calc.results} - _LABELS
    unused = dict.fromkeys([*(name for each in labels for name in each.unused), *sorted(results)])
    if unused:
        _log.warning(
            "%s: not used: %s; energy_key, forces_key, virial_key, stress_key and weight_key name labels",
            source,
            ", ".join(unused),
        )


def _warn_of_energy_gaps(gaps: Sequence[float], source: str) -> None:
    """Warn once for a file whose energies and free energies differ; `gaps` are the differences [eV/atom]."""
    if count := sum(gap > _GAP for gap in gaps):
        _log.warning(
            "%s: energy and free_energy lie up to %.3g meV/atom apart (%d of %d frames); the free energy is taken, as "
            "the forces belong to it; remove free_energy from the file where the energy is meant",
            *(source, 1e3 * max(gaps), count, len(gaps)),
        )


def _is_converged(atoms: "Atoms") -> bool:
    """Whether a frame of extended XYZ is not marked as unconverged."""
    info: Mapping[str, Any] = {str(name).lower(): value for name, value in atoms.info.items()}
    return all(np.all(info.get(name, True)) for name in CONVERGED)


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the file uncompressed: ASE seeks to every frame, and would decompress all data before it each time."""
    if path.suffix not in _OPEN or path.is_dir():
        yield path
        return
    with TemporaryDirectory() as folder:
        plain = Path(folder, path.stem)  # without .gz, but with the suffix from which ASE recognises the format
        with _OPEN[path.suffix](path, "rb") as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file)
        yield plain
