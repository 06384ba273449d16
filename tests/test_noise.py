"""Noise that follows the innovations, against a few lines of plain Python."""

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.arrays import to_numpy
from ekfcore.noise import AdaptiveNoise, NoiseLevel

if TYPE_CHECKING:
    from conftest import Xp

LAYOUT = ek.BlockLayout((4, 1, 3))
N = LAYOUT.n_params
ENDLESS = ek.MemoryFactor(1.0)


class Book:
    """The running mean, one update at a time, in Python's numbers."""

    def __init__(self, factor: float = 1.0, window: float = 100.0, power: float = 2.0) -> None:
        self.factor, self.window, self.power = factor, window, power
        self.mean, self.weight, self.first = 0.0, 0.0, 0.0

    def variances(self, e: list[float], r: list[float], tracked: list[bool]) -> list[float]:
        """Take the innovations into account and return R of each measurement."""
        squares = [e_k * e_k / r_k for e_k, r_k in zip(e, r, strict=True)]
        new = [square for square, counts in zip(squares, tracked, strict=True) if counts]
        if new:
            # The old mean stands for so many measurements that window ones do in all; the new ones for themselves.
            old = max(min(self.weight, self.window - len(new)), 0.0)
            self.mean = (old * self.mean + math.fsum(new)) / (old + len(new))
            filled = self.weight >= self.window
            self.weight = old + len(new)
            if not filled:
                self.first = self.mean
        elif not self.weight:
            self.mean = math.fsum(squares) / len(squares)
        ratio = math.sqrt(self.mean / self.first) if self.first else 1.0
        share = self.factor * min(max(0.1, ratio ** (self.power - 2)), 1.0)
        return [share * self.mean * r_k for r_k in r]


def _config(**options: Any) -> ek.EKFConfig:
    return ek.EKFConfig(**{"noise": "adaptive", "memory": ENDLESS, **options})


def _start(xp: "Xp", config: ek.EKFConfig) -> ek.EKFState:
    return ek.init(xp.asarray(np.zeros(N)), LAYOUT, config)


