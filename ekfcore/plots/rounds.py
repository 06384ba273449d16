"""Plots of the rounds of active learning."""

from collections.abc import Sequence
from os import PathLike

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ekfcore.active.report import RoundReport
from ekfcore.errors import InputError

from .style import BLUE, GREEN, GREY, ORANGE, PINK, SKY, VERMILION, save_figure, scale_errors, tidy

__all__ = ["plot_rounds"]

_OUTCOMES = {"reliable": SKY, "spared": "#cccccc", "selected": ORANGE, "discarded": VERMILION}
_SETS = (BLUE, GREEN, PINK, ORANGE)
_WIDTH = 40  # characters that fit side by side below the bars


def plot_rounds(reports: Sequence[RoundReport], path: str | PathLike[str]) -> None:
    """Draw the outcomes of the explored frames and the errors on the validation sets.

    Parameters
    ----------
    reports : sequence of RoundReport
        Reports of the rounds, at least one.
    path : path
        Plot to write; the suffix chooses the format.

    Raises
    ------
    InputError
        If there is no report, or the file cannot be written.
    """
    if not reports:
        raise InputError("a picture of rounds needs at least one, got none")
    validated = any(report.validation for report in reports)
    figure = Figure(figsize=(9.0 if validated else 4.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + validated, squeeze=False)[0]
    _draw_outcomes(axes[0], reports)
    if validated:
        _draw_errors(axes[1], reports)
    save_figure(figure, path)


def _draw_outcomes(axes: Axes, reports: Sequence[RoundReport]) -> None:
    reports = [report for report in reports if report.stage]  # stage 0, the final training, has no exploration
    tidy(axes, "Explored frames")
    if not reports:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=GREY)
        axes.set(xticks=[], yticks=[])
        return
    rounds = [report.round for report in reports]
    below = [0] * len(reports)
    for outcome, colour in _OUTCOMES.items():
        counts = [getattr(report, outcome) for report in reports]
        axes.bar(rounds, counts, bottom=below, color=colour, label=outcome, width=0.8)
        below = [a + b for a, b in zip(below, counts, strict=True)]
    temperatures = [f"{'/'.join(f'{t:g}' for t in report.temperatures)} K" for report in reports]
    upright = len(rounds) * max(map(len, temperatures)) > _WIDTH
    names = [f"{number}{': ' if upright else chr(10)}{text}" for number, text in zip(rounds, temperatures, strict=True)]
    axes.set_xticks(rounds, names, rotation=90 if upright else 0, fontsize=8 if upright else None)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("Round")
    axes.set_ylim(0, 1.45 * max([1, *below]))
    axes.legend(frameon=False, ncols=2, loc="upper center")


def _draw_errors(axes: Axes, reports: Sequence[RoundReport]) -> None:
    drawn = []
    for index, name in enumerate(reports[-1].validation):
        found = [report for report in reports if name in report.validation]
        values = [report.validation[name]["force_rmse"] for report in found]
        axes.plot(
            [report.trained_on for report in found],
            values,
            marker="o",
            markersize=4.5,
            color=_SETS[index % len(_SETS)],
            label=name,
        )
        drawn += values
    scale_errors(axes, drawn)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Labelled frames")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False)
    tidy(axes, "Force RMSE [meV/Å]")
