"""What ``ekfcore kpu`` leaves: a table, the layout of DP-GEN, a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from ekfcore._plotting import BLUE, GREY, VERMILION, save_figure, tidy
from ekfcore.files import write_csv, write_text

from .calibration import rank_correlation
from .kpu import FrameUncertainty

__all__ = ["DEVIATIONS", "PICTURE", "TABLE", "Row", "write_deviations", "write_picture", "write_table"]

TABLE, DEVIATIONS, PICTURE = "kpu.csv", "model_devi.out", "kpu.png"
"""Names of the files."""

_Vector = NDArray[np.float64]

_BINS = 12  # of atoms of similar uncertainty
_FEW = 5  # atoms in a bin below which their RMS error says nothing


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Row:
    """One frame: its uncertainty, and its errors where labels tell them.

    Parameters
    ----------
    n_atoms : int
        Atoms of the frame.
    found : FrameUncertainty
        Uncertainty.
    energy_error : float, optional
        Predicted minus labelled energy per atom [eV].
    force_rmse : float, optional
        Over all components of all atoms [eV/Å].
    force_errors : array, shape (k, 3), optional
        Of the atoms whose uncertainty is known [eV/Å].
    """

    n_atoms: int
    found: FrameUncertainty
    energy_error: float | None = None
    force_rmse: float | None = None
    force_errors: _Vector | None = None


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write one line a frame: kpu_energy [(eV/atom)^2], kpu_force_mean and kpu_force_max [(eV/Å)^2], errors."""
    columns = ["frame", "natoms", "kpu_energy", "kpu_force_mean", "kpu_force_max", "energy_error", "force_rmse"]
    lines = []
    for number, row in enumerate(rows):
        values = row.found.energy, row.found.force_mean, row.found.force_max, row.energy_error, row.force_rmse
        lines.append([number, row.n_atoms, *("" if value is None else f"{value:.9g}" for value in values)])
    write_csv(path, columns, lines)


def write_deviations(rows: Sequence[Row], path: Path) -> None:
    """Write DP-GEN's columns.

    The deviation of an atom's force is the root of its variance, as that of a committee would be. That of the virial is
    not calculated: zeros.
    """
    names = [f"{kind}_devi_{quantity}" for quantity in "vf" for kind in ("max", "min", "avg")]
    lines = [f"#{'step':>11}" + "".join(f"{name:>19}" for name in names)]
    for number, row in enumerate(rows):
        sigma = np.sqrt(row.found.forces)
        values = [0.0, 0.0, 0.0, np.max(sigma), np.min(sigma), np.mean(sigma)]
        lines.append(f"{number:>12}" + "".join(f"{value:>19.6e}" for value in values))
    write_text(path, "\n".join(lines) + "\n")


def write_picture(rows: Sequence[Row], path: Path) -> None:
    """Draw the uncertainty against the true error, of frames and of atoms; without labels, frame by frame.

    Parameters
    ----------
    rows : sequence of Row
        All frames.
    path : path
        Picture to write.
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
    """Draw one point a frame."""
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
    """Choose equal logarithmic limits, and draw where error bars are true."""
    positive = values[values > 0]
    limits = (0.8 * positive.min(), 1.25 * positive.max()) if len(positive) else (0.1, 10.0)
    axes.plot(limits, limits, color=GREY, linewidth=0.8, zorder=0)
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if limits[1] < 100 * limits[0] else (1.0,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
