"""The filter against a textbook Kalman filter, batch least squares, and what must hold whatever the numbers."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ekfcore import Anneal, BlockLayout, EKFConfig, EKFState, FilterError, InputError, MemoryFactor, init, kpu, update
from ekfcore.uncertainty import CovarianceRoot, entropy_change, fisher_information

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

ONE_BLOCK = BlockLayout((12,))
SEVERAL = BlockLayout((5, 1, 6))
RTOL = 1e-10
ATOL = 1e-12  # of weights and of P's elements, which are about one: some are near zero

# The fixtures only say which library to use, so examples may share them.
invariant = settings(
    derandomize=True, deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
seeds = st.integers(0, 2**32 - 1)
layouts = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(lambda sizes: BlockLayout(tuple(sizes)))
measurements = st.integers(1, 4)


class Textbook:
    """The Kalman filter as books write it: explicit inverse, (I - K H) P, dense matrices, blocks cut out afterwards."""

    def __init__(self, w: NDArray[Any], layout: BlockLayout, config: EKFConfig) -> None:
        self.w, self.layout, self.config = w.astype(np.float64), layout, config
        self.P = config.p0 * np.eye(len(w))
        self.lam, self.count = config.memory.initial, 0

    def update(self, H: NDArray[Any], e: NDArray[Any], R: NDArray[Any]) -> NDArray[Any]:
        """Absorb the rows of H and return the gain."""
        H, e = np.atleast_2d(H), np.atleast_1d(e)
        S = self.lam * np.diag(R) + H @ self.P @ H.T
        K: NDArray[Any] = self.P @ H.T @ np.linalg.inv(S)
        P = (np.eye(len(self.w)) - K @ H) @ self.P / self.lam
        q = len(e) * self.config.process_noise_at(self.count)
        for part in self.layout.slices:
            if np.any(H[:, part]):  # a block that nothing measures keeps its covariance
                self.P[part, part] = P[part, part] + q * np.eye(part.stop - part.start)
        self.w = self.w + K @ e
        memory = self.config.memory
        for _ in range(len(e) if memory.counts == "measurements" else 1):
            self.lam = self.lam * memory.rate + 1 - memory.rate
        self.count += len(e)
        return K


def _start(xp: "Xp", layout: BlockLayout, config: EKFConfig, seed: int = 0, backend: str | None = None) -> EKFState:
    return init(xp.asarray(_rng(seed).standard_normal(layout.n_params)), layout, config, backend=backend)


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _stream(layout: BlockLayout, m: int | None, count: int, seed: int = 1) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return gradients and innovations; m = None makes scalar measurements with a vector H."""
    rng = _rng(seed)
    shape = (layout.n_params,) if m is None else (m, layout.n_params)
    return [(rng.standard_normal(shape), rng.standard_normal(m or 1)) for _ in range(count)]


def _dense(xp: "Xp", state: EKFState) -> NDArray[Any]:
    P = np.zeros((state.weights.shape[0],) * 2)
    for index, part in enumerate(state.covariance.layout.slices):
        P[part, part] = xp.to_numpy(state.covariance.dense(index))
    return P


