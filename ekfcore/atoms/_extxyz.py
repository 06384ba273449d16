"""Header line of a frame of extended XYZ, with tolerance for case and for singular and plural.

ASE knows one spelling of each word. With another it returns a molecule without cell, atoms at the origin or no forces.
"""

import re
from typing import Any

import numpy as np

from ekfcore.errors import InputError

from ._extra import load_extra

__all__ = ["SPECIES", "read_header"]

SPECIES = "species as written"
"""Array for the names of the atoms; ASE would convert a column called species to elements."""

_MOST_COLUMNS = 10_000  # largest number of columns of a name; ASE has no limit
_COLUMNS = {"position": "pos", "positions": "pos", "symbol": "species", "symbols": "species", "element": "species"}


def read_header(line: str) -> dict[str, Any]:
    """Return the words with their values, in the form that ASE's reader of extended XYZ expects.

    Raises
    ------
    InputError
        If the lattice or the columns are invalid; the caller adds the name of the file.
    """
    extxyz = load_extra("ase.io.extxyz")
    try:
        info: dict[str, Any] = extxyz.key_val_str_to_dict(line)
    except ValueError:  # under the name stress, ASE accepts nine numbers only
        info = extxyz.key_val_str_to_dict(re.sub(r"\bstress(?=\s*=)", "stresses", line))
    for name in list(info):
        known = {"lattice": "Lattice", "cell": "Lattice", "pbc": "pbc", "properties": "Properties"}.get(name.lower())
        if known is not None and known not in info:
            info[known] = info.pop(name)
    if not np.isin(info.get("pbc", True), (0, 1)).all():
        raise InputError(f"pbc must be T or F for each direction, got {info['pbc']}")
    if "Lattice" in info:
        lattice = np.asarray(info["Lattice"])
        if lattice.size != 9 or lattice.dtype.kind not in "if":
            raise InputError(f"the lattice must be nine numbers, got {info['Lattice']}")
        info["Lattice"] = lattice if lattice.ndim == 2 else lattice.reshape((3, 3), order="F")  # as ASE expects it
    info["Properties"] = _columns(str(info.get("Properties", "species:S:1:pos:R:3")))
    return info


def _columns(text: str) -> str:
    """Return the columns with the names that ASE knows, and the column of elements renamed to `SPECIES`."""
    parts = text.split(":")
    names = [_COLUMNS.get(name.lower(), name) for name in parts[::3]]
    names = [next((known for known in ("species", "pos", "Z") if known.lower() == n.lower()), n) for n in names]
    if "pos" not in names or not {"species", "Z"} & set(names):
        raise InputError(f"Properties must have the columns species and pos, got {text}")
    kinds = parts[1::3]
    if not all(count.isdecimal() and 0 < int(count) <= _MOST_COLUMNS for count in parts[2::3]):
        raise InputError(f"Properties must give each name a letter and a number of columns, got {text}")
    if "species" in names:
        place = names.index("species")
        names[place], kinds[place] = SPECIES, "S"
    return ":".join(":".join(column) for column in zip(names, kinds, parts[2::3], strict=True))