def _rows(m: int, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal((m, N))


# Of m measurements each: innovations, relative variances, which of them count
STEPS = [
    ([0.5, -2.0], [1.0, 4.0], [False, False]),
    ([3.0], [0.5], [False]),
    ([1.0, -0.5, 0.25], [1.0, 2.0, 0.1], [True, False, True]),
    ([0.0], [1.0], [False]),
    ([-0.7], [3.0], [True]),
    ([0.1, 0.2, 0.3, 0.4, 0.5], [1.0] * 5, [True] * 5),
    ([2.0, 1.0], [1.0, 1.0], [False, True]),
]


@pytest.mark.parametrize(
    "options",
    [{}, {"factor": 0.3}, {"window": 3}, {"window": 2.5}, {"window": 1, "power": 4.0}, {"window": 40, "power": 3.0}],
    ids=str,
)
@pytest.mark.parametrize("rows", [0, 4])
def test_r_is_the_running_mean(xp: "Xp", options: dict[str, float], rows: int) -> None:
    """Before anything counts, while the first ones do, and in a window that may be shorter than one update."""
    config, book = _config(noise=AdaptiveNoise(**options), rows=rows), Book(**options)
    state = _start(xp, config)
    for index, (e, r, tracked) in enumerate(STEPS):
        H = xp.asarray(_rows(len(e), index))
        state, info = ek.update(state, H, xp.asarray(e), config=config, noise=r, tracked=tracked, throw=True)
        assert info.noise.shape == (len(e),)
        np.testing.assert_allclose(to_numpy(info.noise), book.variances(e, r, tracked), rtol=1e-13)
        np.testing.assert_allclose(float(state.noise.mean), book.mean, rtol=1e-13)
        assert float(state.noise.weight) == book.weight
        np.testing.assert_allclose(float(state.noise.first), book.first, rtol=1e-13)
    for number in (state.noise.mean, state.noise.weight, state.noise.first):
        assert (number.dtype, number.shape) == (state.covariance.scale.dtype, ())


def test_the_update_is_that_with_this_r(xp: "Xp") -> None:
    """The filter of fixed noise, told each R, goes the same way; R is in the unit of the innovations squared."""
    config, fixed = _config(noise=AdaptiveNoise(factor=0.5, window=5)), _config(noise=1.0)
    state, told = _start(xp, config), _start(xp, fixed)
    for index, (e, r, tracked) in enumerate(STEPS):
        arrays = xp.asarray(_rows(len(e), index)), xp.asarray(e)
        state, info = ek.update(state, *arrays, config=config, noise=r, tracked=tracked)
        told, other = ek.update(told, *arrays, config=fixed, noise=to_numpy(info.noise).tolist())
        np.testing.assert_allclose(to_numpy(state.weights), to_numpy(told.weights), rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(to_numpy(other.noise), to_numpy(info.noise))
    assert float(told.noise.weight) == 0  # nobody asked for it


def test_what_is_reported_without_adaptive_noise(xp: "Xp") -> None:
    """The settings' variance for all of them, or what `update` was given."""
    arrays = xp.asarray(_rows(2)), xp.asarray([1.0, 2.0])
    for options, noise, reported in (
        ({"noise": 0.3}, None, [0.3, 0.3]),
        ({"noise": "blocks"}, None, [3.0, 3.0]),
        ({"noise": 0.3}, [1.0, 4.0], [1.0, 4.0]),
    ):
        config = _config(**options)
        _, info = ek.update(_start(xp, config), *arrays, config=config, noise=noise)
        np.testing.assert_array_equal(to_numpy(info.noise), reported)


def test_the_name_stands_for_the_default(xp: "Xp") -> None:
    """It is AdaptiveNoise(), and relative variances are one where none are given."""
    arrays, results = (xp.asarray(_rows(3)), xp.asarray([1.0, 2.0, -1.0])), []
    for noise, ratio in (("adaptive", None), (AdaptiveNoise(), None), (AdaptiveNoise(), 1.0)):
        config = _config(noise=noise)
        state, info = ek.update(_start(xp, config), *arrays, config=config, noise=ratio)
        np.testing.assert_allclose(to_numpy(info.noise), 2.0, rtol=1e-15)
        results.append(to_numpy(state.weights))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_everything_counts_unless_something_else_is_said(xp: "Xp") -> None:
    """`tracked` may be any sequence of flags."""
    config, states = _config(), []
    for tracked in (None, [True, True], (True, True)):
        arrays = xp.asarray(_rows(2)), xp.asarray([1.0, 2.0])
        state, _ = ek.update(_start(xp, config), *arrays, config=config, tracked=tracked)
        states.append((float(state.noise.mean), float(state.noise.weight)))
    assert states == [(2.5, 2.0)] * 3


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1), st.integers(1, 7))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_order_within_an_update_does_not_matter(order: list[int], seed: int, window: int) -> None:
    """Of R, of the level, and of the weights."""
    rng, config = np.random.default_rng(seed), _config(noise=AdaptiveNoise(window=window))
    first = rng.standard_normal((2, N)), rng.standard_normal(2)
    H, e, r = rng.standard_normal((5, N)), rng.standard_normal(5), rng.uniform(0.1, 10.0, 5)
    tracked = rng.integers(2, size=5).astype(bool)
    begun, _ = ek.update(ek.init(np.zeros(N), LAYOUT, config), *first, config=config)
    one, info = ek.update(begun, H, e, config=config, noise=r.tolist(), tracked=tracked.tolist())
    flags = tracked[order].tolist()
    other, mixed = ek.update(begun, H[order], e[order], config=config, noise=r[order].tolist(), tracked=flags)
    np.testing.assert_allclose(mixed.noise, info.noise[order], rtol=1e-13)
    np.testing.assert_allclose(other.noise.mean, one.noise.mean, rtol=1e-13)
    assert float(other.noise.weight) == float(one.noise.weight)
    np.testing.assert_allclose(other.weights, one.weights, rtol=1e-8, atol=1e-10)


