"""One contract for all kernels: the filter gives the numbers of the reference, in the arrays of the caller.

The reference is the generic kernels on NumPy in double precision; tests/test_filter.py compares them with the textbook,
and tests/test_covariance.py tries each kernel by itself.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pytest
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.arrays import to_numpy

if TYPE_CHECKING:
    from conftest import Xp

Precision: TypeAlias = Literal["float64", "float32"]

# Odd sizes, longer and shorter than the tiles of the kernels; the fourth block has no gradient now and then.
LAYOUT = ek.BlockLayout((33, 1, 17, 9, 8))
RESTING = LAYOUT.slices[3]
UPDATES = 7  # one in four folds, or more with several measurements at once
# Of the largest element: a few units in the last place for each of some tens of measurements before
TOLERANCE = {"float64": 1e-13, "float32": 2e-5}


def _config(dtype: Precision = "float64") -> ek.EKFConfig:
    return ek.EKFConfig(pending=4, process_noise=1e-4, noise=0.5, dtype=dtype)


@pytest.fixture
def xp(kernels_in_use: "Xp") -> "Xp":
    """Return the array library of the kernels, which the filter uses whatever it is asked for."""
    return kernels_in_use


@functools.cache
def _stream(m: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return gradients and innovations, in numbers that single precision holds exactly."""
    rng, stream = np.random.default_rng(m), []
    for index in range(UPDATES):
        H = rng.standard_normal((m, LAYOUT.n_params)).astype(np.float32)
        H[:, RESTING] *= index % 3 != 1
        stream.append((H, rng.standard_normal(m).astype(np.float32)))
    return stream


def _start() -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(LAYOUT.n_params).astype(np.float32)


def _dense(state: ek.EKFState) -> NDArray[Any]:
    P = np.zeros((LAYOUT.n_params,) * 2)
    for index, part in enumerate(LAYOUT.slices):
        P[part, part] = to_numpy(state.covariance.dense(index))
    return P


def _numbers(state: ek.EKFState, info: ek.UpdateInfo, kpu: Any) -> dict[str, NDArray[Any]]:
    """Return all that an update is judged by."""
    arrays = {"gain": info.gain, "hph": info.hph, "trace": info.trace, "kpu": kpu, "weights": state.weights}
    return {"P": _dense(state), **{name: to_numpy(array) for name, array in arrays.items()}}


@functools.cache
def _reference(m: int) -> list[dict[str, NDArray[Any]]]:
    config, steps = _config(), []
    state = ek.init(_start().astype(np.float64), LAYOUT, config, backend="generic")
    for rows, innovations in _stream(m):
        H = rows.astype(np.float64)
        state, info = ek.update(state, H, innovations.astype(np.float64), config=config, throw=True)
        steps.append(_numbers(state, info, ek.kpu(state, H)))
    return steps


