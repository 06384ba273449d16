"""What all pictures have in common: colours, a plain frame, and how they are written."""

from os import PathLike
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ekfcore.files import replace_file

__all__ = ["BLUE", "GREEN", "GREY", "ORANGE", "PINK", "SKY", "VERMILION", "save_figure", "tidy"]

# Of Okabe and Ito, which colour-blind readers can tell apart.
BLUE, ORANGE, VERMILION, GREEN, PINK, SKY = "#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7", "#56b4e9"
GREY = "#666666"

_DPI = 160


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure, all of it or nothing; the ending of the path chooses the format."""
    with replace_file(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:], dpi=_DPI)


def tidy(axes: Axes, title: str = "", note: str = "") -> None:
    """Open the frame, and set a title above it and a note into its upper left corner."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2.0}
    axes.text(0.03, 0.97, note, transform=axes.transAxes, va="top", zorder=0.5, bbox=paper if note else None)
