"""Named recipes."""

import math
from typing import Any

import pytest

from ekfcore import Anneal, EKFConfig, InputError
from ekfcore.presets import PRESETS, Recipe, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_name_has_a_recipe(name: str) -> None:
    """The list and the function agree."""
    assert isinstance(preset(name), Recipe)


def test_rlekf_is_the_papers() -> None:
    """R = L, P_0 = I, N_b = 5120, one energy and four groups of six atoms a frame, one after the other."""
    recipe = preset("rlekf")
    assert (recipe.config.noise, recipe.config.p0) == ("blocks", 1.0)
    assert (recipe.config.memory.initial, recipe.config.memory.rate) == (0.98, 0.9987)
    assert (recipe.strategy, recipe.block_size, recipe.mode) == ("rlekf", 5120, "sequential")
    assert (recipe.groups, recipe.group_size) == (4, 6)


def test_deepmd_lkf_divides_forces_and_cuts_as_deepmd_kit() -> None:
    """What DeePMD-kit does otherwise than the paper."""
    recipe = preset("deepmd-lkf")
    assert (recipe.strategy, recipe.force_per_atom, recipe.config.noise) == ("deepmd", True, "blocks")


def test_matpl_lkf_starts_from_a_small_covariance() -> None:
    """P_0 = 0.01 I, forces counted twice."""
    recipe = preset("matpl-lkf")
    assert (recipe.config.p0, recipe.force_prefactor) == (0.01, 2.0)


def test_n2p2_never_forgets_and_anneals_by_a_decade_an_epoch() -> None:
    """The pace follows the length of an epoch."""
    config = preset("n2p2", measurements_per_epoch=250).config
    assert config.memory.advance(config.memory.initial, 1000) == 1.0
    assert config.noise_at(250, 7) == pytest.approx(config.noise_at(0, 7) / 10, rel=1e-13)
    assert isinstance(config.process_noise, Anneal)
    assert config.process_noise_at(10**9) == pytest.approx(1e-6, rel=1e-13)


def test_unknown_name_is_refused() -> None:
    """The message names the choices."""
    with pytest.raises(InputError, match=r"`preset` must be one of recommended, .* got 'best'"):
        preset("best")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "both"}, "`mode` must be one of sequential, .* got 'both'"),
        ({"block_size": 0}, "`block_size` must be at least 1, got 0"),
        ({"groups": 0}, "`groups` must be at least 1, got 0"),
        ({"groups_per_update": 0}, "`groups_per_update` must be at least 1, got 0"),
        ({"group_size": -1}, "`group_size` must be at least 1, got -1"),
        ({"virial_prefactor": -1.0}, "`virial_prefactor` must be at least 0, got -1.0"),
        ({"force_prefactor": math.nan}, "`force_prefactor` must be at least 0, got nan"),
        ({"energy_noise": 0.0}, "`energy_noise` must be a positive number, got 0.0"),
        ({"force_noise": math.nan}, "`force_noise` must be a positive number, got nan"),
        ({"virial_noise": math.inf}, "`virial_noise` must be a positive number, got inf"),
    ],
)
def test_bad_recipes_are_named(options: dict[str, Any], message: str) -> None:
    """The message names the setting, its rule and the value."""
    with pytest.raises(InputError, match=message):
        Recipe(config=EKFConfig(), **options)
