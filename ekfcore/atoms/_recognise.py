"""Advice for files that cannot be read."""

import re
from contextlib import suppress
from pathlib import Path

from ._ase import format_of

__all__ = ["looks_like", "other_reader"]

_START = 200_000  # [bytes] at the start of a file that are searched for the name of a program

# Names of the same format in ASE and in dpdata.
_TWINS = {
    "vasp-out": "vasp/outcar",
    "espresso-out": "qe/pw/scf",
    "aims-output": "fhi_aims/output",
    "gaussian-out": "gaussian/log",
    "orca-output": "orca/spout",
    "lammps-dump-text": "lammps/dump",
}
_PROGRAMS = {
    r"CP2K\|": ("CP2K", "cp2k/output"),
    r"(?i)welcome to siesta|\nsiesta: ": ("SIESTA", "siesta/output"),
    r"Etot,Ep,Ek": ("PWmat", "pwmat/movement"),
    r"Program PWSCF": ("Quantum ESPRESSO", "espresso-out"),
    r"Invoking FHI-aims": ("FHI-aims", "aims-output"),
    r"POTCAR:|vasp\.\d": ("VASP", "vasp-out"),
    r"Entering Gaussian System": ("Gaussian", "gaussian-out"),
    r"\* O   R   C   A \*": ("ORCA", "orca-output"),
    r"ITEM: TIMESTEP": ("LAMMPS", "lammps-dump-text"),
    r"Properties=\w": ("extended XYZ", "extxyz"),
}


def other_reader(format: str | None) -> str:
    """Return the name of a format in the other one of ASE and dpdata if both read it, or an empty string."""
    return next((b if format == a else a for a, b in _TWINS.items() if format in (a, b)), "")


def looks_like(path: Path) -> str:
    """Return advice from the format that a file or folder seems to have.

    Parameters
    ----------
    path : Path
        File, folder, or common prefix of several files.

    Returns
    -------
    str
        Advice, as the end of a sentence.
    """
    if path.is_dir():
        return _looks_like_a_run(path)
    if not path.is_file():
        return "a file may be missing or incomplete"
    with path.open("rb") as file:
        text = file.read(_START).decode(errors="replace")
    tried = ""
    with suppress(Exception):  # ASE raises if it does not recognise a format
        tried = format_of(path)
    for pattern, (program, format) in _PROGRAMS.items():
        if format != tried and re.search(pattern, text):
            return f'it looks like {program}: give format = "{format}", or mend it if it is incomplete'
    return "it may be incomplete or of an unknown format"


def _looks_like_a_run(path: Path) -> str:
    if (path / "INPUT").is_file() and (path / "STRU").is_file():
        found = re.search(r"^\s*calculation\s+(\w+)", (path / "INPUT").read_text(errors="replace"), re.MULTILINE)
        kind = {"md": "md", "relax": "relax", "cell-relax": "relax"}.get(found[1] if found else "scf", "scf")
        return f'it looks like a run of ABACUS: give format = "abacus/{kind}"'
    if (path / "data.mdb").is_file():
        return 'it looks like LMDB of DeePMD-kit: give format = "deepmd/lmdb"'
    if list(path.glob("*pos*.xyz")) and list(path.glob("*.log")):
        return 'it looks like a run of CP2K: give format = "cp2k/aimd_output"'
    return "name a file in it"
