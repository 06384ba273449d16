"""PWmat ``MOVEMENT`` files.

The signs of forces and stresses are easily confused. The block ``Force`` contains minus the force, with or without
"-force" in the header. ``stress (eV)`` is +dE/dε, so the virial is minus it: on PWmat's copper runs it correlates by
-0.98 (trace) and -0.97 (xy) with the virial of a pair potential fitted to the forces.
"""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from .frame import Frame

__all__ = ["is_movement", "read_movement"]

_HEADER = "Etot,Ep,Ek"  # "72 atoms,Iteration (fs) = 1.0, Etot,Ep,Ek (eV) = -357677.2 -357682.8 5.6, SCF = 6"


def is_movement(path: Path) -> bool:
    """Recognise a MOVEMENT file by its first line, under any name.

    Parameters
    ----------
    path : Path
        An existing file.

    Returns
    -------
    bool
        Whether `read_movement` can read it.
    """
    with path.open(errors="replace") as file:
        return _HEADER in file.readline(1000)


def read_movement(path: Path, name: str) -> list[Frame]:
    """Read all frames of a MOVEMENT file, converged or not, atoms in the order of the file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Name of the file in messages.

    Returns
    -------
    list of Frame
        Frames, with virials if the file has stresses.

    Raises
    ------
    InputError
        If a frame is cut off or a number in it cannot be read.
    """
    frames = []
    with path.open(errors="replace") as file:
        for index, block in enumerate(_blocks(file)):
            source = f"{name}, frame {index}"
            try:
                frames.append(_parse(block, source))
            except (ValueError, IndexError):
                raise InputError(f"{source}: is cut off or damaged; take it out of the file") from None
    return frames


def _blocks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Split the file before each header line."""
    block: list[str] = []
    for line in itertools.chain(lines, [_HEADER]):
        if _HEADER in line and block:
            yield block
            block = []
        block.append(line)


def _parse(block: list[str], source: str) -> Frame:
    n_atoms = int(block[0].split("atoms")[0])
    energy = float(block[0].split(_HEADER)[1].split("=")[1].split()[1])  # Ep; Etot contains the kinetic energy
    lattice = _rows(block, "Lattice", 3)
    cell = np.array([row[:3] for row in lattice], dtype=np.float64)
    atoms = _rows(block, "Position", n_atoms)
    forces = _rows(block, "Force", n_atoms)
    virial: NDArray[np.float64] | None = None
    if "stress" in lattice[0]:
        virial = -np.array([row[-3:] for row in lattice], dtype=np.float64)
    return Frame(
        numbers=np.array([row[0] for row in atoms], dtype=np.int64),
        positions=np.array([row[1:4] for row in atoms], dtype=np.float64) @ cell,
        cell=cell,
        pbc=np.ones(3, dtype=np.bool_),
        energy=energy,
        forces=-np.array([row[1:4] for row in forces], dtype=np.float64),
        virial=virial,
        source=source,
    )


def _rows(block: list[str], title: str, count: int) -> list[list[str]]:
    """Return the words of the `count` lines after the line that begins with `title`."""
    # The title must be unique: with two of them, the header of a second frame is missing.
    (start,) = (index for index, line in enumerate(block, start=1) if line.lstrip().startswith(title))
    return [block[start + index].split() for index in range(count)]