def _assert_close(actual: dict[str, NDArray[Any]], desired: dict[str, NDArray[Any]], coarsest: Precision) -> None:
    for name, array in desired.items():
        atol = TOLERANCE[coarsest] * np.abs(array).max()
        np.testing.assert_allclose(actual[name], array, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
@pytest.mark.parametrize("m", [1, 2, 5])
@pytest.mark.parametrize(
    ("weights", "P"),
    [("float64", "float64"), ("float32", "float64"), ("float32", "float32")],
)
def test_filter_gives_the_reference(xp: "Xp", weights: Precision, P: Precision, m: int, donate: bool) -> None:
    """Update by update, in every precision, over several folds; arrays come back as the caller's were."""
    config = _config(P)
    like = xp.asarray(_start(), weights)
    state = ek.init(like, LAYOUT, config)
    for (H, e), desired in zip(_stream(m), _reference(m), strict=True):
        rows = xp.asarray(H, weights)
        state, info = ek.update(state, rows, xp.asarray(e, weights), config=config, throw=True, donate=donate)
        assert array_namespace(state.weights, info.gain) is xp.namespace
        assert state.weights.dtype == like.dtype
        assert state.covariance.traces.dtype == getattr(xp.namespace, P)
        assert device(state.weights) == device(state.covariance.traces) == device(info.gain) == device(like)
        actual = _numbers(state, info, ek.kpu(state, rows))
        _assert_close(actual, desired, "float32" if "float32" in (weights, P) else "float64")


@pytest.mark.parametrize("P", ["float64", "float32"])
def test_single_precision_weights_lose_their_own_digits_only(xp: "Xp", P: Precision) -> None:
    """P does not know how the weights are rounded."""
    states = []
    for weights in ("float64", "float32"):
        state = ek.init(xp.asarray(_start(), weights), LAYOUT, _config(P))
        for H, e in _stream(2):
            state, _ = ek.update(state, xp.asarray(H, weights), xp.asarray(e, weights), config=_config(P))
        states.append(state)
    np.testing.assert_array_equal(_dense(states[0]), _dense(states[1]))


def test_indefinite_p_in_single_precision_has_a_name(xp: "Xp") -> None:
    """Measurements far more exact than single precision can store P; double precision bears them."""
    rng, outcomes = np.random.default_rng(1), {}
    directions = rng.standard_normal((3, 33))
    stream = [xp.asarray(rng.standard_normal(3) @ directions) for _ in range(8)]
    for P in ("float64", "float32"):
        config = ek.EKFConfig(p0=1e4, noise=1e-6, dtype=P)
        state, statuses = ek.init(xp.asarray(np.zeros(33)), ek.BlockLayout((33,)), config), []
        for H in stream:
            before = state
            state, info = ek.update(before, H, 1.0, config=config)
            statuses.append(info.status)
            if info.status == "not_psd":
                assert state is before
                with pytest.raises(
                    ek.FilterError, match=r"H P H\^T is negative, .* memory factor nearer to 1, or use dtype float64"
                ):
                    ek.update(state, H, 1.0, config=config, throw=True)
                break
        outcomes[P] = set(statuses)
    assert outcomes == {"float64": {"ok"}, "float32": {"ok", "not_psd"}}


@pytest.mark.parametrize("updates", [0, 3])
def test_restart_is_bit_for_bit(xp: "Xp", tmp_path: Path, updates: int) -> None:
    """What was saved goes on as if nothing had happened."""
    config, stream = _config(), _stream(2)

    def run(state: ek.EKFState, start: int, stop: int) -> ek.EKFState:
        for H, e in stream[start:stop]:
            state, _ = ek.update(state, xp.asarray(H, "float64"), xp.asarray(e, "float64"), config=config)
        return state

    state = run(ek.init(xp.asarray(_start(), "float64"), LAYOUT, config), 0, updates)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=state.weights)
    assert loaded.covariance.backend.name == state.covariance.backend.name
    one, other = run(state, updates, UPDATES), run(loaded, updates, UPDATES)
    np.testing.assert_array_equal(to_numpy(one.weights), to_numpy(other.weights))
    np.testing.assert_array_equal(_dense(one), _dense(other))


def test_same_numbers_give_the_same_bits(xp: "Xp") -> None:
    """Sums are taken in an order that does not change from run to run."""
    results = []
    for _ in range(2):
        state = ek.init(xp.asarray(_start(), "float64"), LAYOUT, _config())
        for H, e in _stream(5):
            state, _ = ek.update(state, xp.asarray(H, "float64"), xp.asarray(e, "float64"), config=_config())
        results.append((to_numpy(state.weights), _dense(state)))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


