"""Kalman prediction uncertainty."""

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekfcore import BlockLayout, EKFConfig, EKFState, InputError, MemoryFactor, init, kpu, update

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

LAYOUT = BlockLayout((4, 1, 3))


def _trained(xp: "Xp", config: EKFConfig, updates: int) -> EKFState:
    rng = np.random.default_rng(0)
    state = init(xp.asarray(rng.standard_normal(8)), LAYOUT, config)
    for _ in range(updates):
        H, e = xp.asarray(rng.standard_normal((2, 8))), xp.asarray(rng.standard_normal(2))
        state, _ = update(state, H, e, config=config)
    return state


@pytest.mark.parametrize("updates", [0, 2, 5])
def test_kpu_is_the_diagonal_of_hph(xp: "Xp", assert_close: "AssertClose", updates: int) -> None:
    """With the dense P, for many quantities and for one, with pending rows and without."""
    state = _trained(xp, EKFConfig(pending=4), updates)
    P = np.zeros((8, 8))
    for index, part in enumerate(LAYOUT.slices):
        P[part, part] = xp.to_numpy(state.covariance.dense(index))
    H = np.random.default_rng(1).standard_normal((5, 8))
    assert_close(kpu(state, xp.asarray(H)), xp.asarray(np.diag(H @ P @ H.T)), rtol=1e-12)
    assert_close(kpu(state, xp.asarray(H[0])), xp.asarray([H[0] @ P @ H[0]]), rtol=1e-12)


def test_kpu_is_what_the_next_update_reports(xp: "Xp", assert_close: "AssertClose") -> None:
    """`info.hph` is the uncertainty before the measurement."""
    config = EKFConfig()
    state = _trained(xp, config, 3)
    H = xp.asarray(np.random.default_rng(2).standard_normal((3, 8)))
    _, info = update(state, H, xp.asarray([0.1, 0.2, 0.3]), config=config)
    assert_close(kpu(state, H), info.hph, rtol=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100.0))
@settings(derandomize=True, deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_measurement_makes_its_quantity_certain(xp: "Xp", seed: int, noise: float) -> None:
    """At lambda = 1 variances add up as parallel resistors do: 1/kpu after = 1/kpu before + 1/R."""
    config = EKFConfig(memory=MemoryFactor(1.0), noise=noise)
    layout = BlockLayout((8,))
    H = xp.asarray(np.random.default_rng(seed).standard_normal(8))
    state = init(xp.asarray(np.zeros(8)), layout, config)
    after, _ = update(state, H, 0.3, config=config)
    assert 1 / float(kpu(after, H)[0]) == pytest.approx(1 / float(kpu(state, H)[0]) + 1 / noise, rel=1e-9)


def test_no_quantity_has_no_uncertainty(xp: "Xp") -> None:
    """An empty list of gradients gives an empty answer."""
    assert kpu(_trained(xp, EKFConfig(), 1), xp.asarray(np.zeros((0, 8)))).shape == (0,)


@pytest.mark.parametrize("shape", [(7,), (2, 7), (), (1, 2, 8)])
def test_wrong_shapes_are_named(xp: "Xp", shape: tuple[int, ...]) -> None:
    """The message names the rule and what was found."""
    with pytest.raises(InputError, match=r"`H` must have shape \(8,\) or \(m, 8\), got"):
        kpu(_trained(xp, EKFConfig(), 0), xp.asarray(np.ones(shape)))
