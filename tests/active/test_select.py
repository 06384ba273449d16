"""Thresholds, outcomes and the order of choice."""

import re

import numpy as np
import pytest

pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[active]"')
from ekfcore.active.selection import Outcome, SelectSettings, select

VALUES = np.asarray([0.5, 3.0, 50.0, 4.0, np.nan, 6.0, 5.0])


def _select(maximum: int = 10, base: float = 1.0, **given: object) -> list[str]:
    settings = SelectSettings.model_validate({"batch": "highest", **given})
    chosen = select(VALUES, settings, base=base, maximum=maximum, rng=np.random.default_rng(0))
    assert [k for k, outcome in enumerate(chosen.outcomes) if outcome == Outcome.SELECTED] == sorted(chosen.chosen)
    return [outcome.value for outcome in chosen.outcomes]


def test_outcomes() -> None:
    """Below, between and above; a frame whose uncertainty is no number is thrown away."""
    between = ["selected"] * 2
    assert _select(low=2.0, high=20.0) == ["reliable", "selected", "discarded", "selected", "discarded", *between]


def test_thresholds_are_multiples_of_the_base() -> None:
    """The same frames relative to a base twice as large."""
    assert _select(low=2.0, high=20.0, base=2.0)[1:4] == ["reliable", "discarded", "selected"]


def test_absolute_thresholds() -> None:
    """The base is of no matter."""
    assert _select(low=2.0, high=20.0, base=7.0, thresholds="absolute")[1] == "selected"


def test_quantiles() -> None:
    """Of what was explored."""
    settings = SelectSettings(thresholds="quantile", low=0.5, high=1.0, batch="highest")
    found = select(np.arange(11.0), settings, base=1.0, maximum=100, rng=np.random.default_rng(0))
    assert (found.low, found.high) == (5.0, 10.0)
    assert found.chosen == [10, 9, 8, 7, 6, 5]


def test_the_highest_are_taken() -> None:
    """At most so many; the others are spared."""
    assert _select(maximum=2, low=2.0, high=20.0)[3:] == ["spared", "discarded", "selected", "selected"]


def test_random_order_depends_on_the_seed_alone() -> None:
    """The same choice twice, another one with another seed."""
    settings = SelectSettings(method="random")
    chosen = [
        select(np.zeros(50), settings, base=1.0, maximum=5, rng=np.random.default_rng(seed)).chosen
        for seed in (0, 0, 1)
    ]
    assert len(set(chosen[0])) == 5
    assert chosen[0] == chosen[1] != chosen[2]


def test_nothing_to_choose() -> None:
    """No frame was explored, or none lies between the thresholds."""
    settings = SelectSettings(batch="highest")
    rng = np.random.default_rng(0)
    assert select(np.zeros(0), settings, base=1.0, maximum=5, rng=rng).outcomes == []
    assert select(np.ones(3), settings, base=1.0, maximum=5, rng=rng).chosen == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"low": 5.0, "high": 3.0}, "`low` must be below select.high, got 5 and 3"),
        ({"low": 30.0}, "`low` must be below select.high, got 30 and 20"),
        ({"thresholds": "quantile", "high": 1.5}, "`high` must be at most 1, for it is a quantile, got 1.5"),
        ({"method": "committee", "batch": "greedy"}, '`batch` = "greedy" needs select.method = "kpu"'),
        ({"method": "committee", "thresholds": "base"}, '`thresholds` = "base" needs select.method = "kpu"'),
    ],
)
def test_settings_that_do_not_go_together(given: dict[str, object], message: str) -> None:
    """What is wrong and what to do."""
    with pytest.raises(ValueError, match=re.escape(message)):
        SelectSettings.model_validate(given)
