"""The picture of the rounds: what stands at its axes can be read."""

from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "ekfcore[active]"')

from matplotlib.figure import Figure

from ekfcore.active.report import RoundReport
from ekfcore.errors import InputError
from ekfcore.plots import rounds as plots


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Figure]:
    """Return the figures that are written from now on."""
    figures: list[Figure] = []

    def save(figure: Figure, path: Path) -> None:
        figures.append(figure)
        figure.savefig(tmp_path / "report.png")  # places the ticks

    monkeypatch.setattr(plots, "save_figure", save)
    return figures


def _reports(rounds: int, temperatures: list[float], errors: list[float]) -> list[RoundReport]:
    """Return so many rounds of a stage and the last training; the errors are those of the trainings in turn."""
    return [
        RoundReport(
            round=number,
            stage=0 if number > rounds else 1,
            temperatures=[] if number > rounds else temperatures,
            trained_on=10 + 2 * number,
            explored=0 if number > rounds else 100,
            reliable=0 if number > rounds else 90,
            selected=0 if number > rounds else 10,
            validation={"800 K": {"energy_rmse": 1.0, "force_rmse": error}},
        )
        for number, error in enumerate(errors, start=1)
    ]


@pytest.mark.parametrize("errors", [[115.8, 47.1, 47.1], [47.0, 47.0, 47.0], [1900.0, 40.0, 0.9]])
def test_errors_have_plain_numbers(drawn: list[Figure], errors: list[float]) -> None:
    """At least two of them, without powers of ten, whatever the range."""
    plots.plot_rounds(_reports(2, [400.0, 800.0], errors), "report.png")
    low, high = drawn[0].axes[1].get_ylim()
    axis = drawn[0].axes[1].yaxis
    labels = [text.get_text() for text in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))]
    shown = [float(label) for label in labels if label]  # "6×10¹" is no number
    assert sum(low <= value <= high for value in shown) >= 2


@pytest.mark.parametrize("rounds", [1, 3, 12])
@pytest.mark.parametrize("temperatures", [[300.0], [500.0, 800.0, 1100.0]])
def test_names_of_rounds_do_not_overlap(drawn: list[Figure], rounds: int, temperatures: list[float]) -> None:
    """However many rounds and temperatures there are."""
    plots.plot_rounds(_reports(rounds, temperatures, [50.0] * (rounds + 1)), "report.png")
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].get_xticklabels()]
    assert len(boxes) == rounds
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_without_a_round(drawn: list[Figure]) -> None:
    """A budget that the first labels used up leaves the last training alone; no fate has a colour then."""
    plots.plot_rounds(_reports(0, [], [50.0]), "report.png")
    assert drawn[0].axes[0].get_legend() is None


def test_nothing_to_draw() -> None:
    """One line."""
    with pytest.raises(InputError, match="at least one"):
        plots.plot_rounds([], "report.png")