def _assert_equals(xp: "Xp", state: EKFState, book: Textbook, assert_close: "AssertClose") -> None:
    assert_close(state.weights, xp.asarray(book.w), rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(_dense(xp, state), book.P, rtol=RTOL, atol=ATOL)
    assert state.lam == pytest.approx(book.lam, rel=1e-14)
    assert state.count == book.count


def _assert_same_bits(xp: "Xp", one: EKFState, other: EKFState) -> None:
    np.testing.assert_array_equal(xp.to_numpy(one.weights), xp.to_numpy(other.weights))
    np.testing.assert_array_equal(_dense(xp, one), _dense(xp, other))
    np.testing.assert_array_equal(xp.to_numpy(one.covariance.traces), xp.to_numpy(other.covariance.traces))
    assert (one.lam, one.count) == (other.lam, other.count)


@pytest.mark.parametrize("backend", [None, "generic"])
@pytest.mark.parametrize("layout", [ONE_BLOCK, SEVERAL], ids=["one block", "blocks"])
@pytest.mark.parametrize("m", [None, 1, 3])
@pytest.mark.parametrize(
    "config",
    [
        EKFConfig(),
        EKFConfig(noise="blocks", pending=4),
        EKFConfig(memory=MemoryFactor(0.95, 0.9, "updates"), noise=0.3, p0=2.0, pending=1),
        EKFConfig(process_noise=1e-3, pending=5),
        EKFConfig(noise=Anneal(10.0, 0.1, 8), process_noise=Anneal(1e-1, 1e-3, 8), pending=3),
    ],
    ids=["default", "blocks' noise", "counting updates", "process noise", "annealed"],
)
def test_filter_is_the_textbooks(
    xp: "Xp", assert_close: "AssertClose", backend: str | None, layout: BlockLayout, m: int | None, config: EKFConfig
) -> None:
    """Weights, covariance, memory factor and what `info` says, update by update, over several folds."""
    state = _start(xp, layout, config, backend=backend)
    book = Textbook(xp.to_numpy(state.weights), layout, config)
    for H, e in _stream(layout, m, 12):
        R = np.full(len(e), config.noise_at(book.count, len(layout.sizes)))
        before, P, lam = xp.to_numpy(state.weights).copy(), book.P.copy(), book.lam
        state, info = update(state, xp.asarray(H), xp.asarray(e), config=config)
        K = book.update(H, e, R)
        _assert_equals(xp, state, book, assert_close)
        assert info.status == "ok"
        assert info.lam == pytest.approx(lam, rel=1e-14)
        np.testing.assert_array_equal(xp.to_numpy(info.innovation), e)
        rows = np.atleast_2d(H)
        np.testing.assert_allclose(xp.to_numpy(info.gain), K, rtol=RTOL, atol=ATOL)
        np.testing.assert_allclose(xp.to_numpy(state.weights) - before, K @ e, rtol=RTOL, atol=ATOL)
        np.testing.assert_allclose(xp.to_numpy(info.hph), np.diag(rows @ P @ rows.T), rtol=RTOL)
        np.testing.assert_allclose(float(info.trace), np.trace(book.P), rtol=RTOL)


def test_each_measurement_can_have_its_own_noise(xp: "Xp", assert_close: "AssertClose") -> None:
    """`noise` of `update` wins over the configuration, as one number or as one for each row."""
    config = EKFConfig(noise=7.0)
    state = _start(xp, SEVERAL, config)
    book = Textbook(xp.to_numpy(state.weights), SEVERAL, config)
    for noise in ([0.01, 1.0, 100.0], 0.5):
        for H, e in _stream(SEVERAL, 3, 3):
            state, _ = update(state, xp.asarray(H), xp.asarray(e), config=config, noise=noise)
            book.update(H, e, np.broadcast_to(noise, 3))
            _assert_equals(xp, state, book, assert_close)


@pytest.mark.parametrize("lam", [1.0, 0.97])
@pytest.mark.parametrize("m", [1, 4])
def test_linear_model_gives_least_squares(xp: "Xp", lam: float, m: int) -> None:
    """For y = X w the filter solves the normal equations, in which lambda weighs old updates down."""
    rng = _rng(3)
    n, updates, R, p0 = 12, 20, 0.5, 4.0
    X, w0 = rng.standard_normal((updates, m, n)), rng.standard_normal(n)
    y = X @ rng.standard_normal(n) + 0.1 * rng.standard_normal((updates, m))
    config = EKFConfig(memory=MemoryFactor(lam, 1.0), noise=R, p0=p0, pending=7)
    state = init(xp.asarray(w0), ONE_BLOCK, config)
    for rows, labels in zip(X, y, strict=True):
        e = labels - rows @ xp.to_numpy(state.weights)
        state, _ = update(state, xp.asarray(rows), xp.asarray(e), config=config)
    # Minimum of sum_t lam^(T - t) |y_t - X_t w|^2 / R + lam^T |w - w0|^2 / p0
    share = lam ** np.arange(updates - 1, -1, -1)
    information = np.einsum("t,tmi,tmj->ij", share / R, X, X) + lam**updates / p0 * np.eye(n)
    moment = np.einsum("t,tmi,tm->i", share / R, X, y) + lam**updates / p0 * w0
    np.testing.assert_allclose(xp.to_numpy(state.weights), np.linalg.solve(information, moment), rtol=1e-9)
    np.testing.assert_allclose(_dense(xp, state), np.linalg.inv(information), rtol=1e-9, atol=1e-11)


def test_zero_gradient_is_skipped(xp: "Xp") -> None:
    """Nothing to learn: same weights, same P, nothing forgotten, nothing counted."""
    config = EKFConfig(process_noise=0.1)
    state = _start(xp, SEVERAL, config)
    state, _ = update(state, *(xp.asarray(array) for array in _stream(SEVERAL, 2, 1)[0]), config=config)
    new, info = update(state, xp.asarray(np.zeros((2, 12))), xp.asarray([1.0, 2.0]), config=config)
    assert info.status == "skipped"
    _assert_same_bits(xp, new, state)


def test_block_without_gradient_does_not_forget(xp: "Xp") -> None:
    """An element that a frame lacks keeps what is known about it, to the last bit; the others go on."""
    config = EKFConfig(process_noise=0.1)
    state = _start(xp, SEVERAL, config)
    H = _rng(5).standard_normal((2, 12))
    H[:, SEVERAL.slices[2]] = 0
    new, info = update(state, xp.asarray(H), xp.asarray([1.0, 2.0]), config=config)
    assert info.status == "ok"
    resting = SEVERAL.slices[2]
    np.testing.assert_array_equal(_dense(xp, new)[resting, resting], _dense(xp, state)[resting, resting])
    np.testing.assert_array_equal(xp.to_numpy(new.weights)[resting], xp.to_numpy(state.weights)[resting])
    assert np.all(xp.to_numpy(new.weights)[:6] != xp.to_numpy(state.weights)[:6])


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["H", "innovation"])
def test_non_finite_numbers_leave_the_state(xp: "Xp", m: int, bad: float, where: str) -> None:
    """The trouble has a name, no weight becomes NaN, and `throw` raises."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H, e = _stream(SEVERAL, m, 1)[0]
    (H if where == "H" else e).flat[0] = bad
    with np.errstate(invalid="ignore"):  # infinity minus infinity, on the way to the status
        new, info = update(state, xp.asarray(H), xp.asarray(e), config=config)
        assert info.status == "non_finite"
        assert new is state
        with pytest.raises(FilterError, match=r"update 0 of the filter broke down: H, the innovation or .* not finite"):
            update(state, xp.asarray(H), xp.asarray(e), config=config, throw=True)


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("scale", [-10.0, -1e-4])  # with and without H P H^T + R below zero
def test_indefinite_p_leaves_the_state(xp: "Xp", m: int, scale: float) -> None:
    """H P H^T below zero means that P is no covariance any more."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    state = replace(state, covariance=replace(state.covariance, scale=scale * state.covariance.scale))
    H, e = (xp.asarray(array) for array in _stream(SEVERAL, m, 1)[0])
    new, info = update(state, H, e, config=config)
    assert info.status == "not_psd"
    assert new is state
    assert np.all(xp.to_numpy(info.hph) < 0)
    with pytest.raises(FilterError, match="is negative, so P is not a covariance any more"):
        update(state, H, e, config=config, throw=True)


