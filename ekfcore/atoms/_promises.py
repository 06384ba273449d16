"""Checks that files are complete: counts in headers are compared with the contents before a reader relies on them.

Readers stop silently if a list is shorter than its header says or the title of a frame is missing, and some loop up to
any number in a header. The checks here are few and cheap.
"""

import logging
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from ekfcore.errors import InputError

from ._extra import load_extra

__all__ = ["check_dump", "check_promises", "warn_unfinished"]

_log = logging.getLogger(__name__)

_END = re.compile(rb"[ -~\s]*\d\.?(?:[eE][-+]?)?")  # text that ends in a number, without a newline
_MOST_TYPES = 1000
_TAIL = 200  # [bytes] at the end of a file that are searched
# Files that programs write into a folder while they run.
_WRITTEN = ("*.log", "*.xyz", "OUT.*/running_*.log", "OUT.*/MD_dump")


def check_promises(path: Path, format: str, source: str) -> None:
    """Refuse a file that is cut off, or whose frames do not match its headers.

    Parameters
    ----------
    path : Path
        File without compression, folder, or common prefix of several files.
    format : str
        Name of the format in ASE or dpdata.
    source : str
        Name of the file in messages.

    Raises
    ------
    InputError
        One line that names the frame if it is known.
    """
    check = next((check for formats, check in _CHECKS.items() if format in formats), None)
    if check is not None:
        check(path, source)


def warn_unfinished(path: Path, source: str) -> None:
    """Warn of a text that ends in a number without a newline: the number may be cut off, which no reader can detect.

    Parameters
    ----------
    path : Path
        As for `check_promises`.
    source : str
        Name of the file in messages.
    """
    if path.is_dir():
        files = [file for pattern in _WRITTEN for file in sorted(path.glob(pattern)) if file.is_file()]
    else:
        files = [path] if path.is_file() else sorted(path.parent.glob(f"{path.name}.*"))
    for file in files:
        if _ends_in_a_number(file):
            name = source if file == path else file
            _log.warning("%s: does not end with a newline; if it was cut off, its last number is wrong", name)


def _ends_in_a_number(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return _END.fullmatch(file.read()) is not None


def check_dump(text: str, source: str) -> None:
    """Refuse a dump of LAMMPS in which a list of atoms is missing or has a wrong length.

    Raises
    ------
    InputError
        One line that names the frame.
    """
    promised, frame, begun = "", -1, 0
    for part in re.split(r"^ITEM: ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        if title.startswith("TIMESTEP"):
            begun += 1
        elif title.startswith("NUMBER OF ATOMS"):
            promised = next(iter(body.split()), "")
        elif title.startswith("ATOMS"):
            frame += 1
            held = sum(bool(line.strip()) for line in body.splitlines())
            if promised != str(held):
                raise InputError(f"{source}, frame {frame}: must hold {promised[:20]} atoms, got {held}; {_CURE}")
    if begun != frame + 1:
        raise InputError(f"{source}: has {begun} time steps and {frame + 1} lists of atoms; {_CURE}")


def _extxyz(path: Path, source: str) -> None:
    """Check the number of lines of each frame, and for blank lines, where ASE would stop."""
    with path.open(errors="replace") as file:
        line, frame = next(file, ""), 0
        while line.strip():
            count = _integer(line)
            if count is None:
                return  # not extended XYZ; ASE will raise an error
            held = sum(1 for _ in islice(file, min(count, path.stat().st_size) + 1)) - 1
            if held < count:
                raise InputError(
                    f"{source}, frame {frame}: must hold {count} atoms, but the file ends after {max(0, held)}; {_CURE}"
                )
            line, frame = _after_vectors(file), frame + 1
        if any(rest.strip() for rest in file):
            raise InputError(f"{source}: has a blank line after {frame} frames, where ASE stops; remove it")


def _after_vectors(lines: Iterator[str]) -> str:
    """Return the next line that is not a lattice vector in the style of VMD."""
    return next((line for line in lines if not line.lstrip().startswith("VEC")), "")


def _integer(text: str) -> int | None:
    """Return the text as a number of atoms; None if it is not one."""
    return int(text) if text.strip().isdecimal() and len(text.strip()) < 20 else None


def _n2p2(path: Path, source: str) -> None:
    """Check that each frame has a begin and an end."""
    with path.open(errors="replace") as file:
        marks = [word for line in file if (word := line.strip()) in ("begin", "end")]
    wrong = next((k for k, word in enumerate([*marks, "begin"]) if word != ("begin", "end")[k % 2]), None)
    if wrong is not None:
        raise InputError(
            f"{source}, frame {wrong // 2}: must stand between begin and end, one of them is missing; {_CURE}"
        )


def _counts(pattern: str, files: str = "") -> Callable[[Path, str], None]:
    """Return a check of the numbers of atoms in a file: a file has more bytes than atoms."""

    def check(path: Path, source: str) -> None:
        for file in sorted(path.glob(files)) if files else [path]:
            size = file.stat().st_size
            with file.open(errors="replace") as lines:
                found = [int(word) for line in lines if (m := re.match(pattern, line)) for word in m[1].split()]
            if max(found, default=0) > size:
                raise InputError(f"{source}: cannot hold the {max(found)} atoms that {file.name} speaks of; {_CURE}")

    return check


def _types(path: Path, source: str) -> None:
    """Check the types in a dump of LAMMPS: dpdata loops over all types up to the largest."""
    column = None
    with path.open(errors="replace") as file:
        for line in file:
            words = line.split()
            if line.startswith("ITEM:"):
                column = words.index("type") - 2 if line.startswith("ITEM: ATOMS") and "type" in words else None
            elif column is not None and (_integer("".join(words[column : column + 1])) or 0) > _MOST_TYPES:
                raise InputError(f"{source}: cannot have a type {words[column]}; {_CURE}")


def _stru(path: Path, source: str) -> None:
    """Check the end of STRU: dpdata loops forever if nothing follows a title."""
    lines = (path / "INPUT").read_text(errors="replace").splitlines()
    stru = Path(load_extra("dpdata.formats.abacus.scf").get_geometry_in(str(path), lines))
    end = stru.read_text(errors="replace").rstrip().rpartition("\n")[2].partition("#")[0].strip()
    if re.fullmatch("[A-Z]+_[A-Z]+", end):
        raise InputError(f"{source}: {stru.name} ends after {end}; {_CURE}")


_CURE = "it is cut off or damaged: mend it, or take the frame out"
_CHECKS: dict[tuple[str, ...], Callable[[Path, str], None]] = {
    ("extxyz",): _extxyz,
    ("runnerdata",): _n2p2,
    ("vasp/outcar",): _counts(r"\s*ions per type\s*=([\s\d]*)$"),
    ("cp2k/aimd_output",): _counts(r"\s*(\d+)\s*$", "*pos*.xyz"),
    ("lammps/dump",): _types,
    ("abacus/scf", "abacus/md", "abacus/relax"): _stru,
}