@given(st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
@settings(derandomize=True, deadline=None, max_examples=10)
def test_units_do_not_matter(unit: float, seed: int) -> None:
    """Where the innovations, the gradients and the root of r have another unit, the level has none."""
    rng, config = np.random.default_rng(seed), _config()
    one = other = ek.init(np.zeros(N), LAYOUT, config)
    for _ in range(4):
        H, e = rng.standard_normal((2, N)), rng.standard_normal(2)
        one, _ = ek.update(one, H, e, config=config, noise=0.5)
        other, _ = ek.update(other, unit * H, unit * e, config=config, noise=0.5 * unit**2)
    np.testing.assert_allclose(other.noise.mean, one.noise.mean, rtol=1e-10)
    np.testing.assert_allclose(other.weights, one.weights, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rows", [0, 4])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_innovations_that_vanish_do_no_harm(xp: "Xp", rows: int, dtype: Any) -> None:
    """R stays above what P can resolve, in its precision: p0 |H|^2 times the power 3/4 of its rounding."""
    config = _config(rows=rows, dtype=dtype, p0=3.0, noise=AdaptiveNoise(window=2))
    state, H = _start(xp, config), _rows(3)
    for index in range(12):
        state, info = ek.update(state, xp.asarray(H[index % 3]), 0.0, config=config, throw=True)
        lowest = np.finfo(dtype).eps ** 0.75 * 3.0 * np.sum(H[index % 3] ** 2)
        np.testing.assert_allclose(to_numpy(info.noise), [lowest], rtol=1e-6)
    np.testing.assert_array_equal(to_numpy(state.weights), np.zeros(N))
    # It still learns when there is something to learn.
    state, info = ek.update(state, xp.asarray(_rows(1, 5)[0]), 1.0, config=config, throw=True)
    np.testing.assert_allclose(to_numpy(info.noise), [0.5], rtol=1e-6)
    assert np.all(np.isfinite(to_numpy(state.weights)))
    assert np.any(to_numpy(state.weights) != 0)


@pytest.mark.parametrize("rows", [0, 8, 64])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_model_that_is_exact_goes_on(rows: int, dtype: Any) -> None:
    """Hundreds of measurements of what is known already."""
    config = _config(rows=rows, dtype=dtype)
    state, H = ek.init(np.zeros(N), LAYOUT, config), _rows(3)
    for index in range(300):
        state, info = ek.update(state, H[index % 3], 0.0, config=config, throw=True)
    assert info.status == "ok"


@pytest.mark.parametrize("rows", [0, 4])
def test_no_gradient_and_no_innovation(xp: "Xp", rows: int) -> None:
    """As of the force on a lone atom, which nothing changes: skipped, or harmless beside others, at the start too."""
    config = _config(rows=rows)
    state, nothing = _start(xp, config), xp.asarray(np.zeros(N))
    after, info = ek.update(state, nothing, 0.0, config=config, throw=True)
    assert (info.status, after) == ("skipped", state)
    H = _rows(2)
    H[1] = 0
    state, info = ek.update(state, xp.asarray(H), xp.asarray([0.0, 0.0]), config=config, throw=True)
    assert info.status == "ok"
    state, info = ek.update(state, xp.asarray(H), xp.asarray([1.0, 0.0]), config=config, throw=True)
    assert np.all(np.isfinite(to_numpy(state.weights)))
    np.testing.assert_allclose(to_numpy(info.noise), [0.25, 0.25], rtol=1e-15)


def test_refused_updates_teach_nothing(xp: "Xp") -> None:
    """Neither of the noise: what is skipped, not finite, or finds P indefinite."""
    config = _config()
    state, _ = ek.update(_start(xp, config), xp.asarray(_rows(1)), xp.asarray([1.0]), config=config)
    H = xp.asarray(_rows(1, 1))
    for e in (np.nan, np.inf, 1e200):  # the last one has no finite square
        with np.errstate(over="ignore", invalid="ignore"):
            after, info = ek.update(state, H, xp.asarray([e]), config=config)
        assert (info.status, after) == ("non_finite", state)
    after, info = ek.update(state, xp.asarray(np.zeros((1, N))), xp.asarray([5.0]), config=config)
    assert (info.status, after) == ("skipped", state)
    broken = replace(state, covariance=replace(state.covariance, scale=-10 * state.covariance.scale))
    after, info = ek.update(broken, H, xp.asarray([5.0]), config=config)
    assert (info.status, after) == ("not_psd", broken)
    assert float(state.noise.mean) == float(state.noise.weight) == 1.0


def test_earlier_states_keep_their_level(xp: "Xp") -> None:
    """An update makes a new one, also where memory is given up."""
    config = _config(rows=4)
    state = _start(xp, config)
    for donate in (False, True):
        after, _ = ek.update(state, xp.asarray(_rows(1)), xp.asarray([2.0]), config=config, donate=donate)
        assert (float(state.noise.mean), float(state.noise.weight)) == (0.0, 0.0)
        assert (float(after.noise.mean), float(after.noise.weight)) == (4.0, 1.0)


@pytest.mark.parametrize(("m", "tracked"), [(1, [True, True]), (2, [True]), (3, [])])
def test_flags_must_fit(xp: "Xp", m: int, tracked: list[bool]) -> None:
    """One for each measurement, whatever the noise is."""
    for noise in ("adaptive", 1.0):
        config = _config(noise=noise)
        state = _start(xp, config)
        with pytest.raises(ek.InputError) as caught:
            ek.update(state, xp.asarray(_rows(m)), xp.asarray(np.ones(m)), config=config, tracked=tracked)
        assert str(caught.value) == (f"`tracked` must hold {m} flags, one for each measurement, got {tracked}")


@pytest.mark.parametrize("ratios", [0.0, -1.0, [1.0, math.nan], [1.0]])
def test_relative_variances_must_be_positive(xp: "Xp", ratios: Any) -> None:
    """As any variance."""
    config = _config()
    with pytest.raises(ek.InputError, match="`noise` must be one or 2 positive numbers, got"):
        ek.update(_start(xp, config), xp.asarray(_rows(2)), xp.asarray([1.0, 1.0]), config=config, noise=ratios)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0.0}, "`factor` of an adaptive noise must be a positive number, got 0.0"),
        ({"factor": -1.0}, "`factor` of an adaptive noise must be a positive number, got -1.0"),
        ({"factor": math.inf}, "`factor` of an adaptive noise must be a positive number, got inf"),
        ({"factor": math.nan}, "`factor` of an adaptive noise must be a positive number, got nan"),
        ({"window": 0.5}, "`window` of an adaptive noise must be at least 1, got 0.5"),
        ({"window": math.inf}, "`window` of an adaptive noise must be at least 1, got inf"),
        ({"window": math.nan}, "`window` of an adaptive noise must be at least 1, got nan"),
        ({"power": 1.9}, "`power` of an adaptive noise must be at least 2, got 1.9"),
        ({"power": math.inf}, "`power` of an adaptive noise must be at least 2, got inf"),
        ({"power": math.nan}, "`power` of an adaptive noise must be at least 2, got nan"),
    ],
)
def test_bad_settings_are_named(options: dict[str, float], message: str) -> None:
    """The message names the setting, its rule and the value."""
    with pytest.raises(ek.InputError) as caught:
        AdaptiveNoise(**options)
    assert str(caught.value) == message


