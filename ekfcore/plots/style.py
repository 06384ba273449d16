"""Common style of the plots: colours, axes and file output."""

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ekfcore.files import replace_file

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "VERMILION", "save_figure", "scale_errors", "tidy"]

# Palette of Okabe and Ito, which colour-blind readers can distinguish.
BLUE, ORANGE, VERMILION, GREEN, PINK, SKY = "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"
GREY = "#666666"

_DPI = 160


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure, as a whole or not at all; the suffix of the path chooses the format."""
    with replace_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:], dpi=_DPI)


def tidy(axes: Axes, title: str = "", note: str = "") -> None:
    """Remove the top and right spines; add a title and a note in the upper left corner."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2.0}
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", zorder=0.5, bbox=box if note else None)


def scale_errors(axes: Axes, values: Sequence[float]) -> None:
    """Make the y axis logarithmic, with limits around these errors and plain numbers at its ticks.

    Values that such an axis cannot show (zero, NaN, infinity) are ignored.
    """
    axes.set_yscale("log")
    drawn = [value for value in values if 0 < value < math.inf]
    if drawn:
        centre = (min(drawn) * max(drawn)) ** 0.5
        # At least a factor of four from bottom to top, so that small fluctuations look small.
        half = max(1.2 * max(drawn) / centre, 2.0)
        axes.set_ylim(centre / half, centre * half)
        axes.yaxis.set_major_locator(LogLocator(subs=_subdivisions(2 * math.log10(half))))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _subdivisions(decades: float) -> tuple[float, ...]:
    """Return the multiples of each power of ten that are labelled."""
    if decades < 1.0:
        return (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    if decades < 2.5:
        return (1.0, 2.0, 5.0)
    return (1.0, 3.0) if decades < 4.0 else (1.0,)