class TestTorch:
    """Tensors that carry gradients, as the parameters of a network do."""

    @pytest.fixture
    def torch(self) -> Any:
        """Return PyTorch."""
        return pytest.importorskip("torch", reason="torch is not installed")

    @pytest.mark.parametrize("backend", ["torch", "generic"])
    def test_parameters_are_accepted_and_left_alone(self, torch: Any, backend: str) -> None:
        """They keep their gradient and their memory; what comes back carries no history."""
        w = torch.nn.Parameter(torch.as_tensor(_start(), dtype=torch.float64))
        state = ek.init(w, LAYOUT, _config(), backend=backend)
        assert state.weights.data_ptr() == w.data_ptr()
        for values, e in _stream(2)[:4]:
            H = torch.as_tensor(values, dtype=torch.float64).requires_grad_()
            innovation = torch.as_tensor(e, dtype=torch.float64).requires_grad_()
            state, info = ek.update(state, H * 1.0, innovation, config=_config())
            arrays = (state.weights, state.covariance.pending, info.gain, info.innovation, ek.kpu(state, H))
            assert not any(array.requires_grad for array in arrays)
            assert H.requires_grad
        assert w.requires_grad
        np.testing.assert_array_equal(w.detach().numpy(), _start())

    def test_cpu_tensors_are_looked_at_and_not_copied(self, torch: Any) -> None:
        """The kernels for NumPy's arrays work on the memory of the tensors."""
        state = ek.init(torch.zeros(LAYOUT.n_params, dtype=torch.float64), LAYOUT)
        P = state.covariance
        lower = P.backend.lower(P.store, 0)
        assert isinstance(lower, torch.Tensor)
        P = P.downdate(torch.ones((1, LAYOUT.n_params), dtype=torch.float64), torch.ones(5, dtype=torch.bool), 0.9, 0.0)
        folded = P.fold(donate=True)
        assert folded.backend.name == "torch"


class TestJax:
    """Compiled updates."""

    @pytest.fixture
    def jax(self) -> Any:
        """Return JAX in double precision."""
        jax = pytest.importorskip("jax", reason="jax is not installed")
        jax.config.update("jax_enable_x64", True)
        return jax

    def test_update_can_be_compiled(self, jax: Any, tmp_path: Path) -> None:
        """Without the check, whose outcome Python would have to see; over a fold, and saved afterwards."""
        config = _config()
        step = jax.jit(functools.partial(ek.update, config=config, check=False))
        state = ek.init(jax.numpy.asarray(_start(), dtype="float64"), LAYOUT, config)
        for (rows, e), desired in zip(_stream(2), _reference(2), strict=True):
            H = jax.numpy.asarray(rows, dtype="float64")
            state, info = step(state, H, jax.numpy.asarray(e, dtype="float64"))
            assert info.status == "unchecked"
            _assert_close(_numbers(state, info, ek.kpu(state, H)), desired, "float64")
        ek.save(state, tmp_path / "state")
        assert ek.load(tmp_path / "state").count == 2 * UPDATES

    def test_double_precision_has_to_be_switched_on(self, jax: Any) -> None:
        """Rather than half of the digits be lost without a word."""
        jax.config.update("jax_enable_x64", False)
        try:
            w = jax.numpy.zeros(LAYOUT.n_params)
            with pytest.raises(ek.InputError, match=r"`config.dtype` is float64, which jax.* JAX_ENABLE_X64=1"):
                ek.init(w, LAYOUT)
            config = _config("float32")
            H, e = _stream(1)[0]
            _, info = ek.update(ek.init(w, LAYOUT, config), jax.numpy.asarray(H), float(e[0]), config=config)
            assert info.status == "ok"
        finally:
            jax.config.update("jax_enable_x64", True)


def test_device_without_double_precision() -> None:
    """Such as Apple's GPUs; array-api-strict simulates one."""
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    w = strict.zeros(LAYOUT.n_params, dtype=strict.float32, device=strict.Device("no_float64"))
    with pytest.raises(
        ek.InputError, match=r"`config.dtype` is float64, which array_api_strict does not have on device"
    ):
        ek.init(w, LAYOUT)
    state = ek.init(w, LAYOUT, _config("float32"))
    H = strict.ones(LAYOUT.n_params, dtype=strict.float32, device=w.device)
    state, info = ek.update(state, H, 1.0, config=_config("float32"))
    assert info.status == "ok"
    assert state.weights.device == w.device