def test_r_falls_with_a_power_of_the_level() -> None:
    """R of half the standard deviation: a quarter, or an eighth; between a tenth of the variance and all of it."""

    def variance(mean: float, first: float, **options: float) -> float:
        level = NoiseLevel(mean=np.asarray(mean), weight=np.asarray(50.0), first=np.asarray(first))
        return float(AdaptiveNoise(**options).variance(level))

    assert variance(1.0, 4.0) == 1.0
    assert variance(1.0, 4.0, factor=3.0, power=3.0) == pytest.approx(3.0 / 2)
    assert variance(1.0, 4.0, power=4.0) == pytest.approx(1 / 4)
    assert variance(1.0, 1e6, power=3.0) == pytest.approx(0.1)
    assert variance(9.0, 4.0, power=3.0) == 9.0
    assert variance(0.0, 4.0, power=3.0) == 0.0
    assert variance(2.0, 0.0, power=3.0) == 2.0  # nothing to compare with


def test_nothing_is_known_at_the_start(xp: "Xp") -> None:
    """The level has the precision and the library of P."""
    for dtype in ("float64", "float32"):
        level = _start(xp, _config(dtype=dtype)).noise
        assert isinstance(level, NoiseLevel)
        for number in (level.mean, level.weight, level.first):
            assert (number.dtype, float(number)) == (getattr(xp.namespace, dtype), 0.0)


def test_update_can_be_compiled_by_jax() -> None:
    """The level, its first value and that of the first window are all inside."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", True)
    options = {"factor": 0.5, "window": 3, "power": 3.0}
    config, book = _config(noise=AdaptiveNoise(**options)), Book(**options)
    state = ek.init(jax.numpy.zeros(N), LAYOUT, config)
    for e, counts in ((2.0, False), (1.0, True), (0.5, True), (0.25, False), (3.0, True)):
        step = jax.jit(functools.partial(ek.update, config=config, check=False, tracked=[counts]))
        state, info = step(state, jax.numpy.asarray(_rows(1)), jax.numpy.asarray([e]))
        np.testing.assert_allclose(info.noise, book.variances([e], [1.0], [counts]), rtol=1e-13)
