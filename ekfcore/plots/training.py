"""Plots of a training: learning curve and parity."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ekfcore.atoms import Frame, errors
from ekfcore.errors import InputError
from ekfcore.potentials.position import EpochRecord

from .style import BLUE, GREY, ORANGE, save_figure, scale_errors, tidy

__all__ = ["plot_learning_curve", "plot_parity"]

_Vector = NDArray[np.float64]

_MANY = 3000  # points above which a scatter plot hides their density
_FEW = 10  # errors below which a histogram is meaningless


def plot_learning_curve(records: Sequence[EpochRecord], path: str | PathLike[str]) -> None:
    """Draw the errors of energy, forces and, where there are labels, virial against the epochs.

    Parameters
    ----------
    records : sequence of EpochRecord
        Records of the epochs, at least one.
    path : path
        Picture to write; the ending chooses the format.

    Raises
    ------
    InputError
        If there is no record, or the file cannot be written.
    """
    if not records:
        raise InputError("a learning curve needs at least one epoch, got none")
    titles = {"energy": "Energy RMSE [meV/atom]", "force": "Force RMSE [meV/Å]"}
    if records[-1].virial_rmse_train is not None:
        titles["virial"] = "Virial RMSE [meV/atom]"
    figure = Figure(figsize=(4.5 * len(titles), 3.6), layout="constrained")
    panels = figure.subplots(1, len(titles))
    for axes, (quantity, title) in zip(panels, titles.items(), strict=True):
        _curve(axes, records, quantity, title)
    panels[0].legend(frameon=False)
    save_figure(figure, path)


def _curve(axes: Axes, records: Sequence[EpochRecord], quantity: str, title: str) -> None:
    epochs = [record.epoch for record in records]
    drawn = []
    for part, colour, marker in (("train", ORANGE, "s"), ("test", BLUE, "o")):
        values = [getattr(record, f"{quantity}_rmse_{part}") for record in records]
        if None in values or np.isnan(values).all():  # no labels of this quantity
            continue
        axes.plot(epochs, values, color=colour, marker=marker, markersize=4.5, linewidth=1.6, label=part)
        drawn += values
    scale_errors(axes, drawn)
    if len(epochs) == 1:
        axes.set_xlim(epochs[0] - 0.5, epochs[0] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("Epoch")
    axes.grid(color="#dddddd", linewidth=0.6)
    tidy(axes, title)


def plot_parity(labels: Sequence[Frame], predictions: Sequence[Mapping[str, Any]], path: str | PathLike[str]) -> None:
    """Draw predicted against labelled energies and forces.

    Parameters
    ----------
    labels : sequence of Frame
        Labelled frames; a missing label is not drawn.
    predictions : sequence of mappings
        One for each frame, in the same order: ``energy`` [eV] and ``forces``, shape (N, 3) [eV/Å].
    path : path
        Picture to write; the ending chooses the format.

    Raises
    ------
    InputError
        If there are no frames, a frame has no label, or the file cannot be written.

    Notes
    -----
    Energies are shown per atom, relative to the mean label of the frames of the same composition, so that differences
    between configurations are visible.
    """
    found = errors(predictions, labels)
    figure = Figure(figsize=(9.6, 4.6), layout="compressed")
    left, right = figure.subplots(1, 2)
    energy = 1e3 * _energies(*_having("energy", labels, predictions))
    _panel(left, *energy, units=("meV/atom", "meV/atom"), scale=1.0)
    tidy(left, "Energy, relative to the mean", _caption(found.with_energy, found.energy_rmse, "meV/atom"))
    forces = _forces(*_having("forces", labels, predictions))
    _panel(right, *forces, units=("eV/Å", "meV/Å"), scale=1e3)
    tidy(right, "Force components", _caption(found.with_forces, found.force_rmse, "meV/Å"))
    save_figure(figure, path)


_Pairs = tuple[list[Frame], list[Mapping[str, Any]]]


def _having(name: str, labels: Sequence[Frame], predictions: Sequence[Mapping[str, Any]]) -> _Pairs:
    """Return the frames with this label and their predictions."""
    pairs = [(f, p) for f, p in zip(labels, predictions, strict=True) if getattr(f, name) is not None]
    return [frame for frame, _ in pairs], [prediction for _, prediction in pairs]


def _caption(count: int, rmse: float, unit: str) -> str:
    return f"RMSE {rmse:.3g} {unit}" if count else "no labels"


def _panel(axes: Axes, label: _Vector, prediction: _Vector, *, units: tuple[str, str], scale: float) -> None:
    """Draw predictions against labels, and the errors in their own unit."""
    if len(label):
        _parity(axes, label, prediction, unit=units[0])
        _histogram(axes, scale * (prediction - label), units[1])


def _energies(labels: Sequence[Frame], predictions: Sequence[Mapping[str, Any]]) -> _Vector:
    """Return labelled and predicted energies per atom, shape (2, frames) [eV], relative to the mean label."""
    pairs = zip(labels, predictions, strict=True)
    energy = np.asarray([(frame.energy, float(p["energy"])) for frame, p in pairs]).reshape(-1, 2)
    energy /= np.asarray([f.n_atoms for f in labels])[:, None]
    compositions = [tuple(sorted(frame.numbers.tolist())) for frame in labels]
    for composition in set(compositions):
        same = [other == composition for other in compositions]
        energy[same] -= energy[same, 0].mean()
    return energy.T


def _forces(labels: Sequence[Frame], predictions: Sequence[Mapping[str, Any]]) -> tuple[_Vector, _Vector]:
    """Return labelled and predicted force components [eV/Å]."""
    parts = [frame.forces for frame in labels], [np.asarray(prediction["forces"]) for prediction in predictions]
    label, prediction = (np.concatenate([np.zeros(0), *(np.ravel(np.asarray(a)) for a in part)]) for part in parts)
    return label, prediction


def _parity(axes: Axes, label: _Vector, prediction: _Vector, *, unit: str) -> None:
    values = np.concatenate([label, prediction[np.isfinite(prediction)]])
    margin = 0.05 * np.ptp(values) or 1.0
    low, high = values.min() - margin, values.max() + margin
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=0)
    if len(label) > _MANY:
        box = (low, high, low, high)
        drawn = axes.hexbin(label, prediction, gridsize=90, bins="log", mincnt=1, extent=box, linewidths=0.2)
        axes.figure.colorbar(drawn, ax=axes, label="Components", shrink=0.8, pad=0.02)
    else:
        axes.scatter(label, prediction, s=16, color=BLUE, alpha=0.8 if len(label) < 200 else 0.35, linewidths=0)
    axes.set(
        xlim=(low, high), ylim=(low, high), aspect="equal", xlabel=f"Label [{unit}]", ylabel=f"Prediction [{unit}]"
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _histogram(axes: Axes, error: _Vector, unit: str) -> None:
    """Draw a histogram of the errors in the free corner: on the diagonal, all good models look alike."""
    error = error[np.isfinite(error)]
    if len(error) < _FEW:
        return
    inset = axes.inset_axes((0.64, 0.11, 0.33, 0.24))
    # Five standard deviations: with the few largest errors, most others would fall into one bar.
    reach = 5 * max(float(np.std(error)), np.finfo(float).tiny)
    inset.hist(error, bins=min(61, max(11, len(error) // 20)), range=(-reach, reach), color=BLUE, alpha=0.8)
    inset.axvline(0.0, color=GREY, linewidth=0.8)
    inset.xaxis.set_major_locator(MaxNLocator(3, symmetric=True))
    inset.set_yticks([])
    inset.tick_params(labelsize=7, length=2)
    inset.set_xlabel(f"Error [{unit}]", fontsize=7, labelpad=1)
    inset.spines[["top", "right", "left"]].set_visible(False)
    inset.patch.set_alpha(0.0)