def test_unchecked_update_is_the_same_update(xp: "Xp") -> None:
    """`check` only looks."""
    config = EKFConfig(pending=3)
    checked = unchecked = _start(xp, SEVERAL, config)
    for H, e in _stream(SEVERAL, 2, 4):
        checked, _ = update(checked, xp.asarray(H), xp.asarray(e), config=config, throw=True)
        unchecked, info = update(unchecked, xp.asarray(H), xp.asarray(e), config=config, check=False)
        assert info.status == "unchecked"
    _assert_same_bits(xp, checked, unchecked)


def test_inputs_are_never_changed(xp: "Xp") -> None:
    """Neither the arrays handed in nor any earlier state, without `donate`."""
    config = EKFConfig(pending=3)
    state = _start(xp, SEVERAL, config)
    seen = []
    for H, e in _stream(SEVERAL, 2, 5):
        arrays = xp.asarray(H), xp.asarray(e)
        seen.append((state, xp.to_numpy(state.weights).copy(), _dense(xp, state)))
        state, _ = update(state, *arrays, config=config)
        np.testing.assert_array_equal(xp.to_numpy(arrays[0]), H)
        np.testing.assert_array_equal(xp.to_numpy(arrays[1]), e)
    for old, weights, P in seen:
        np.testing.assert_array_equal(xp.to_numpy(old.weights), weights)
        np.testing.assert_array_equal(_dense(xp, old), P)


