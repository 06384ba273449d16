"""A plot of labelled data: energies, forces, distances and compositions."""

from collections import Counter, defaultdict
from os import PathLike

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from ekfcore.atoms.inspection import REACH, Inspection, formula

from .style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION, save_figure, tidy

__all__ = ["plot_data"]

_BINS = 60
_PAIRS = 6  # one for each colour
_FORMULAS = 10
_MANY = 20  # count above which a bar of height 1 would be invisible


def plot_data(inspection: Inspection, path: str | PathLike[str]) -> None:
    """Draw energies, forces, nearest distances and compositions.

    Parameters
    ----------
    inspection : Inspection
        Statistics of the frames, see `inspect_frames`.
    path : path
        Plot to write; the suffix chooses the format.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    figure = Figure(figsize=(9.6, 6.8), layout="constrained")
    panels = figure.subplots(2, 2)
    _energies(panels[0, 0], inspection)
    _forces(panels[0, 1], inspection)
    _distances(panels[1, 0], inspection)
    _compositions(panels[1, 1], inspection)
    save_figure(figure, path)


def _energies(axes: Axes, inspection: Inspection) -> None:
    parts = _parts(inspection, inspection.residuals)
    _histogram(axes, {name: values[np.isfinite(values)] for name, values in parts.items()})
    axes.set_xlabel("Energy beyond that of the elements [eV/atom]")
    axes.set_ylabel("Frames")
    tidy(axes, "Energies")


def _forces(axes: Axes, inspection: Inspection) -> None:
    sizes = [np.linalg.norm(f.forces, axis=1) if f.forces is not None else np.zeros(0) for f in inspection.frames]
    n = inspection.n_train
    parts = {"train": np.concatenate(sizes[:n]), "test": np.concatenate([*sizes[n:], np.zeros(0)])}
    zero = sum(int(np.sum(values == 0)) for values in parts.values())
    _histogram(axes, {name: np.log10(values[values > 0]) for name, values in parts.items()})
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10**value:.3g}"))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("Force on an atom [eV/Å]")
    axes.set_ylabel("Atoms")
    tidy(axes, "Forces" + (f" ({zero} are exactly 0, and not drawn)" if zero else ""))


def _distances(axes: Axes, inspection: Inspection) -> None:
    pairs = defaultdict(list)
    for contacts in inspection.contacts:
        for pair, distance in contacts.nearest.items():
            pairs[pair].append(distance)
    # Show the closest pairs: they matter most.
    shown = sorted(pairs, key=lambda pair: min(pairs[pair]))[:_PAIRS]
    ends = [end for pair in shown for end in (min(pairs[pair]), max(pairs[pair]))] or [0.0, REACH]
    edges = np.linspace(min(ends) - 0.05, max(ends) + 0.05, _BINS + 1)
    for pair, colour in zip(shown, (BLUE, ORANGE, GREEN, PINK, SKY, VERMILION), strict=False):
        _bars(axes, pairs[pair], edges, colour, "-".join(formula({number: 1}) for number in pair))
    if shown:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))  # inside, it would hide the bars
    axes.set_xlabel("Shortest distance in a frame [Å]")
    axes.set_ylabel("Frames")
    _scale_counts(axes)
    tidy(axes, "Nearest neighbours")


def _compositions(axes: Axes, inspection: Inspection) -> None:
    counts = Counter(formula(Counter(frame.numbers.tolist())) for frame in inspection.frames).most_common()
    shown = counts[:_FORMULAS]
    if rest := sum(count for _, count in counts[_FORMULAS:]):
        shown.append((f"{len(counts) - _FORMULAS} others", rest))
    names, values = zip(*shown[::-1], strict=True)
    bars = axes.barh(range(len(names)), values, color=BLUE, alpha=0.8, height=0.7)
    axes.bar_label(bars, padding=3, fontsize=8, color=GREY)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(min(-0.6, len(names) - _FORMULAS / 2), len(names) - 0.4)  # a single bar must not fill the panel
    axes.set_xlabel("Frames")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    tidy(axes, "Compositions")


def _parts(inspection: Inspection, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    return {"train": values[: inspection.n_train], "test": values[inspection.n_train :]}


def _histogram(axes: Axes, parts: dict[str, NDArray[np.float64]]) -> None:
    """Draw the histogram of each part, the later ones in front."""
    drawn = {name: values for name, values in parts.items() if len(values)}
    if not drawn:
        return
    values = np.concatenate(list(drawn.values()))
    edges = np.histogram_bin_edges(values, bins=min(_BINS, max(12, len(values) // 8)))
    for (name, part), colour in zip(drawn.items(), (BLUE, ORANGE), strict=False):
        _bars(axes, part, edges, colour, name)
    if len(drawn) > 1:
        axes.legend(frameon=False)
    _scale_counts(axes)


def _bars(axes: Axes, values: ArrayLike, edges: NDArray[np.float64], colour: str, name: str) -> None:
    axes.hist(
        np.asarray(values),
        bins=edges.tolist(),
        histtype="stepfilled",
        facecolor=(colour, 0.45),
        edgecolor=colour,
        label=name,
    )


def _scale_counts(axes: Axes) -> None:
    """Make large counts logarithmic, with plain numbers: a single frame, possibly a faulty one, stays visible."""
    if axes.get_ylim()[1] > _MANY:
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
