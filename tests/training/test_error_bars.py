"""The scale of P, on a model that is linear in its weights."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.presets import Recipe

pytest.importorskip("pydantic", reason="training needs ekfcore[atoms]")
error_bars = pytest.importorskip("ekfcore.potentials.error_bars", reason="training needs ekfcore[atoms]")
from ekfcore.training.kalman import KalmanOptimizer  # noqa: E402 (needs pydantic, as the above)

if TYPE_CHECKING:
    from training.conftest import Linear

Samples = Callable[[bool], list[Any]]


def _state(model: "Linear") -> ek.EKFState:
    config = ek.EKFConfig(rows=8)
    state = ek.init(np.linspace(-1, 1, 12), ek.partition(model.layer_sizes), config)
    return ek.update(state, np.arange(12.0), 0.5, config=config)[0]


def test_variances_become_the_squared_errors(
    linear: "Linear", samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many sums of signed components, what all of them say one by one; energies count per atom."""
    monkeypatch.setattr(error_bars, "_PROBES", 20_000)
    state, squares, variances = _state(linear), np.zeros(2), np.zeros(2)
    P = state.covariance.multiply(np.eye(12))
    for k, sample in enumerate(samples(False)):
        prediction = linear.predict(state.weights, k)
        E, F = linear.maps["energy"][k], linear.maps["forces"][k].reshape(15, 12)
        squares += (
            ((prediction["energy"] - sample.energy) / 5) ** 2,
            np.sum((prediction["forces"] - sample.forces) ** 2),
        )
        variances += E @ P @ E / 25, np.trace(F @ P @ F.T)
    scale = error_bars.kpu_scale(linear, state, samples(False))
    assert scale.energy == pytest.approx(squares[0] / variances[0], rel=1e-10)
    assert scale.force == pytest.approx(squares[1] / variances[1], rel=0.02)


def test_a_larger_p_needs_a_smaller_scale(linear: "Linear", samples: Samples) -> None:
    """In proportion."""
    w, layout = np.linspace(-1, 1, 12), ek.partition(linear.layer_sizes)
    small, large = (
        error_bars.kpu_scale(linear, ek.init(w, layout, ek.EKFConfig(p0=p0)), samples(False)) for p0 in (1.0, 4.0)
    )
    assert small.force == pytest.approx(4 * large.force)
    assert small.energy == pytest.approx(4 * large.energy)


def test_the_record_of_an_epoch(linear: "Linear", samples: Samples) -> None:
    """Standard deviations in thousandths of the units: of adaptive noise at its level, of another as it was set."""
    noise = ek.AdaptiveNoise(factor=0.5, window=20, power=3.0)
    for config in (ek.EKFConfig(noise=noise, rows=8), ek.EKFConfig(noise=7.0)):
        recipe = Recipe(config=config, mode="pinned", groups=2, group_size=2, energy_noise=0.1, force_noise=2.0)
        state = ek.init(np.linspace(-1, 1, 12), ek.partition(linear.layer_sizes), config)
        optimizer = KalmanOptimizer(linear, recipe, state)
        optimizer.step(samples(False), np.random.default_rng(0))
        told, scale = optimizer.diagnose(samples(False)), error_bars.kpu_scale(linear, optimizer.state, samples(False))
        level = 1.0
        if config.adaptive is not None:
            level = float(noise.variance(optimizer.state.noise))
            assert float(optimizer.state.noise.weight) == 4  # two groups of two frames, no energy
        assert told["energy_noise"] == pytest.approx(100 * level**0.5)
        assert told["force_noise"] == pytest.approx(2000 * level**0.5)
        assert (told["energy_kpu_scale"], told["force_kpu_scale"]) == (scale.energy, scale.force)