def test_donated_states_give_the_same_bits(xp: "Xp") -> None:
    """The training loop's way of saving a gigabyte changes no number."""
    config = EKFConfig(pending=3)
    kept = _start(xp, SEVERAL, config)
    donated = _start(xp, SEVERAL, config)
    for H, e in _stream(SEVERAL, 2, 7):
        kept, _ = update(kept, xp.asarray(H), xp.asarray(e), config=config)
        donated, _ = update(donated, xp.asarray(H), xp.asarray(e), config=config, donate=True)
    _assert_same_bits(xp, kept, donated)


def test_single_precision_weights_with_double_precision_p(xp: "Xp") -> None:
    """Each keeps its precision; the weights are off by their own rounding only."""
    config = EKFConfig(pending=3)
    w = _rng(0).standard_normal(12).astype(np.float32)
    state, book = init(xp.asarray(w, "float32"), SEVERAL, config), Textbook(w, SEVERAL, config)
    for H, e in _stream(SEVERAL, 2, 8):
        H32, e32 = H.astype(np.float32), e.astype(np.float32)
        state, _ = update(state, xp.asarray(H32, "float32"), xp.asarray(e32, "float32"), config=config)
        book.update(H32.astype(np.float64), e32.astype(np.float64), np.ones(2))
    assert state.weights.dtype == xp.namespace.float32
    assert state.covariance.scale.dtype == state.covariance.dense(0).dtype == xp.namespace.float64
    # Eight additions, each rounded to 2^-24 of numbers below four.
    np.testing.assert_allclose(xp.to_numpy(state.weights), book.w, rtol=0, atol=8 * 4 * 2**-24)
    np.testing.assert_allclose(_dense(xp, state), book.P, rtol=RTOL, atol=ATOL)


def test_single_precision_p(xp: "Xp") -> None:
    """`dtype` sets the precision of P; the weights keep theirs."""
    config = EKFConfig(dtype="float32", pending=3)
    state = _start(xp, SEVERAL, config)
    book = Textbook(xp.to_numpy(state.weights), SEVERAL, config)
    for H, e in _stream(SEVERAL, 2, 8):
        state, _ = update(state, xp.asarray(H), xp.asarray(e), config=config)
        book.update(H, e, np.ones(2))
    assert state.weights.dtype == xp.namespace.float64
    assert state.covariance.dense(0).dtype == xp.namespace.float32
    np.testing.assert_allclose(_dense(xp, state), book.P, rtol=0, atol=1e-5)  # about a hundred units in the last place
    np.testing.assert_allclose(xp.to_numpy(state.weights), book.w, rtol=0, atol=1e-4)


def test_innovation_may_be_a_plain_number(xp: "Xp") -> None:
    """As a float, an int or a 0-d array."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H = xp.asarray(_stream(SEVERAL, None, 1)[0][0])
    expected, _ = update(state, H, xp.asarray([2.0]), config=config)
    for innovation in (2, 2.0, xp.asarray(2.0)):
        _assert_same_bits(xp, update(state, H, innovation, config=config)[0], expected)


@pytest.mark.parametrize(
    ("H", "e", "noise", "message"),
    [
        ((11,), (1,), None, r"`H` must have shape \(12,\) or \(m, 12\) with m at least 1, got \(11,\)"),
        ((2, 11), (2,), None, r"`H` must have shape .* got \(2, 11\)"),
        ((), (1,), None, r"`H` must have shape .* got \(\)"),
        ((1, 2, 12), (2,), None, r"`H` must have shape .* got \(1, 2, 12\)"),
        ((0, 12), (0,), None, r"`H` must have shape .* got \(0, 12\)"),
        ((2, 12), (3,), None, "`innovation` must hold one number for each of the 2 rows of `H`, got 3"),
        ((2, 12), (2,), [1.0], r"`noise` must be one or 2 positive numbers, got \[1.0\]"),
        ((2, 12), (2,), [1.0, 0.0], "`noise` must be one or 2 positive numbers"),
        ((2, 12), (2,), -1.0, "`noise` must be one or 2 positive numbers, got -1.0"),
        ((2, 12), (2,), np.nan, "`noise` must be one or 2 positive numbers, got nan"),
    ],
)
def test_wrong_arguments_of_update_are_named(
    xp: "Xp", H: tuple[int, ...], e: tuple[int, ...], noise: float | list[float] | None, message: str
) -> None:
    """The message names the argument, its rule and what was found."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    with pytest.raises(InputError, match=message):
        update(state, xp.asarray(np.ones(H)), xp.asarray(np.ones(e)), config=config, noise=noise)


