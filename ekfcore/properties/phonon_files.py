"""Tables of phonons."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ekfcore.files import write_csv

from .phonons import Phonons

__all__ = ["BAND_FILE", "DOS_FILE", "names_of_points", "write_phonons"]

BAND_FILE, DOS_FILE = "band.csv", "dos.csv"
"""Names of the files."""


def write_phonons(found: Phonons, out: Path) -> None:
    """Write ``band.csv`` and ``dos.csv`` into a folder, which is made.

    Parameters
    ----------
    found : Phonons
        Phonons to write.
    out : Path
        The folder.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    modes = range(1, 1 + next(iter(found.bands.values())).shape[1])
    columns = ["distance [1/Å]", "point", *(f"{name} {mode} [THz]" for name in found.bands for mode in modes)]
    bands = np.column_stack(list(found.bands.values()))
    points = names_of_points(found)
    rows = ([x, points.get(x, ""), *row] for x, row in zip(found.distances.tolist(), bands.tolist(), strict=True))
    _write_table(out / BAND_FILE, columns, rows)
    columns = ["frequency [THz]", *(f"{name} [1/THz]" for name in found.densities)]
    _write_table(out / DOS_FILE, columns, np.column_stack([found.frequencies, *found.densities.values()]).tolist())


def names_of_points(found: Phonons) -> dict[float, str]:
    """Return the name of each point of high symmetry; where the path jumps, two points share a distance."""
    points: dict[float, str] = {}
    for x, name in found.ticks:
        label = "Γ" if name == "G" else name
        points[x] = f"{points[x]}|{label}" if x in points else label
    return points


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    texts = ([f"{value:.6f}" if isinstance(value, float) else value for value in row] for row in rows)
    write_csv(path, columns, texts)
