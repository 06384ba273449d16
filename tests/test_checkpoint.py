"""A filter that was saved and loaded goes on as if it had never stopped."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.archive import read_archive, write_archive
from ekfcore.checkpoint import restore_state, state_arrays, state_header

if TYPE_CHECKING:
    from conftest import Xp

# Sizes at which torch and NumPy take different paths through their matrix products.
LAYOUT = ek.BlockLayout((33, 5, 1, 64))
CONFIG = ek.EKFConfig(averaging=0.3, pending=8, process_noise=1e-3)


def _measurement(xp: "Xp", seed: int, m: int = 2) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return xp.asarray(rng.standard_normal((m, LAYOUT.n_params))), xp.asarray(rng.standard_normal(m))


def _run(xp: "Xp", state: ek.EKFState, start: int, stop: int, m: int = 2) -> ek.EKFState:
    for seed in range(start, stop):
        state, _ = ek.update(state, *_measurement(xp, seed, m), config=CONFIG, throw=True)
    return state


def _start(xp: "Xp", backend: str | None = None, config: ek.EKFConfig = CONFIG) -> ek.EKFState:
    w = np.random.default_rng(99).standard_normal(LAYOUT.n_params)
    return ek.init(xp.asarray(w), LAYOUT, config, backend=backend)


def _numbers(xp: "Xp", state: ek.EKFState) -> list[NDArray[Any]]:
    P = state.covariance
    arrays = [state.weights, state.average, P.scale, P.shift, P.traces, P.pending]
    lower = [np.tril(xp.to_numpy(P.backend.lower(P.store, index))) for index in range(len(LAYOUT.sizes))]
    return [xp.to_numpy(array) for array in arrays] + lower


def _assert_same_bits(xp: "Xp", one: ek.EKFState, other: ek.EKFState) -> None:
    for left, right in zip(_numbers(xp, one), _numbers(xp, other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert (one.lam, one.count, one.covariance.layout) == (other.lam, other.count, other.covariance.layout)


@pytest.mark.parametrize("backend", [None, "generic"])
@pytest.mark.parametrize(("updates", "pending"), [(0, 0), (1, 2), (3, 6), (4, 0), (7, 6), (8, 0)], ids=str)
def test_restart_is_bit_for_bit(xp: "Xp", tmp_path: Path, backend: str | None, updates: int, pending: int) -> None:
    """At the start, with pending rows, right after a fold, and later; the next folds are the same, too."""
    state = _run(xp, _start(xp, backend), 0, updates)
    assert state.covariance.count == pending
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=xp.asarray([0.0]))
    assert loaded.covariance.backend.name == state.covariance.backend.name
    _assert_same_bits(xp, loaded, state)
    _assert_same_bits(xp, _run(xp, loaded, updates, updates + 9), _run(xp, state, updates, updates + 9))


def test_bits_do_not_depend_on_where_arrays_lie(xp: "Xp") -> None:
    """Torch rounds some products differently for arrays that are not aligned; what was read may be such an array."""

    def displaced(array: NDArray[Any]) -> NDArray[Any]:
        buffer = np.empty(array.nbytes + 128, dtype=np.uint8)
        start = -buffer.ctypes.data % 64 + array.itemsize
        copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        copy[...] = array
        return copy

    state = _run(xp, _start(xp), 0, 7, m=1)
    arrays = {name: displaced(array) for name, array in state_arrays(state)}
    restored = restore_state(state_header(state), arrays, like=state.weights)
    _assert_same_bits(xp, _run(xp, restored, 7, 9, m=1), _run(xp, state, 7, 9, m=1))


def test_saving_twice_is_saving_once(xp: "Xp", tmp_path: Path) -> None:
    """A loaded state makes the same file; saving changes nothing."""
    state = _run(xp, _start(xp), 0, 5)
    before = [array.copy() for array in _numbers(xp, state)]
    ek.save(state, tmp_path / "one")
    for left, right in zip(before, _numbers(xp, state), strict=True):
        np.testing.assert_array_equal(left, right)
    ek.save(ek.load(tmp_path / "one", like=state.weights), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_library_goes_on_to_rounding(xp: "Xp", tmp_path: Path) -> None:
    """The numbers are the same; NumPy is the library when none is named."""
    state = _run(xp, _start(xp), 0, 5)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state")
    assert isinstance(loaded.weights, np.ndarray)
    for left, right in zip(_numbers(xp, loaded), _numbers(xp, state), strict=True):
        np.testing.assert_array_equal(left, right)
    for seed in range(5, 12):
        H, e = _measurement(xp, seed)
        state, _ = ek.update(state, H, e, config=CONFIG)
        loaded, _ = ek.update(loaded, xp.to_numpy(H), xp.to_numpy(e), config=CONFIG)
    for left, right in zip(_numbers(xp, loaded), _numbers(xp, state), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("saved", [None, "generic"])
@pytest.mark.parametrize("wanted", ["generic", "auto"])
def test_backend_can_be_chosen(xp: "Xp", tmp_path: Path, saved: str | None, wanted: str) -> None:
    """By name; otherwise it is the one that saved the state."""
    state = _start(xp, saved)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=state.weights, backend=wanted)
    assert loaded.covariance.backend.name == ("generic" if wanted == "generic" else state.covariance.backend.name)
    for left, right in zip(_numbers(xp, loaded), _numbers(xp, state), strict=True):
        np.testing.assert_array_equal(left, right)


def test_backend_that_is_gone_is_replaced(xp: "Xp") -> None:
    """A state must not be lost because its kernels are not installed here."""
    state = _start(xp)
    header = {**state_header(state), "backend": "of_tomorrow"}
    restored = restore_state(header, dict(state_arrays(state)), like=state.weights)
    assert restored.covariance.backend.name == state.covariance.backend.name
    with pytest.raises(ek.InputError, match="`backend` must be one of"):
        restore_state(header, dict(state_arrays(state)), like=state.weights, backend="of_tomorrow")


def test_backend_of_another_library_is_not_taken_over(xp: "Xp") -> None:
    """The reference kernels that served one library are not the fastest of another."""
    state = _start(xp)
    header = {**state_header(state), "backend": "generic", "library": "of_tomorrow"}
    restored = restore_state(header, dict(state_arrays(state)), like=state.weights)
    assert restored.covariance.backend.name == state.covariance.backend.name


def test_only_one_triangle_is_saved(xp: "Xp", tmp_path: Path) -> None:
    """P dominates the file; names and headers take the rest."""
    ek.save(_run(xp, _start(xp), 0, 4), tmp_path / "state")
    triangles = 8 * sum(n * (n + 1) // 2 for n in LAYOUT.sizes)
    vectors = 8 * (2 * LAYOUT.n_params + 3 * len(LAYOUT.sizes))
    assert (tmp_path / "state").stat().st_size < triangles + vectors + 6000


@pytest.mark.parametrize(("weights", "dtype"), [("float32", "float64"), ("float64", "float32")])
def test_precision_is_kept(xp: "Xp", tmp_path: Path, weights: str, dtype: Any) -> None:
    """Of the weights and of P."""
    config = ek.EKFConfig(dtype=dtype)
    state = ek.init(xp.asarray(np.ones(LAYOUT.n_params), weights), LAYOUT, config)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=xp.asarray([0.0]))
    _assert_same_bits(xp, loaded, state)
    assert loaded.weights.dtype == getattr(xp.namespace, weights)
    assert loaded.covariance.dense(0).dtype == getattr(xp.namespace, dtype)


@pytest.mark.parametrize(("saved", "wanted"), [("float32", "float64"), ("float64", "float32")])
@pytest.mark.parametrize("rows", [0, 8])
def test_precision_can_be_changed(xp: "Xp", tmp_path: Path, saved: Any, wanted: Any, rows: int) -> None:
    """Of all of P, to the nearest numbers there are; the weights keep theirs, and the filter goes on in the new one."""
    config = ek.EKFConfig(dtype=saved, rows=rows, noise="adaptive")
    state = _start(xp, config=config)
    for seed in range(3):
        state, _ = ek.update(state, *_measurement(xp, seed), config=config, throw=True)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=state.weights, dtype=wanted)
    kind = getattr(xp.namespace, wanted)
    P, noise = loaded.covariance, loaded.noise
    assert all(a.dtype == kind for a in (P.scale, P.shift, P.traces, P.pending, P.dense(0), noise.mean))
    assert loaded.weights.dtype == loaded.average.dtype == state.weights.dtype
    for left, right in zip(_numbers(xp, loaded)[2:], _numbers(xp, state)[2:], strict=True):
        np.testing.assert_array_equal(left, right.astype(wanted))
    config = replace(config, dtype=wanted)
    loaded, _ = ek.update(loaded, *_measurement(xp, 3), config=config, throw=True)
    assert loaded.covariance.dense(0).dtype == kind
    with pytest.raises(ek.InputError, match=r"`dtype` is float16, which .* does not have"):
        ek.load(tmp_path / "state", like=state.weights, dtype="float16")  # type: ignore[arg-type]


@pytest.mark.parametrize(("weights", "dtype"), [("float32", "float64"), ("float64", "float32")])
def test_jax_without_double_precision_loses_no_digit(tmp_path: Path, weights: str, dtype: Any) -> None:
    """Neither of the weights nor of P: it would load them in single precision without a word."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    single = ek.init(np.ones(LAYOUT.n_params, dtype="float32"), LAYOUT, ek.EKFConfig(dtype="float32"))
    ek.save(single, tmp_path / "single")
    state = ek.init(np.ones(LAYOUT.n_params, dtype=weights), LAYOUT, ek.EKFConfig(dtype=dtype))
    ek.save(state, tmp_path / "state")
    jax.config.update("jax_enable_x64", False)
    try:
        like = jax.numpy.zeros(1)
        with pytest.raises(ek.InputError, match=r"is float64, which jax does not have .* set JAX_ENABLE_X64=1"):
            ek.load(tmp_path / "state", like=like)
        assert ek.load(tmp_path / "single", like=like).covariance.scale.dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", True)


