"""Plots of the uncertainty of frames and atoms against their errors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from ekfcore.potentials.calibration import rank_correlation
from ekfcore.potentials.kpu_tables import Row

from .style import BLUE, GREY, VERMILION, save_figure, tidy

__all__ = ["PICTURE", "write_picture"]

PICTURE = "kpu.png"
"""Name of the file."""

_Vector = NDArray[np.float64]

_BINS = 12  # groups of atoms with similar uncertainty
_FEW = 5  # atoms in a group below which their RMS error is meaningless


def write_picture(rows: Sequence[Row], path: Path) -> None:
    """Draw the uncertainty against the true error, of frames and of atoms; without labels, frame by frame.

    Parameters
    ----------
    rows : sequence of Row
        Uncertainties and errors of all frames.
    path : path
        Plot to write.
    """
    figure = Figure(figsize=(9.4, 4.2), layout="constrained")
    labelled = [row for row in rows if row.force_errors is not None]
    if labelled:
        left, right = figure.subplots(1, 2)
        _frames(left, labelled)
        _atoms(right, labelled)
    else:
        axes = figure.subplots()
        axes.plot([1e3 * (row.found.force_mean / 3) ** 0.5 for row in rows], ".", color=BLUE, markersize=4)
        axes.set(xlabel="Frame", ylabel="Error bar from KPU [meV/Å]", yscale="log")
        tidy(axes, "Uncertainty of the forces")
    save_figure(figure, path)


def _frames(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw one point for each frame."""
    x = np.sqrt([row.found.force_mean / 3 for row in rows])
    y = np.asarray([row.force_rmse for row in rows], dtype=np.float64)
    axes.scatter(1e3 * x, 1e3 * y, s=14, color=BLUE, alpha=0.6, linewidths=0)
    _diagonal(axes, 1e3 * np.concatenate([x, y]))
    axes.set(xlabel="Error bar from KPU [meV/Å]", ylabel="True force RMSE [meV/Å]")
    tidy(axes, "Frames", f"rank correlation {rank_correlation(x, y):.2f}")


def _atoms(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the atoms of all frames in groups of similar uncertainty."""
    x = np.sqrt(np.concatenate([row.found.forces for row in rows]) / 3)
    y = np.concatenate([np.sqrt(np.mean(row.force_errors**2, axis=1)) for row in rows if row.force_errors is not None])
    axes.scatter(1e3 * x, 1e3 * y, s=3, color=GREY, alpha=min(0.5, 300 / len(x)), linewidths=0)
    groups = [group for group in np.array_split(np.argsort(x), _BINS) if len(group) >= _FEW]
    rms = np.asarray([[np.sqrt(np.mean(values[group] ** 2)) for group in groups] for values in (x, y)])
    axes.plot(*1e3 * rms, "o-", color=VERMILION, markersize=5, linewidth=1.2, label="groups of similar uncertainty")
    _diagonal(axes, 1e3 * np.concatenate([x, np.quantile(y, [0.02, 1.0])]))
    axes.set(xlabel="Error bar from KPU [meV/Å]", ylabel="True RMS error of the force [meV/Å]")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    tidy(axes, "Atoms", f"rank correlation {rank_correlation(x, y):.2f}")


def _diagonal(axes: Axes, values: _Vector) -> None:
    """Set equal logarithmic limits, and draw the line where error bars equal the errors."""
    positive = values[values > 0]
    limits = (0.8 * positive.min(), 1.25 * positive.max()) if len(positive) else (0.1, 10.0)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if limits[1] < 100 * limits[0] else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
