"""Whether a training is warned of a covariance that outgrows its precision."""

import math
import re
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from ekfcore.memory import MemoryFactor
from ekfcore.presets import PRESETS, Recipe, preset
from ekfcore.training.windup import LIMITS, windup_note

_LONG = {"frames": 100_000, "batch": 1, "epochs": 50}


def _changed(name: str, **config: Any) -> Recipe:
    recipe = preset(name)
    return replace(recipe, config=replace(recipe.config, **config))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_fine(name: str) -> None:
    """However long the training is."""
    assert windup_note(preset(name), **_LONG) == ""


def test_a_short_memory_is_told() -> None:
    """Keys, values, the growth, the precision and what to set."""
    note = windup_note(_changed("recommended", memory=MemoryFactor(0.9)), **_LONG)
    # exp(39.5), half of what it were if every measurement were an update of its own
    assert note == (
        "optimizer.memory = 0.9 with optimizer.memory_rate = 0.9987 lets P grow by 1e17 where nothing is measured, and "
        "float64 bears 5e11: weights may be thrown about or the training stop; set optimizer.memory to 0.933 or more"
    )


@pytest.mark.parametrize("name", ["recommended", "rlekf"])
@pytest.mark.parametrize(
    "config",
    [
        {"memory": MemoryFactor(0.9)},
        {"memory": MemoryFactor(0.1)},
        {"memory": MemoryFactor(0.98, 1.0)},
        {"dtype": "float32"},
        {"dtype": "float32", "memory": MemoryFactor(0.1, 1.0)},
    ],
)
def test_what_the_note_asks_for_is_enough(name: str, config: dict[str, Any]) -> None:
    """Either of two remedies, where it names two."""
    recipe = _changed(name, **config)
    size = {"frames": 1000, "batch": 1, "epochs": 20}
    note = windup_note(recipe, **size)
    found = re.search(r"optimizer.memory to ([\d.]+) or more", note)
    assert found
    memory = replace(recipe.config.memory, initial=float(found[1]))
    assert windup_note(replace(recipe, config=replace(recipe.config, memory=memory)), **size) == ""
    assert ('set optimizer.dtype to "float64", or' in note) == (recipe.config.dtype == "float32")


def test_a_training_that_is_over_before_is_not_warned() -> None:
    """Growth takes its time."""
    recipe = _changed("recommended", memory=MemoryFactor(0.9))
    assert windup_note(recipe, frames=10, batch=1, epochs=2) == ""
    assert windup_note(recipe, frames=100, batch=1, epochs=20) != ""


@pytest.mark.parametrize(
    ("mode", "growth"),
    [
        # 30 frames in batches of 4 for 5 epochs; never rising, so that lambda is the same in all updates
        ("sequential", 30 * 5 * 5),
        ("pinned", 8 * 5 * 4),
        ("vector", 8 * 5),
        ("batch", 8 * 5 * 5),
    ],
)
def test_updates_are_counted_as_the_training_makes_them(mode: Any, growth: int) -> None:
    """One on the safe side of the limit and one beyond it."""
    for share, told in ((0.99, False), (1.01, True)):
        memory = MemoryFactor(math.exp(-share * LIMITS["float64"] / growth), 1.0)
        recipe = replace(_changed("recommended", memory=memory), mode=mode)
        assert (windup_note(recipe, frames=30, batch=4, epochs=5) != "") == told
