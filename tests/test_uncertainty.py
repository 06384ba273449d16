"""Kalman prediction uncertainty, and the theorems of arXiv 2411.13850 about it."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ekfcore import BlockLayout, EKFConfig, EKFState, FilterError, InputError, MemoryFactor, init, kpu, update
from ekfcore.uncertainty import CovarianceRoot, entropy_change, fisher_information

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


def _dense(xp: "Xp", state: EKFState) -> npt.NDArray[np.float64]:
    """Return all of P, zeros between the blocks included."""
    P = np.zeros((state.weights.shape[0],) * 2)
    for index, part in enumerate(state.covariance.layout.slices):
        P[part, part] = xp.to_numpy(state.covariance.dense(index))
    return P


@pytest.mark.parametrize("updates", [0, 2, 5])
def test_kpu_is_the_diagonal_of_hph(xp: "Xp", assert_close: "AssertClose", updates: int) -> None:
    """With the dense P, for many quantities and for one, with pending rows and without."""
    state = _trained(xp, EKFConfig(pending=4), updates)
    P = _dense(xp, state)
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


@pytest.mark.parametrize("updates", [0, 2, 5])
def test_the_root_gives_the_same_uncertainty(xp: "Xp", assert_close: "AssertClose", updates: int) -> None:
    """|H L|^2 is H P H^T, off the diagonal too."""
    state = _trained(xp, EKFConfig(pending=4), updates)
    root = CovarianceRoot(state)
    H = xp.asarray(np.random.default_rng(1).standard_normal((5, 8)))
    Y = root.whiten(H)
    assert_close(root.kpu(H), kpu(state, H), rtol=1e-12)
    assert_close(Y @ Y.T, state.covariance.multiply(H) @ H.T, rtol=1e-11)
    assert_close(root.kpu(H[0, :]), kpu(state, H[0, :]), rtol=1e-12)
    assert root.clipped == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("updates", [1, 3, 6])
def test_a_root_with_rows_that_join_blocks(xp: "Xp", assert_close: "AssertClose", updates: int) -> None:
    """Of all weights, of some of them, and of tied ones, before rows age and after, against the whole P."""
    state = _trained(xp, EKFConfig(memory=MemoryFactor(0.9), rows=6), updates)
    H, chosen = np.random.default_rng(1).standard_normal((5, 8)), np.asarray([7, 1, 2, 5])
    P = xp.to_numpy(state.covariance.multiply(xp.asarray(np.eye(8))))
    assert np.max(np.abs(P[:4, 5:])) > 1e-4  # what joins the first block and the last
    Y = CovarianceRoot(state).whiten(xp.asarray(H))
    assert_close(Y @ Y.T, xp.asarray(H @ P @ H.T), rtol=1e-9)
    assert_close(CovarianceRoot(state).kpu(xp.asarray(H)), kpu(state, xp.asarray(H)), rtol=1e-9)
    some = CovarianceRoot(state, parameters=chosen).kpu(xp.asarray(H))
    part = H[:, np.sort(chosen)] @ P[np.ix_(np.sort(chosen), np.sort(chosen))]
    assert_close(some, xp.asarray(np.sum(part * H[:, np.sort(chosen)], axis=1)), rtol=1e-9)
    ties = np.asarray([0, 1, 0, 3, 4, 5, 6, 6])
    tied = CovarianceRoot(state, ties=ties)
    assert tied.whiten(xp.asarray(H)).shape == (5, 6)
    assert_close(tied.kpu(xp.asarray(H[:, ties])), kpu(state, xp.asarray(H[:, ties])), rtol=1e-9)


def test_a_root_of_many_panels() -> None:
    """A block that is wider than a panel, in either precision."""
    rng, layout = np.random.default_rng(3), BlockLayout((300, 7))
    state = init(np.zeros(307), layout)
    for _ in range(20):
        state, _ = update(state, rng.standard_normal((3, 307)), np.ones(3), config=EKFConfig())
    H = rng.standard_normal((4, 307))
    np.testing.assert_allclose(CovarianceRoot(state).kpu(H), kpu(state, H), rtol=1e-12)
    single = CovarianceRoot(state, dtype="float32")
    assert single.kpu(H).dtype == np.float32
    np.testing.assert_allclose(single.kpu(H), kpu(state, H), rtol=1e-5)


def test_a_root_for_some_of_the_weights(xp: "Xp", assert_close: "AssertClose") -> None:
    """It is that of the part of P that belongs to them."""
    state = _trained(xp, EKFConfig(), 4)
    H, chosen = np.random.default_rng(4).standard_normal((3, 8)), np.asarray([7, 1, 2, 5])
    part = _dense(xp, state)[np.ix_(chosen, chosen)]
    root = CovarianceRoot(state, parameters=chosen)
    expected = np.einsum("mi,ij,mj->m", H[:, chosen], part, H[:, chosen])
    assert_close(root.kpu(xp.asarray(H)), xp.asarray(expected), rtol=1e-12)
    assert root.whiten(xp.asarray(H)).shape == (3, 4)


def test_tied_weights_count_once(xp: "Xp", assert_close: "AssertClose") -> None:
    """Where gradients are equal, a smaller root gives the same; a tie across two blocks is none; with a choice too."""
    state = _trained(xp, EKFConfig(), 4)
    ties = np.asarray([0, 1, 0, 3, 3, 0, 6, 6])  # blocks of 4, 1 and 3
    H = np.random.default_rng(4).standard_normal((3, 8))[:, ties]
    root = CovarianceRoot(state, ties=ties)
    assert root.whiten(xp.asarray(H)).shape == (3, 3 + 1 + 2)
    assert_close(root.kpu(xp.asarray(H)), kpu(state, xp.asarray(H)), rtol=1e-12)
    some, chosen = CovarianceRoot(state, ties=ties, parameters=np.asarray([2, 6, 7, 0])), [0, 2, 6, 7]
    part = _dense(xp, state)[np.ix_(chosen, chosen)]
    expected = np.einsum("mi,ij,mj->m", H[:, chosen], part, H[:, chosen])
    assert_close(some.kpu(xp.asarray(H)), xp.asarray(expected), rtol=1e-12)
    assert some.whiten(xp.asarray(H)).shape == (3, 2)


def test_a_root_outlives_the_state() -> None:
    """Also where the next update overwrites the covariance."""
    config = EKFConfig(pending=1)
    state, H = init(np.zeros(8), LAYOUT, config), np.eye(8)
    root, before = CovarianceRoot(state), kpu(state, H)
    update(state, np.ones(8), 1.0, config=config, donate=True)
    np.testing.assert_array_equal(root.kpu(H), before)


def _with_block(eigenvalues: list[float]) -> EKFState:
    """Return a state whose only block has these eigenvalues."""
    n = len(eigenvalues)
    Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))
    state = init(np.zeros(n), BlockLayout((n,)), backend="generic")
    store = state.covariance.backend.from_lower(BlockLayout((n,)), [(Q * eigenvalues) @ Q.T])
    return replace(state, covariance=replace(state.covariance, store=store))


def test_rounding_below_zero_is_clipped_and_told() -> None:
    """An eigenvalue of -1e-10 beside one of 2 is zero, and no uncertainty is negative."""
    state = _with_block([2.0, 1.0, -1e-10])
    root, H = CovarianceRoot(state), np.random.default_rng(1).standard_normal((20, 3))
    assert root.clipped[0] == pytest.approx(5e-11, rel=1e-3)
    np.testing.assert_allclose(root.kpu(H), kpu(state, H), rtol=1e-8)
    Y = root.whiten(H)
    np.testing.assert_allclose(Y @ Y.T, H @ state.covariance.dense(0) @ H.T, atol=1e-8)


@pytest.mark.parametrize("eigenvalues", [[2.0, 1.0, -0.1], [-1.0, -1.0], [np.nan, 1.0]])
def test_what_is_no_covariance_is_refused(eigenvalues: list[float]) -> None:
    """With the block, what is wrong with it and what to do."""
    with pytest.raises(FilterError, match=r"block 0 of P is no covariance: it.* float64"):
        CovarianceRoot(_with_block(eigenvalues))


def test_entropy_change_is_that_of_the_weights(xp: "Xp", assert_close: "AssertClose") -> None:
    """Theorem 4.2: measured with log det P before and after a joint update of one block, R of each its own."""
    config, layout = EKFConfig(memory=MemoryFactor(1.0)), BlockLayout((8,))
    rng, noise = np.random.default_rng(5), [0.5, 2.0, 3.0]
    H = xp.asarray(rng.standard_normal((3, 8)))
    state = init(xp.asarray(np.zeros(8)), layout, config)
    told = entropy_change(state, H, noise)
    after, _ = update(state, H, xp.asarray(np.zeros(3)), config=config, noise=noise)
    lost = np.linalg.slogdet(_dense(xp, state))[1] - np.linalg.slogdet(_dense(xp, after))[1]
    assert_close(told, xp.asarray(lost / 2), rtol=1e-12)
    assert_close(entropy_change(state, H[0, :], 0.5), xp.asarray(np.log1p(float(kpu(state, H[0, :])[0]) / 0.5) / 2))


def test_the_inverse_of_p_is_the_weighted_sum_of_fisher_terms(xp: "Xp", assert_close: "AssertClose") -> None:
    """Theorem 4.1: P_t^-1 = prod(lambda) P_0^-1 + sum of the Fisher terms, each faded by the lambdas after its own.

    In this filter R is multiplied by lambda in S, which gives each term the weight of its own step: 1.
    """
    config, layout, rng = EKFConfig(memory=MemoryFactor(0.9, 0.99), p0=2.0), BlockLayout((8,)), np.random.default_rng(6)
    state = init(xp.asarray(np.zeros(8)), layout, config)
    expected = np.eye(8) / 2.0
    for _ in range(6):
        H, R, lam = rng.standard_normal(8), float(rng.uniform(0.5, 2.0)), state.lam
        expected = lam * expected + xp.to_numpy(fisher_information(xp.asarray(H), R))
        state, _ = update(state, xp.asarray(H), 0.1, config=config, noise=R)
    assert_close(xp.asarray(np.linalg.inv(_dense(xp, state))), xp.asarray(expected), rtol=1e-10)


def test_expected_squared_error_of_a_linear_model() -> None:
    """Theorem 4.3: over many true weights, noises and trainings, the squared error is KPU + noise.

    For a Gaussian error the sum of N squares has a relative deviation of sqrt(2/N); five of them are allowed.
    """
    rng, n, noise, trials = np.random.default_rng(7), 6, 0.3, 4000
    config = EKFConfig(memory=MemoryFactor(1.0), noise=noise, p0=1.5)
    X, x = rng.standard_normal((8, n)), rng.standard_normal(n)
    squares = np.empty(trials)
    for trial in range(trials):
        true = rng.normal(0.0, 1.5**0.5, n)
        y = X @ true + rng.normal(0.0, noise**0.5, 8)
        state, _ = update(init(np.zeros(n), BlockLayout((n,)), config, backend="generic"), X, y, config=config)
        squares[trial] = (x @ true + rng.normal(0.0, noise**0.5) - x @ state.weights) ** 2
    expected = float(kpu(state, x)[0]) + noise
    assert np.mean(squares) == pytest.approx(expected, rel=5 * (2 / trials) ** 0.5)


def test_selecting_by_kpu_lowers_entropy_faster_than_chance() -> None:
    """The most uncertain of the candidates, one after another, against as many at random; ten sets of candidates."""
    config, layout = EKFConfig(memory=MemoryFactor(1.0), noise=1.0), BlockLayout((12,))

    def log_det(pool: npt.NDArray[np.float64], choose: Callable[[EKFState, list[int]], int]) -> float:
        state, left = init(np.zeros(12), layout, config, backend="generic"), list(range(len(pool)))
        for _ in range(8):
            state, _ = update(state, pool[left.pop(choose(state, left))], 0.0, config=config)
        return float(np.linalg.slogdet(state.covariance.dense(0))[1])

    for seed in range(10):
        rng = np.random.default_rng(seed)
        pool = rng.standard_normal((60, 12)) * rng.uniform(0.1, 2.0, (60, 1))
        by_kpu = log_det(pool, lambda state, left, pool=pool: int(np.argmax(kpu(state, pool[left]))))  # type: ignore[misc]
        by_chance = log_det(pool, lambda _, left, rng=rng: int(rng.integers(len(left))))  # type: ignore[misc]
        assert by_kpu < by_chance


@pytest.mark.parametrize("noise", [0.0, -1.0, [1.0], [1.0, float("nan")]])
def test_noise_must_be_positive_numbers(noise: float | list[float]) -> None:
    """One for all, or one for each measurement."""
    with pytest.raises(InputError, match="`noise` must be one or 2 positive numbers, got"):
        entropy_change(init(np.zeros(8), LAYOUT), np.ones((2, 8)), noise)


def test_precision_of_a_root_is_one_that_there_is() -> None:
    """JAX without double precision would give half of the digits."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with pytest.raises(InputError, match=r"`dtype` is float16, which numpy does not have"):
        CovarianceRoot(init(np.zeros(3), BlockLayout((3,))), dtype="float16")
    jax.config.update("jax_enable_x64", False)
    try:
        state = init(jax.numpy.zeros(3), BlockLayout((3,)), EKFConfig(dtype="float32"))
        with pytest.raises(InputError, match=r"`dtype` is float64, which jax does not have .* set JAX_ENABLE_X64=1"):
            CovarianceRoot(state, dtype="float64")
    finally:
        jax.config.update("jax_enable_x64", True)


def test_entropy_of_an_indefinite_covariance_is_no_number() -> None:
    """The logarithm of a negative determinant is not that of its size."""
    state = init(np.zeros(2), BlockLayout((2,)))
    broken = replace(state, covariance=replace(state.covariance, scale=-3.0 * state.covariance.scale))
    assert np.isnan(entropy_change(broken, np.asarray([1.0, 0.0]), noise=1.0))
