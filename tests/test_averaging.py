"""The running mean of the weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ekfcore as ek
from ekfcore.arrays import to_numpy
from ekfcore.checkpoint import restore_state, state_arrays, state_header

if TYPE_CHECKING:
    from conftest import Xp

LAYOUT = ek.BlockLayout((4, 1, 3))
N = LAYOUT.n_params


def _config(**options: Any) -> ek.EKFConfig:
    return ek.EKFConfig(memory=ek.MemoryFactor(1.0), **options)


def _run(xp: "Xp", config: ek.EKFConfig, sizes: list[int]) -> list[ek.EKFState]:
    """Return the states before and after updates with so many measurements each."""
    rng = np.random.default_rng(0)
    states = [ek.init(xp.asarray(rng.standard_normal(N)), LAYOUT, config)]
    for m in sizes:
        H, e = rng.standard_normal((m, N)), rng.standard_normal(m)
        states.append(ek.update(states[-1], xp.asarray(H), xp.asarray(e), config=config, throw=True)[0])
    return states


def test_all_measurements_count_the_same_with_a_share_of_one(xp: "Xp") -> None:
    """The mean of the weights after each update, each as often as it had measurements; the first guess not at all."""
    sizes = [1, 3, 2, 1, 5]
    states = _run(xp, _config(averaging=1.0, rows=4), sizes)
    weights = np.stack([to_numpy(state.weights) for state in states[1:]])
    np.testing.assert_allclose(to_numpy(states[-1].average), np.average(weights, axis=0, weights=sizes), rtol=1e-12)
    assert states[-1].average.dtype == states[-1].weights.dtype


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.05, 1.0), count=st.integers(1, 60))
def test_older_weights_count_less(share: float, count: int) -> None:
    """Of one measurement each: the weight of the k-th among n, from the recursion written out as products."""
    n = np.arange(1, count + 1)
    new = 1 / (1 + share * (n - 1))
    importance = new * np.append(np.cumprod((1 - new)[:0:-1])[::-1], 1.0)
    np.testing.assert_allclose(importance.sum(), 1.0)
    config = _config(averaging=share)
    state = ek.init(np.zeros(1), ek.BlockLayout((1,)), config)
    mean, rng = 0.0, np.random.default_rng(count)
    for weight in importance:
        state, _ = ek.update(state, rng.standard_normal(1), float(rng.standard_normal()), config=config)
        mean += weight * float(state.weights[0])
    np.testing.assert_allclose(float(state.average[0]), mean, rtol=1e-9, atol=1e-12)
    # About the last `share` of them are in it: the centre of gravity of t^(1/share - 1) is that far back.
    if count == 60:
        np.testing.assert_allclose((importance * (count - n)).sum() / count, share / (1 + share), atol=0.04)


def test_without_averaging_the_average_is_the_weights(xp: "Xp") -> None:
    for state in _run(xp, _config(), [2, 1]):
        np.testing.assert_array_equal(to_numpy(state.average), to_numpy(state.weights))


def test_an_update_that_breaks_down_leaves_it(xp: "Xp") -> None:
    config = _config(averaging=0.1)
    state = _run(xp, config, [1, 1])[-1]
    after, info = ek.update(state, xp.asarray(np.ones(N)), float("nan"), config=config)
    assert info.status == "non_finite"
    np.testing.assert_array_equal(to_numpy(after.average), to_numpy(state.average))


def test_it_is_nearer_when_the_noise_is_underestimated() -> None:
    """A line through noisy points, trusted a hundred times too much while old ones are forgotten: the last weights
    follow the noise, their mean does not."""
    rng, truth = np.random.default_rng(1), np.asarray([1.0, -2.0])
    config = ek.EKFConfig(memory=ek.MemoryFactor(0.9, 1.0), noise=0.01, averaging=0.1)
    away = []
    for _ in range(20):
        state = ek.init(np.zeros(2), ek.BlockLayout((2,)), config)
        for _ in range(400):
            H = rng.standard_normal(2)
            state, _ = ek.update(state, H, float(H @ (truth - state.weights) + rng.standard_normal()), config=config)
        away.append([np.sum((w - truth) ** 2) for w in (state.weights, state.average)])
    last, mean = np.mean(away, axis=0)
    assert mean < last / 3


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_shares_are_checked(share: float) -> None:
    with pytest.raises(ek.InputError, match="`averaging` must be a share from 0 to 1, got"):
        ek.EKFConfig(averaging=share)


def test_states_from_before_there_was_one_load(tmp_path: Path) -> None:
    """Their weights are the average."""
    config = _config(averaging=0.1)
    state = ek.init(np.ones(N), LAYOUT, config)
    arrays = dict(state_arrays(state))
    del arrays["average"]
    np.testing.assert_array_equal(restore_state(state_header(state), arrays).average, np.ones(N))
    ek.save(state, tmp_path / "state")
    np.testing.assert_array_equal(ek.load(tmp_path / "state").average, np.ones(N))