@pytest.mark.parametrize("shape", [(10,), (14,), (2, 10)])
def test_gradients_are_held_against_the_covariance(xp: "Xp", shape: tuple[int, ...]) -> None:
    """Kernels trust the sizes of the blocks: weights of another number must not reach them with gradients to match."""
    config = EKFConfig()
    state = replace(_start(xp, SEVERAL, config), weights=xp.asarray(np.zeros(shape[-1])))
    H = xp.asarray(np.ones(shape))
    e = xp.asarray(np.ones(shape[:-1] or 1))
    with pytest.raises(InputError, match=rf"`H` must have shape \(12,\) .*, got \({shape[0]},"):
        update(state, H, e, config=config)
    with pytest.raises(InputError, match=rf"`H` must have shape \(12,\) .*, got \({shape[0]},"):
        kpu(state, H)
    with pytest.raises(InputError, match=r"`state.weights` must have shape \(12,\) to fit its covariance, got"):
        update(state, xp.asarray(np.ones(12)), 1.0, config=config)


@pytest.mark.parametrize("noise", [[0.5, 2.0], 0.5])
def test_noise_may_come_as_any_number(xp: "Xp", noise: float | list[float]) -> None:
    """Of NumPy or of the library of the weights, with and without axes."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H, e = (xp.asarray(array) for array in _stream(SEVERAL, 2, 1)[0])
    expected, _ = update(state, H, e, config=config, noise=noise)
    kinds: list[Any] = [np.asarray(noise), xp.asarray(noise)]
    kinds.append([np.float32(r) for r in noise] if isinstance(noise, list) else np.float32(noise))
    for same in kinds:
        _assert_same_bits(xp, update(state, H, e, config=config, noise=same)[0], expected)
        assert float(entropy_change(state, H, same)) == float(entropy_change(state, H, noise))


@pytest.mark.parametrize("noise", ["1", [1.0, "1"], 1j, [[1.0, 2.0]], np.ones((2, 2)), True, [], {"a": 1.0, "b": 1.0}])
def test_what_is_no_noise_is_refused(noise: Any) -> None:
    """In one line, instead of a TypeError from the depths."""
    config = EKFConfig()
    state = init(np.zeros(12), SEVERAL, config)
    with pytest.raises(InputError, match="`noise` must be one or 2 positive numbers, got"):
        update(state, np.ones((2, 12)), np.ones(2), config=config, noise=noise)
    with pytest.raises(InputError, match="`noise` must be one or 2 positive numbers, got"):
        fisher_information(np.ones((2, 12)), noise)


@pytest.mark.parametrize("innovation", [np.float32(2.0), np.int64(2), np.asarray(2)])
def test_innovation_may_be_a_scalar_of_numpy(xp: "Xp", innovation: Any) -> None:
    """For weights of any library; it is a number of the host like one of Python."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H = xp.asarray(_stream(SEVERAL, None, 1)[0][0])
    expected, _ = update(state, H, 2.0, config=config)
    _assert_same_bits(xp, update(state, H, innovation, config=config)[0], expected)


