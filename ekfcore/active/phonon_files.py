"""Phonons as tables and as a picture."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ekfcore._plotting import BLUE, ORANGE, save_figure, tidy
from ekfcore.files import write_csv

from .phonons import Phonons

__all__ = ["BAND_FILE", "DOS_FILE", "PICTURE", "plot_phonons", "write_phonons"]

BAND_FILE, DOS_FILE, PICTURE = "band.csv", "dos.csv", "phonons.png"

# Colour, width and place of the first calculator and of the others: the reference is a broad line below the model.
_STYLES = ((BLUE, 1.1, 3), (ORANGE, 3.2, 2), ("#999999", 3.2, 1))


def write_phonons(found: Phonons, out: Path) -> None:
    """Write ``band.csv``, ``dos.csv`` and ``phonons.png`` into a folder, which is made.

    Parameters
    ----------
    found : Phonons
        What to write.
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
    points = _points(found)
    rows = ([x, points.get(x, ""), *row] for x, row in zip(found.distances.tolist(), bands.tolist(), strict=True))
    _write_table(out / BAND_FILE, columns, rows)
    columns = ["frequency [THz]", *(f"{name} [1/THz]" for name in found.densities)]
    _write_table(out / DOS_FILE, columns, np.column_stack([found.frequencies, *found.densities.values()]).tolist())
    plot_phonons(found, out / PICTURE)


def plot_phonons(found: Phonons, path: Path) -> None:
    """Draw the band structure, and beside it the density of states.

    Parameters
    ----------
    found : Phonons
        What to draw.
    path : Path
        Picture to write; the ending chooses the format.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for (name, bands), (colour, width, place) in zip(found.bands.items(), _styles(found), strict=True):
        line, *_ = left.plot(found.distances, bands, color=colour, linewidth=width, zorder=place)
        line.set_label(name)
        right.plot(found.densities[name], found.frequencies, color=colour, linewidth=width, zorder=place)
    points = _points(found)
    left.set_xticks(list(points), list(points.values()))
    for x in points:
        left.axvline(x, color="#cccccc", linewidth=0.6, zorder=0)
    left.set_xlim(found.distances[0], found.distances[-1])
    left.set_ylim(found.frequencies[0], found.frequencies[-1])
    left.set_ylabel("Frequency [THz]")
    right.set_xlabel("Density of states [1/THz]")
    right.set_xlim(left=0.0)
    if len(found.bands) > 1:
        figure.legend(
            *left.get_legend_handles_labels(), frameon=False, loc="outside upper right", ncols=len(found.bands)
        )
    for axes in (left, right):
        axes.axhline(0.0, color="#999999", linewidth=0.8, zorder=0)
        tidy(axes)
    save_figure(figure, path)


def _styles(found: Phonons) -> list[tuple[str, float, int]]:
    return [_STYLES[min(k, len(_STYLES) - 1)] for k in range(len(found.bands))]


def _points(found: Phonons) -> dict[float, str]:
    """Return the name of each point of high symmetry; where the path jumps, two points share a place."""
    points: dict[float, str] = {}
    for x, name in found.ticks:
        shown = "Γ" if name == "G" else name
        points[x] = f"{points[x]}|{shown}" if x in points else shown
    return points


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    shown = ([f"{value:.6f}" if isinstance(value, float) else value for value in row] for row in rows)
    write_csv(path, columns, shown)
