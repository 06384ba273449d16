"""Error bars, against errors whose spread is known."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame
from ekfcore.errors import InputError

calibration = pytest.importorskip("ekfcore.potentials.calibration", reason="active learning needs ekfcore[active]")


def _pairs(seed: int, scale: float, count: int) -> list[tuple[Any, Any]]:
    """Return frames of ten atoms with Gaussian errors of `scale` times the root of their variance."""
    rng, pairs = np.random.default_rng(seed), []
    for _ in range(count):
        variance = rng.uniform(0.1, 10.0, 10)
        errors = rng.normal(size=(10, 3)) * scale * np.sqrt(variance[:, None] / 3)
        pairs.append((SimpleNamespace(forces=variance), errors))
    return pairs


def test_factor_and_shares_of_gaussian_errors() -> None:
    """Within five standard errors of 12 000 components."""
    density = 2 * math.exp(-0.5) / math.sqrt(2 * math.pi)  # of the size of a standard Gaussian, at one
    tolerance = 5 * math.sqrt(0.6827 * 0.3173 / 12000) / density
    assert calibration.bar_factor(_pairs(0, 0.3, 400)) == pytest.approx(0.3, rel=tolerance)
    for share, expected in zip(calibration.coverage(_pairs(1, 1.0, 400)), (0.6827, 0.9545), strict=True):
        assert share == pytest.approx(expected, abs=5 * math.sqrt(2 * expected * (1 - expected) / 12000))


def test_errors_that_grew_are_not_covered() -> None:
    """Errors of two error bars: half of one is 38 % of a Gaussian."""
    assert calibration.coverage(_pairs(1, 2.0, 400))[0] == pytest.approx(0.383, abs=0.03)


def test_forces_that_vanish_by_symmetry() -> None:
    """Without uncertainty, yet with errors: a few of them leave the factor of the others alone."""
    pairs = _pairs(0, 0.3, 400)
    for found, _ in pairs[:10]:
        found.forces[:] = 0.0
    assert calibration.bar_factor(pairs) == pytest.approx(0.3, rel=0.1)


def test_nothing_to_hold_error_bars_against() -> None:
    """It is said."""
    for question in (calibration.bar_factor, calibration.coverage):
        with pytest.raises(InputError, match="no frames with forces to hold error bars against"):
            question([])


def test_rank_correlation() -> None:
    """Order alone counts; what has no order gives NaN."""
    x = np.random.default_rng(0).uniform(0.0, 3.0, 50)
    assert calibration.rank_correlation(x, np.exp(x)) == pytest.approx(1.0)
    assert calibration.rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    assert math.isnan(calibration.rank_correlation(x, np.ones(50)))
    assert math.isnan(calibration.rank_correlation([1.0, 2.0], [1.0, 2.0]))


def test_errors_of_the_chosen_atoms() -> None:
    """A frame without forces is named."""
    frame = Frame(
        numbers=np.asarray([29, 29]),
        positions=np.zeros((2, 3)),
        cell=np.eye(3),
        pbc=np.ones(3, dtype=bool),
        forces=np.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        source="two atoms",
    )
    chosen = SimpleNamespace(atoms=np.asarray([1]))
    np.testing.assert_array_equal(calibration.force_errors(chosen, np.ones((2, 3)), frame), [[-3.0, -4.0, -5.0]])
    bare = Frame(numbers=frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, source="bare")
    with pytest.raises(InputError, match="bare: must have forces"):
        calibration.force_errors(chosen, np.ones((2, 3)), bare)