def test_state_can_live_in_another_file(xp: "Xp", tmp_path: Path) -> None:
    """As the training's model file does: its own kind, its own header, the filter's arrays among others."""
    state = _run(xp, _start(xp), 0, 3)
    arrays = [("mean", np.ones(3)), *state_arrays(state)]
    write_archive(tmp_path / "model", {"kind": "model", "filter": state_header(state)}, arrays)
    header, members = read_archive(tmp_path / "model", kind="model")
    _assert_same_bits(xp, restore_state(header["filter"], members, like=state.weights), state)


def test_weights_that_carry_gradients_can_be_saved(tmp_path: Path) -> None:
    """Torch parameters do."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    w = torch.nn.Parameter(torch.ones(LAYOUT.n_params, dtype=torch.float64))
    ek.save(ek.init(w, LAYOUT), tmp_path / "state")
    np.testing.assert_array_equal(ek.load(tmp_path / "state").weights, np.ones(LAYOUT.n_params))


def test_damage_and_wrong_files_are_named(tmp_path: Path) -> None:
    """`load` passes on what the archive finds; tests/test_archive.py has every kind of damage."""
    state = ek.init(np.zeros(LAYOUT.n_params), LAYOUT)
    path = tmp_path / "state"
    ek.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[:2000] + b"\1" + data[2001:])
    with pytest.raises(ek.CheckpointError, match="was altered after it was saved"):
        ek.load(path)
    path.write_bytes(data[:2000])
    with pytest.raises(ek.CheckpointError, match="is truncated"):
        ek.load(path)
    write_archive(path, {"kind": "model"}, [])
    with pytest.raises(ek.CheckpointError, match="must hold a filter, but holds a model"):
        ek.load(path)
    with pytest.raises(ek.InputError, match=r"cannot read .* No such file"):
        ek.load(tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("weights", np.zeros(3), r"array 'weights' of the saved filter must have shape \(103,\), got \(3,\)"),
        ("pending.0", np.zeros((2, 4)), r"array 'pending.0' of the saved filter must have shape \(None, 33\)"),
        ("lower.3", np.zeros((64, 64)), r"array 'lower.3' of the saved filter must have shape \(2080,\)"),
        ("traces", None, "the saved filter has no array 'traces'"),
    ],
)
def test_arrays_that_do_not_fit_are_named(name: str, array: NDArray[Any] | None, message: str) -> None:
    """Rather than trusted until some product fails."""
    state = ek.init(np.zeros(LAYOUT.n_params), LAYOUT)
    arrays = dict(state_arrays(state))
    if array is None:
        del arrays[name]
    else:
        arrays[name] = array
    with pytest.raises(ek.CheckpointError, match=message):
        restore_state(state_header(state), arrays)
