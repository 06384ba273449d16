"""Plots of phonons: band structure and density of states."""

from pathlib import Path

from matplotlib.figure import Figure

from ekfcore.properties.phonon_files import names_of_points
from ekfcore.properties.phonons import Phonons

from .style import BLUE, ORANGE, save_figure, tidy

__all__ = ["PICTURE", "plot_phonons"]

PICTURE = "phonons.png"
"""Name of the file."""

# Colour, line width and z-order of the first calculator and of the others: references are broad lines below the model.
_STYLES = ((BLUE, 1.1, 3), (ORANGE, 3.2, 2), ("#999999", 3.2, 1))


def plot_phonons(found: Phonons, path: Path) -> None:
    """Draw the band structure and the density of states side by side.

    Parameters
    ----------
    found : Phonons
        Phonons to draw.
    path : Path
        Plot to write; the suffix chooses the format.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    figure = Figure(figsize=(7.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    for (name, bands), (colour, width, order) in zip(found.bands.items(), _styles(found), strict=True):
        line, *_ = left.plot(found.distances, bands, color=colour, linewidth=width, zorder=order)
        line.set_label(name)
        right.plot(found.densities[name], found.frequencies, color=colour, linewidth=width, zorder=order)
    points = names_of_points(found)
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
