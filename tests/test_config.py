"""Settings of the filter."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekfcore import Anneal, EKFConfig, InputError, MemoryFactor
from ekfcore.noise import AdaptiveNoise

positive = st.floats(1e-6, 1e6)


def test_defaults_are_the_papers_memory_and_one() -> None:
    """Lambda 0.98, nu 0.9987, P_0 = I, R = 1, double precision."""
    config = EKFConfig()
    assert (config.memory.initial, config.memory.rate) == (0.98, 0.9987)
    assert (config.noise, config.p0, config.process_noise, config.dtype) == (1.0, 1.0, 0.0, "float64")


def test_settings_cannot_be_changed() -> None:
    """One object can serve many filters."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        EKFConfig().p0 = 2.0  # type: ignore[misc]


def test_noise_is_a_number_an_anneal_the_blocks_or_adaptive() -> None:
    """The first three give a variance, the last a relative one."""
    assert EKFConfig(noise=0.25).noise_at(10, 7) == 0.25
    assert EKFConfig(noise="blocks").noise_at(10, 7) == 7.0
    assert EKFConfig(noise=Anneal(1.0, 0.01, 5)).noise_at(5, 7) == pytest.approx(0.1, rel=1e-15)
    for noise in ("adaptive", AdaptiveNoise(factor=3.0)):
        assert EKFConfig(noise=noise).noise_at(5, 7) == 1.0


def test_only_adaptive_noise_follows_the_innovations() -> None:
    """The name stands for the default."""
    assert EKFConfig(noise="adaptive").adaptive == AdaptiveNoise()
    assert EKFConfig(noise=AdaptiveNoise(window=7)).adaptive == AdaptiveNoise(window=7)
    assert [EKFConfig(noise=noise).adaptive for noise in (1.0, "blocks", Anneal(1.0, 0.1, 5))] == [None] * 3


def test_process_noise_is_a_number_or_an_anneal() -> None:
    """Both give a variance."""
    assert EKFConfig(process_noise=0.5).process_noise_at(10) == 0.5
    assert EKFConfig(process_noise=Anneal(1.0, 0.01, 5)).process_noise_at(5) == pytest.approx(0.1, rel=1e-15)


@pytest.mark.parametrize(
    ("start", "stop", "values"),
    [
        (100.0, 1.0, [100.0, 31.6227766016838, 10.0, 1.0, 1.0]),
        (2.0, 2.0, [2.0] * 5),
        (1.0, 10.0, [1.0, 10**0.5, 10.0, 10.0, 10.0]),
    ],
)
def test_anneal_changes_by_a_decade_and_stops(start: float, stop: float, values: list[float]) -> None:
    """After half a decade, one, two and very many, whichever way it goes."""
    anneal = Anneal(start, stop, 40)
    assert [anneal.at(count) for count in (0, 20, 40, 80, 10**9)] == pytest.approx(values, rel=1e-13)


@given(positive, positive, positive, st.integers(0, 10**6), st.integers(0, 10**6))
@settings(derandomize=True, deadline=None)
def test_anneal_is_monotonic_and_stays_between_its_ends(
    start: float, stop: float, measurements: float, early: int, later: int
) -> None:
    """It approaches the last value and never passes it."""
    anneal = Anneal(start, stop, measurements)
    first, second = anneal.at(min(early, later)), anneal.at(max(early, later))
    slack = 1e-12  # of powers and logarithms, relative
    assert abs(math.log(stop / second)) <= abs(math.log(stop / first)) + slack
    assert min(start, stop) * (1 - slack) <= second <= max(start, stop) * (1 + slack)


