"""Elements of types and units in files of LAMMPS, which ASE would guess."""

import logging
import re
from io import StringIO
from pathlib import Path
from typing import Any

from ekfcore.errors import InputError

from ._elements import atomic_numbers, type_names
from ._extra import load_extra
from ._options import ReadOptions
from ._promises import check_dump

__all__ = ["DUMP", "FORMATS", "open_lammps"]

_log = logging.getLogger(__name__)

DUMP = "lammps-dump-text"
FORMATS = (DUMP, "lammps-data")


def open_lammps(path: Path, format: str, options: ReadOptions, source: str) -> tuple[StringIO, dict[str, Any]]:
    """Return a file of LAMMPS, and the keywords for ASE's reader.

    Parameters
    ----------
    path : Path
        The file.
    format : str
        One of `FORMATS`.
    options : ReadOptions
        Elements of its types.
    source : str
        Name of the file in messages.

    Returns
    -------
    file : StringIO
        The file, with elements replaced by their symbols.
    words : dict
        Keywords of the reader.

    Raises
    ------
    InputError
        If the elements of the atoms are unknown, or a frame is incomplete.
    """
    text = path.read_text(errors="replace")
    if format == DUMP:
        return _dump(text, options, source)
    count = re.search(r"^\s*(\d+)\s+atom types", text, re.MULTILINE)
    if options.type_map is not None:
        elements = type_names(options.type_map, int(count[1]) if count else 0, source, first=1)
        numbers = atomic_numbers(elements, source).tolist()
        return StringIO(text), {"Z_of_type": dict(enumerate(numbers, 1))}
    if count and re.search(r"^\s*Masses", text, re.MULTILINE) is None:
        raise InputError(f"{source}: {_UNNAMED}")
    if count:
        _log.warning("%s: %s", source, _BY_MASS)
    return StringIO(text), {}


def _dump(text: str, options: ReadOptions, source: str) -> tuple[StringIO, dict[str, Any]]:
    check_dump(text, source)
    words: dict[str, Any] = {}
    columns = re.search(r"^ITEM: ATOMS (.*)", text, re.MULTILINE)
    names = columns[1].split() if columns else []
    if units := re.search(r"^ITEM: UNITS\s+(\w+)", text, re.MULTILINE):
        words["units"] = units[1]
    elif {"fx", "fy", "fz"} <= set(names):
        _log.warning("%s: does not name its units; forces are taken as eV/Å (units metal)", source)
    if "element" in names:
        return StringIO(_with_symbols(text, options, source)), words
    if options.type_map is not None:
        words["specorder"] = type_names(options.type_map, len(options.type_map), source, first=1)
        atomic_numbers(words["specorder"], source)
        return StringIO(re.sub(r"^(ITEM: ATOMS.*)\bmass\b", r"\1v_mass", text, flags=re.MULTILINE)), words
    if columns and "mass" not in names:
        raise InputError(f"{source}: {_UNNAMED}")
    if columns:
        _log.warning("%s: %s", source, _BY_MASS)
    return StringIO(text), words


def _with_symbols(text: str, options: ReadOptions, source: str) -> str:
    """Replace the names in the column of elements by symbols."""
    symbols = load_extra("ase.data").chemical_symbols
    known: dict[str, str] = {}
    lines, place = [], None
    for line in text.splitlines():
        words = line.split()
        if line.startswith("ITEM:"):
            place = words.index("element") - 2 if line.startswith("ITEM: ATOMS") else None
        elif place is not None and words:
            if words[place] not in known:
                known[words[place]] = symbols[atomic_numbers([words[place]], source, options.type_map)[0]]
            words[place] = known[words[place]]
        lines.append(line if place is None or line.startswith("ITEM:") else " ".join(words))
    return "\n".join(lines) + "\n"


_UNNAMED = 'its types are numbers; name their elements, as in type_map = ["O", "H"]'
_BY_MASS = "its elements are guessed from the masses of the atoms; type_map names them"