def test_complex_numbers_are_refused(xp: "Xp") -> None:
    """Their imaginary part would be dropped: H P H^T of 1 + 2i is not 1."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H, e = xp.asarray(np.ones(12) + 2j, "complex128"), xp.asarray([1.0 + 2j], "complex128")
    for call in (
        lambda: update(state, H, 1.0, config=config),
        lambda: kpu(state, H),
        lambda: entropy_change(state, H, 1.0),
        lambda: fisher_information(H, 1.0),
        lambda: CovarianceRoot(state).kpu(H),
    ):
        with pytest.raises(InputError, match=r"`H` must hold real numbers, got .*complex128"):
            call()
    with pytest.raises(InputError, match=r"`innovation` must hold real numbers, got .*complex128"):
        update(state, xp.asarray(np.ones(12)), e, config=config)


@pytest.mark.parametrize(("begun", "asked"), [("float64", "float32"), ("float32", "float64")])
def test_precision_of_the_settings_is_that_of_p(xp: "Xp", begun: Any, asked: Any) -> None:
    """A precision that is asked for and not there is named; it cannot change in the middle."""
    state = _start(xp, SEVERAL, EKFConfig(dtype=begun))
    with pytest.raises(InputError, match=rf"`config.dtype` is {asked}, but P of the state is {begun}; .* load"):
        update(state, xp.asarray(np.ones(12)), 1.0, config=EKFConfig(dtype=asked))


def test_arrays_of_another_library_are_refused(xp: "Xp") -> None:
    """Rather than moved without a word."""
    config = EKFConfig()
    state = _start(xp, SEVERAL, config)
    H, e = _stream(SEVERAL, 2, 1)[0]
    other: Any = H.tolist() if "numpy" in xp.library.module else H
    with pytest.raises(InputError, match=r"`H` must be an array like the weights, .*, got"):
        update(state, other, xp.asarray(e), config=config)
    with pytest.raises(InputError, match=r"`innovation` must be an array like the weights, .*, got builtins.list"):
        update(state, xp.asarray(H), e.tolist(), config=config)


def test_arrays_on_another_device_are_refused() -> None:
    """array-api-strict has devices that only pretend."""
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    state = init(strict.zeros(12), SEVERAL)
    with pytest.raises(InputError, match=r"like the weights, .*CPU_DEVICE.*, got .*device1"):
        update(state, strict.ones(12, device=strict.Device("device1")), 1.0, config=EKFConfig())


@pytest.mark.parametrize(
    ("w", "dtype", "message"),
    [
        (np.zeros(11), "float64", r"`w` must have shape \(12,\) to fit the layout, got \(11,\)"),
        (np.zeros((12, 1)), "float64", r"`w` must have shape \(12,\) to fit the layout, got \(12, 1\)"),
        (np.zeros(12), "int64", "`w` must hold floating-point numbers, got .*int64"),
    ],
)
def test_wrong_weights_are_named(xp: "Xp", w: NDArray[Any], dtype: str, message: str) -> None:
    """The message names the rule and what was found."""
    with pytest.raises(InputError, match=message):
        init(xp.asarray(w, dtype), SEVERAL)


def test_weights_are_an_array() -> None:
    """A list has no library whose kernels could be used."""
    with pytest.raises(InputError, match=r"`w` must be an array, got builtins.list"):
        init([0.0] * 12, SEVERAL)


def test_unknown_backend_is_named(xp: "Xp") -> None:
    """The message names the choices."""
    with pytest.raises(InputError, match=r"`backend` must be one of auto, numpy, .* got 'fortran'"):
        init(xp.asarray(np.zeros(12)), SEVERAL, backend="fortran")


@given(layouts, measurements, seeds)
@invariant
def test_p_stays_symmetric_and_positive(xp: "Xp", layout: BlockLayout, m: int, seed: int) -> None:
    """Every block, after every update; also the traces stay those of P."""
    config = EKFConfig(pending=3, noise=0.1, process_noise=1e-4)
    state = _start(xp, layout, config, seed)
    for H, e in _stream(layout, m, 6, seed):
        state, info = update(state, xp.asarray(H), xp.asarray(e), config=config, throw=True)
        P = _dense(xp, state)
        np.testing.assert_allclose(P, P.T, rtol=0, atol=1e-15 * P.max())
        assert np.linalg.eigvalsh(P).min() > 0
        assert np.all(xp.to_numpy(info.hph) >= 0)
        assert float(info.trace) == pytest.approx(np.trace(P), rel=1e-10)


@given(layouts, measurements, seeds)
@invariant
def test_trace_never_grows_without_forgetting(xp: "Xp", layout: BlockLayout, m: int, seed: int) -> None:
    """At lambda = 1 and without process noise a measurement cannot make the filter less certain."""
    config = EKFConfig(memory=MemoryFactor(1.0), pending=3)
    state = _start(xp, layout, config, seed)
    traces = [float(np.trace(_dense(xp, state)))]
    for H, e in _stream(layout, m, 6, seed):
        state, info = update(state, xp.asarray(H), xp.asarray(e), config=config)
        assert state.lam == 1.0
        traces.append(float(info.trace))
    assert np.all(np.diff(traces) <= 1e-14 * traces[0])


def _absorb(xp: "Xp", layout: BlockLayout, H: NDArray[Any], y: NDArray[Any], order: list[list[int]]) -> EKFState:
    """Absorb labels of a linear model with fixed gradients, in the given groups, at lambda = 1."""
    config = EKFConfig(memory=MemoryFactor(1.0), noise=0.3, pending=3)
    state = _start(xp, layout, config)
    for rows in order:
        e = y[rows] - H[rows] @ xp.to_numpy(state.weights)
        state, _ = update(state, xp.asarray(H[rows]), xp.asarray(e), config=config, throw=True)
    return state


@given(st.integers(1, 8), st.permutations(range(5)), seeds)
@invariant
def test_any_order_equals_one_vector_update(xp: "Xp", n: int, order: list[int], seed: int) -> None:
    """With one block and fixed gradients: one by one, in whatever order, or all at once."""
    rng = _rng(seed)
    H, y = rng.standard_normal((5, n)), rng.standard_normal(5)
    layout = BlockLayout((n,))
    at_once = _absorb(xp, layout, H, y, [[0, 1, 2, 3, 4]])
    singly = _absorb(xp, layout, H, y, [[row] for row in order])
    np.testing.assert_allclose(xp.to_numpy(singly.weights), xp.to_numpy(at_once.weights), rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(_dense(xp, singly), _dense(xp, at_once), rtol=1e-9, atol=1e-11)


def test_order_matters_with_several_blocks(xp: "Xp") -> None:
    """Dropping what is between the blocks after each update makes the order count: no implementation can avoid it."""
    rng = _rng(7)
    H, y = rng.standard_normal((3, 12)), rng.standard_normal(3)
    results = [
        xp.to_numpy(_absorb(xp, SEVERAL, H, y, order).weights)
        for order in ([[0, 1, 2]], [[0], [1], [2]], [[2], [1], [0]])
    ]
    for index, one in enumerate(results):
        for other in results[index + 1 :]:
            assert np.abs(one - other).max() > 1e-3


@given(layouts, measurements, seeds, st.floats(1e-3, 1e3))
@invariant
def test_units_do_not_matter(xp: "Xp", layout: BlockLayout, m: int, seed: int, unit: float) -> None:
    """A measurement in another unit (y, H and the root of R scaled alike) gives the same weights and P."""
    config = EKFConfig(pending=3)
    one = other = _start(xp, layout, config, seed)
    for H, e in _stream(layout, m, 4, seed):
        one, _ = update(one, xp.asarray(H), xp.asarray(e), config=config, noise=0.5)
        other, _ = update(other, xp.asarray(unit * H), xp.asarray(unit * e), config=config, noise=0.5 * unit**2)
    np.testing.assert_allclose(xp.to_numpy(one.weights), xp.to_numpy(other.weights), rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(_dense(xp, one), _dense(xp, other), rtol=RTOL, atol=ATOL)


@given(layouts, seeds)
@invariant
def test_vector_of_one_is_a_scalar(xp: "Xp", layout: BlockLayout, seed: int) -> None:
    """H of shape (n,) and of shape (1, n) are the same measurement."""
    config = EKFConfig(pending=2)
    scalar = vector = _start(xp, layout, config, seed)
    for H, e in _stream(layout, None, 3, seed):
        scalar, _ = update(scalar, xp.asarray(H), float(e[0]), config=config)
        vector, _ = update(vector, xp.asarray(H[None, :]), xp.asarray(e), config=config)
    _assert_same_bits(xp, scalar, vector)


@given(st.integers(1, 9), st.integers(1, 4), seeds)
@invariant
def test_pending_rows_change_the_speed_only(xp: "Xp", pending: int, m: int, seed: int) -> None:
    """Folding at once, late or never gives the same filter."""
    configs = EKFConfig(pending=1), EKFConfig(pending=pending), EKFConfig(pending=1000)
    states = [_start(xp, SEVERAL, config, seed) for config in configs]
    for H, e in _stream(SEVERAL, m, 5, seed):
        states = [
            update(state, xp.asarray(H), xp.asarray(e), config=config)[0]
            for state, config in zip(states, configs, strict=True)
        ]
    for state in states[1:]:
        np.testing.assert_allclose(xp.to_numpy(state.weights), xp.to_numpy(states[0].weights), rtol=RTOL, atol=ATOL)
        np.testing.assert_allclose(_dense(xp, state), _dense(xp, states[0]), rtol=RTOL, atol=ATOL)