@pytest.mark.parametrize(
    "values", [(0.0, 1.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, 0.0), (math.nan, 1.0, 1.0), (1.0, math.inf, 1.0)]
)
def test_anneal_takes_positive_numbers(values: tuple[float, float, float]) -> None:
    """The message names the rule."""
    with pytest.raises(InputError, match="`start`, `stop` and `measurements` of an annealed number must be positive"):
        Anneal(*values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": 0.0}, '`noise` must be a positive .*, an Anneal, an AdaptiveNoise, "adaptive" or "blocks", got 0.0'),
        ({"noise": math.nan}, "`noise` must be .* got nan"),
        ({"noise": math.inf}, "`noise` must be .* got inf"),
        ({"noise": "layers"}, "`noise` must be .* got 'layers'"),
        ({"process_noise": -1.0}, "`process_noise` must be zero or a positive number, got -1.0"),
        ({"process_noise": math.nan}, "`process_noise` must be .* got nan"),
        ({"p0": 0.0}, "`p0` must be a positive number, got 0.0"),
        ({"p0": math.inf}, "`p0` must be a positive number, got inf"),
        ({"pending": 0}, "`pending` must be at least 1, got 0"),
        ({"rows": 1}, "`rows` must be 0, or an integer of at least 2, got 1"),
        ({"rows": -1}, "`rows` must be 0, or an integer of at least 2, got -1"),
        ({"rows": 2, "process_noise": 0.5}, "`process_noise` needs rows = 0, got 0.5 with rows = 2"),
        (
            {"rows": 2, "process_noise": Anneal(1.0, 0.1, 5.0)},
            r"`process_noise` needs rows = 0, got Anneal\(start=1.0, stop=0.1, measurements=5.0\) with rows = 2",
        ),
        ({"dtype": "float16"}, '`dtype` must be "float64" or "float32", got \'float16\''),
    ],
)
def test_bad_settings_are_named(options: dict[str, Any], message: str) -> None:
    """The message names the setting, its rule and the value."""
    with pytest.raises(InputError, match=message):
        EKFConfig(**options)


@pytest.mark.parametrize("number", [np.float32(0.5), np.float64(0.5), np.asarray(0.5)], ids=repr)
def test_numbers_of_numpy_become_plain_numbers(number: Any) -> None:
    """All settings hold what prints, compares and saves as a number."""
    config = EKFConfig(noise=number, p0=number, process_noise=number, memory=MemoryFactor(number, number))
    assert config == EKFConfig(noise=0.5, p0=0.5, process_noise=0.5, memory=MemoryFactor(0.5, 0.5))
    assert {type(config.noise), type(config.p0), type(config.process_noise), type(config.memory.initial)} == {float}
    assert Anneal(number, number, number) == Anneal(0.5, 0.5, 0.5)
    assert AdaptiveNoise(factor=number, power=4 + number) == AdaptiveNoise(factor=0.5, power=4.5)
    counts = EKFConfig(pending=np.int32(4), rows=np.asarray(8))  # type: ignore[arg-type]
    assert (type(counts.pending), type(counts.rows), counts) == (int, int, EKFConfig(pending=4, rows=8))


def test_scalars_of_pytorch_become_plain_numbers() -> None:
    """With a gradient or without."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    config = EKFConfig(noise=torch.tensor(0.5), p0=torch.tensor(2.0, requires_grad=True))
    assert config == EKFConfig(noise=0.5, p0=2.0)


@pytest.mark.parametrize("value", ["1", [1.0], np.ones(2), 1j, True, None, np.asarray(1j)], ids=repr)
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Here and in one line, not in the first update."""
    makers: dict[str, Callable[[], object]] = {
        f"`{name}` must": partial(EKFConfig, **{name: value})
        for name in ("noise", "p0", "process_noise", "pending", "rows")
    }
    makers |= {
        f"`{name}` of the memory factor must": partial(MemoryFactor, **{name: value}) for name in ("initial", "rate")
    }
    makers |= {
        f"`{name}` of an adaptive noise must": partial(AdaptiveNoise, **{name: value})
        for name in ("factor", "window", "power")
    }
    makers["of an annealed number must be positive"] = partial(Anneal, value, 1.0, 1.0)
    for message, make in makers.items():
        with pytest.raises(InputError, match=message):
            make()


@pytest.mark.parametrize(
    "options", [{"pending": 2.5}, {"rows": 4.0}, {"dtype": np.dtype("float64")}, {"dtype": np.float32}]
)
def test_counts_are_integers_and_types_have_names(options: dict[str, Any]) -> None:
    """What only looks like one would break the first fold."""
    (name,) = options
    with pytest.raises(InputError, match=f"`{name}` must be"):
        EKFConfig(**options)
