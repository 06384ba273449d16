"""Rows that join the blocks: the filter with all of P, and what is left when the oldest rows are given up.

The oracles write P out, or its inverse: a sum of a block-diagonal matrix and of what each remembered row says.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_api_compat import is_writeable_array
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.archive import write_archive
from ekfcore.arrays import to_numpy
from ekfcore.checkpoint import restore_state, state_arrays, state_header
from ekfcore.noise import AdaptiveNoise
from ekfcore.registry import get_backend
from ekfcore.uncertainty import entropy_change

if TYPE_CHECKING:
    from conftest import Contender, Xp

LAYOUT = ek.BlockLayout((5, 1, 6))
N = LAYOUT.n_params
RESTING = LAYOUT.slices[2]
RTOL = 1e-10
ATOL = 1e-12  # of weights and of P's elements, which are about one: some are near zero
NEVER = 10**6  # rows: more than any test has
FADING = ek.MemoryFactor(0.9, 0.95)
ENDLESS = ek.MemoryFactor(1.0)

invariant = settings(derandomize=True, deadline=None, max_examples=30)
seeds = st.integers(0, 2**32 - 1)

Step = tuple[NDArray[Any], NDArray[Any]]


@pytest.fixture
def xp(kernels_in_use: "Xp") -> "Xp":
    """Return the array library of the kernels, which the filter uses whatever it is asked for."""
    return kernels_in_use


class Textbook:
    """The Kalman filter with a full P, as books write it; blocks that are measured forget."""

    def __init__(self, w: NDArray[Any], p0: float) -> None:
        self.w, self.covariance = w.astype(np.float64), p0 * np.eye(N)

    def update(self, H: NDArray[Any], e: NDArray[Any], R: float, lam: float) -> NDArray[Any]:
        """Absorb the rows of H and return the gain."""
        P = self.covariance
        K: NDArray[Any] = P @ H.T @ np.linalg.inv(lam * R * np.eye(len(e)) + H @ P @ H.T)
        c = 1 / np.sqrt(np.where(_touched(H), lam, 1.0))
        self.covariance = np.outer(c, c) * ((np.eye(N) - K @ H) @ P)
        self.w = self.w + K @ e
        return K


class Informed:
    """The same by its inverse, P^-1 = J + A^T A with a block-diagonal J; old rows of A are left to J."""

    def __init__(self, w: NDArray[Any], p0: float) -> None:
        self.w, self.J, self.A = w.astype(np.float64), np.eye(N) / p0, np.zeros((0, N))

    @property
    def covariance(self) -> NDArray[Any]:
        """P, shape (n, n)."""
        return np.linalg.inv(self.J + self.A.T @ self.A)

    def update(self, H: NDArray[Any], e: NDArray[Any], R: float, lam: float) -> NDArray[Any]:
        """Absorb the rows of H and return the gain."""
        self.A = np.concat([self.A, H / np.sqrt(lam * R)])
        K: NDArray[Any] = self.covariance @ H.T / (lam * R)  # with the P that knows them already
        self.w = self.w + K @ e
        self.forget(_touched(H), lam)
        return K

    def forget(self, touched: NDArray[Any], lam: float) -> None:
        """Divide P by lambda where a block is measured, and by its root beside that."""
        c = np.sqrt(np.where(touched, lam, 1.0))
        self.J, self.A = np.outer(c, c) * self.J, c * self.A

    def age(self, keep: int) -> None:
        """Keep the last rows only."""
        old, self.A = np.split(self.A, [len(self.A) - keep])
        for part in LAYOUT.slices:
            self.J[part, part] += old[:, part].T @ old[:, part]


def _touched(H: NDArray[Any]) -> NDArray[Any]:
    return np.repeat([np.any(H[:, part]) for part in LAYOUT.slices], LAYOUT.sizes)


def _config(rows: int = NEVER, memory: ek.MemoryFactor = FADING, **options: Any) -> ek.EKFConfig:
    return ek.EKFConfig(rows=rows, memory=memory, **{"noise": 0.3, "p0": 2.0, **options})


@functools.cache
def _stream(m: int, count: int, seed: int = 1) -> list[Step]:
    """Return gradients and innovations, in numbers that single precision holds; the last block rests now and then."""
    rng, stream = np.random.default_rng(seed), []
    for index in range(count):
        H = rng.standard_normal((m, N)).astype(np.float32).astype(np.float64)
        H[:, RESTING] *= index % 3 != 1
        stream.append((H, rng.standard_normal(m).astype(np.float32).astype(np.float64)))
    return stream


def _start(xp: "Xp", config: ek.EKFConfig, dtype: str = "float64") -> ek.EKFState:
    w = np.random.default_rng(0).standard_normal(N).astype(np.float32)
    return ek.init(xp.asarray(w, dtype), LAYOUT, config)


def _run(xp: "Xp", state: ek.EKFState, stream: Sequence[Step], config: ek.EKFConfig, **options: Any) -> ek.EKFState:
    for H, e in stream:
        state, _ = ek.update(state, xp.asarray(H), xp.asarray(e), config=config, throw=True, **options)
    return state


def _full(xp: "Xp", P: ek.Covariance) -> NDArray[Any]:
    """Return all of P, by its product with unit vectors."""
    return to_numpy(P.multiply(xp.asarray(np.eye(P.layout.n_params), to_numpy(P.scale).dtype.name)))


def _assert_equals(xp: "Xp", state: ek.EKFState, book: Textbook | Informed) -> None:
    covariance, P = state.covariance, book.covariance
    np.testing.assert_allclose(to_numpy(state.weights), book.w, rtol=RTOL, atol=ATOL)
    np.testing.assert_allclose(_full(xp, covariance), P, rtol=RTOL, atol=ATOL)
    for index, part in enumerate(LAYOUT.slices):
        np.testing.assert_allclose(to_numpy(covariance.dense(index)), P[part, part], rtol=RTOL, atol=ATOL)
    traces = [np.trace(P[part, part]) for part in LAYOUT.slices]
    np.testing.assert_allclose(to_numpy(covariance.traces), traces, rtol=RTOL)


@pytest.mark.parametrize("memory", [ENDLESS, FADING], ids=["endless", "fading"])
@pytest.mark.parametrize("m", [None, 3])
def test_nothing_given_up_is_the_textbook(xp: "Xp", m: int | None, memory: ek.MemoryFactor) -> None:
    """Weights, all of P and what `info` says, with blocks that rest now and then; m = None makes H a vector."""
    config = _config(memory=memory)
    state = _start(xp, config)
    book = Textbook(to_numpy(state.weights), config.p0)
    for H, e in _stream(m or 1, 5):
        P, lam = book.covariance, state.lam
        state, info = ek.update(state, xp.asarray(H if m else H[0]), xp.asarray(e), config=config, throw=True)
        K = book.update(H, e, 0.3, lam)
        _assert_equals(xp, state, book)
        np.testing.assert_allclose(to_numpy(info.gain), K, rtol=RTOL, atol=ATOL)
        np.testing.assert_allclose(to_numpy(info.hph), np.diag(H @ P @ H.T), rtol=RTOL)
        np.testing.assert_allclose(float(info.trace), np.trace(book.covariance), rtol=RTOL)
    assert state.covariance.count == 5 * (m or 1)


@pytest.mark.parametrize("donate", [False, True], ids=["kept", "donated"])
@pytest.mark.parametrize(
    ("rows", "m"), [(4, 1), (5, 2), (3, 5)], ids=str
)  # five at once are more than there is room for
def test_old_rows_are_left_to_the_blocks(xp: "Xp", rows: int, m: int, donate: bool) -> None:
    """The dense formula, update by update, over several losses, while lambda fades and a block rests."""
    config = _config(rows)
    state = _start(xp, config)
    book, losses = Informed(to_numpy(state.weights), config.p0), 0
    for H, e in _stream(m, 7):
        lam = state.lam
        state, info = ek.update(state, xp.asarray(H), xp.asarray(e), config=config, throw=True, donate=donate)
        np.testing.assert_allclose(to_numpy(info.gain), book.update(H, e, 0.3, lam), rtol=RTOL, atol=ATOL)
        if len(book.A) >= rows:
            book.age(rows // 2)
            losses += 1
        assert state.covariance.count == len(book.A) < rows
        _assert_equals(xp, state, book)
    assert losses > 1


def test_what_joins_the_blocks_counts(xp: "Xp") -> None:
    """The tests above would be blind if blocks alone gave the same."""
    results = []
    for rows in (0, 4, NEVER):
        config = _config(rows)
        results.append(to_numpy(_run(xp, _start(xp, config), _stream(1, 7), config).weights))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(results[one] - results[other]).max() > 1e-3


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_precision_of_p(xp: "Xp", dtype: Any) -> None:
    """It follows the settings, through losses too, and loses its own digits only."""
    config = _config(4, dtype=dtype)
    state = _start(xp, config, "float32")
    book = Informed(to_numpy(state.weights), config.p0)
    for H, e in _stream(2, 3):
        lam = state.lam
        state, info = ek.update(state, xp.asarray(H, "float32"), xp.asarray(e, "float32"), config=config, throw=True)
        book.update(H, e, 0.3, lam)
        if len(book.A) >= 4:
            book.age(2)
    P = state.covariance
    assert state.weights.dtype == xp.namespace.float32
    assert P.information is not None
    arrays = (P.scale, P.traces, P.rows, P.information, P.dense(0), info.noise, state.noise.mean, state.noise.weight)
    assert all(array.dtype == getattr(xp.namespace, dtype) for array in arrays)
    # About a hundred units in the last place of numbers below two; the weights always have single precision here.
    np.testing.assert_allclose(_full(xp, P), book.covariance, rtol=0, atol=2e-5 if dtype == "float32" else 1e-11)
    np.testing.assert_allclose(to_numpy(state.weights), book.w, rtol=0, atol=2e-5)


def _covariance(contender: "Contender", H: NDArray[Any], lam: float, *, donate: bool = False) -> ek.Covariance:
    """Return P after exact measurements of unit noise, one after the other, the last block resting in each third."""
    asarray = contender.xp.asarray
    P = ek.Covariance.identity(LAYOUT, 2.0, backend=contender.kernels, like=asarray([0.0]), coupled=True)
    for h in H:
        told = asarray(h[None, :])
        G = P.multiply(told)
        U = G / (1 + float((G @ told.T)[0, 0])) ** 0.5
        P = P.downdate(U, P.touched(told), lam, 0.0, information=told, donate=donate)
    return P


def _gradients(count: int, seed: int = 2) -> NDArray[Any]:
    H = np.random.default_rng(seed).standard_normal((count, N))
    H[1::3, RESTING] = 0
    return H


def _informed(H: NDArray[Any], lam: float) -> Informed:
    book = Informed(np.zeros(N), 2.0)
    for h in H:
        book.A = np.concat([book.A, h[None, :]])
        book.forget(_touched(h[None, :]), lam)
    return book


@pytest.mark.parametrize("keep", [0, 1, 4, 6])
def test_age_is_the_inverse_of_a_sum(contender: "Contender", keep: int) -> None:
    """Whatever is kept: nothing, some, all."""
    H = _gradients(6)
    aged, book = _covariance(contender, H, 0.8).age(keep, donate=False), _informed(H, 0.8)
    book.age(keep)
    assert aged.count == keep
    np.testing.assert_allclose(_full(contender.xp, aged), book.covariance, rtol=RTOL, atol=ATOL)
    traces = [np.trace(book.covariance[part, part]) for part in LAYOUT.slices]
    np.testing.assert_allclose(to_numpy(aged.traces), traces, rtol=RTOL)


def test_forgetting_and_aging_in_turn(contender: "Contender") -> None:
    """Congruences and losses do not commute, and each is where the formula has it; rows go on saying what they said."""
    H = _gradients(4)
    P, book = _covariance(contender, H, 0.8), _informed(H, 0.8)
    for keep, touched, lam in ((4, [True, False, True], 0.5), (3, [False, True, True], 0.7), (1, [True] * 3, 0.9)):
        nothing = contender.xp.asarray(np.zeros((1, N)))
        P = P.downdate(nothing, contender.xp.asarray(touched, "bool"), lam, 0.0, information=nothing)
        P = P.age(keep, donate=False)
        book.A = np.concat([book.A, np.zeros((1, N))])
        book.forget(np.repeat(touched, LAYOUT.sizes), lam)
        book.age(keep)
        np.testing.assert_allclose(_full(contender.xp, P), book.covariance, rtol=RTOL, atol=ATOL)
        _assert_consistent(P)


def _assert_consistent(P: ek.Covariance) -> None:
    """Raise unless the rows of V and of U tell the same: V^T V = Q U^T (I + U Q U^T)^-1 U Q."""
    assert P.information is not None
    scale = np.repeat(to_numpy(P.scale), LAYOUT.sizes) ** 0.5
    Q = np.zeros((N, N))
    for index, part in enumerate(LAYOUT.slices):
        Q[part, part] = to_numpy(P.uncoupled(index)) / np.outer(scale[part], scale[part])
    U, V = to_numpy(P.information)[: P.count], to_numpy(P.pending)
    taken = Q @ U.T @ np.linalg.inv(np.eye(P.count) + U @ Q @ U.T) @ U @ Q
    np.testing.assert_allclose(V.T @ V, taken, rtol=RTOL, atol=ATOL * np.abs(Q).max())


def test_both_kinds_of_rows_tell_the_same(xp: "Xp") -> None:
    """V, by which P is multiplied, and U, by which it ages, over several losses."""
    config = _config(4)
    state = _start(xp, config)
    for step in _stream(1, 7):
        state = _run(xp, state, [step], config)
        _assert_consistent(state.covariance)


def _blocks(P: ek.Covariance) -> list[NDArray[Any]]:
    assert P.information is not None
    arrays = [P.pending, P.information[: P.count, :], P.scale, P.traces]
    return [to_numpy(array).copy() for array in arrays + [P.dense(index) for index in range(len(LAYOUT.sizes))]]


def test_donated_covariances_give_the_same_bits(contender: "Contender") -> None:
    """Over losses, of a few rows and of most; the buffers stay where they are."""
    H = _gradients(5)
    kept, donated = _covariance(contender, H, 0.9), _covariance(contender, H, 0.9, donate=True)
    buffers = id(donated.rows), id(donated.information)
    for keep in (4, 3, 1):
        kept, donated = kept.age(keep, donate=False), donated.age(keep, donate=True)
        for left, right in zip(_blocks(kept), _blocks(donated), strict=True):
            np.testing.assert_array_equal(left, right)
    assert ((id(donated.rows), id(donated.information)) == buffers) == is_writeable_array(donated.rows)


@pytest.mark.parametrize("m", [1, 2])
def test_donated_states_give_the_same_bits(xp: "Xp", m: int) -> None:
    """The training loop's way of saving a gigabyte changes no number, adaptive noise included."""
    config = _config(4, noise="adaptive")
    kept = _run(xp, _start(xp, config), _stream(m, 7), config)
    donated = _run(xp, _start(xp, config), _stream(m, 7), config, donate=True)
    _assert_same_bits(kept, donated)


def test_older_states_stay_valid(xp: "Xp") -> None:
    """Without `donate`, no later update and no later loss changes a bit of an earlier state."""
    config = _config(4)
    state, kept = _start(xp, config), []
    for step in _stream(1, 7):
        kept.append((state, _blocks(state.covariance), to_numpy(state.weights).copy()))
        state = _run(xp, state, [step], config)
    for old, blocks, weights in kept:
        np.testing.assert_array_equal(to_numpy(old.weights), weights)
        for before, after in zip(blocks, _blocks(old.covariance), strict=True):
            np.testing.assert_array_equal(before, after)


def _assert_same_bits(one: ek.EKFState, other: ek.EKFState) -> None:
    arrays = dict(state_arrays(one)), dict(state_arrays(other))
    assert arrays[0].keys() == arrays[1].keys()
    for name in arrays[0]:
        assert arrays[0][name].dtype == arrays[1][name].dtype, name
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name], err_msg=name)
    assert state_header(one) == state_header(other)


@pytest.mark.parametrize(("updates", "count"), [(0, 0), (2, 2), (4, 2), (5, 3), (6, 2)], ids=str)
def test_restart_is_bit_for_bit(xp: "Xp", tmp_path: Path, updates: int, count: int) -> None:
    """At the start, before rows are given up, right after that, and later; adaptive noise goes on as well."""
    config, stream = _config(4, noise="adaptive"), _stream(1, 11)
    state = _run(xp, _start(xp, config), stream[:updates], config)
    assert state.covariance.count == count
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state", like=xp.asarray([0.0]))
    assert loaded.covariance.coupled
    _assert_same_bits(loaded, state)
    rest = stream[updates : updates + 5]
    _assert_same_bits(_run(xp, loaded, rest, config), _run(xp, state, rest, config))


@pytest.mark.parametrize("m", [1, 2])
def test_restart_in_blocks_of_some_size(tmp_path: Path, m: int) -> None:
    """Sizes at which matrix products take different paths, and so many rows that kernels share them out."""
    layout, config = ek.BlockLayout((133, 5, 1, 64)), ek.EKFConfig(rows=80, noise="adaptive")
    rng = np.random.default_rng(3)
    steps = [(rng.standard_normal((m, 203)), rng.standard_normal(m)) for _ in range(130)]

    def run(state: ek.EKFState, first: int, last: int) -> ek.EKFState:
        for H, e in steps[first:last]:
            state, _ = ek.update(state, H, e, config=config, throw=True, donate=True)
        return state

    state = run(ek.init(np.zeros(203), layout, config), 0, 85)
    ek.save(state, tmp_path / "state")
    _assert_same_bits(run(ek.load(tmp_path / "state"), 85, 130), run(state, 85, 130))


def test_files_from_before_there_were_such_rows(tmp_path: Path) -> None:
    """They say nothing of rows that join blocks, nor of a level of noise, and go on as they did."""
    config, rng = ek.EKFConfig(pending=3), np.random.default_rng(4)
    state = ek.init(rng.standard_normal(N), LAYOUT, config)
    for H, e in _stream(2, 2):
        state, _ = ek.update(state, H, e, config=config)
    header = {name: value for name, value in state_header(state).items() if name != "coupled"}
    arrays = [(name, array) for name, array in state_arrays(state) if name != "noise"]
    assert not any("information" in name for name, _ in arrays)
    write_archive(tmp_path / "old", {"kind": "filter", **header}, arrays)
    loaded = ek.load(tmp_path / "old")
    assert not loaded.covariance.coupled
    _assert_same_bits(loaded, state)
    for H, e in _stream(2, 4):
        state, loaded = (ek.update(one, H, e, config=config)[0] for one in (state, loaded))
    _assert_same_bits(loaded, state)
    # The level is unknown then, and found from the next innovations.
    adaptive = replace(config, noise="adaptive")
    _, info = ek.update(loaded, *_stream(1, 1, 7)[0], config=adaptive)
    np.testing.assert_allclose(info.noise, _stream(1, 1, 7)[0][1] ** 2, rtol=1e-15)


def test_arrays_that_do_not_fit_are_named() -> None:
    """A row has a part in each block, in both kinds of rows."""
    config = _config()
    state = ek.init(np.zeros(N), LAYOUT, config)
    for H, e in _stream(1, 3):
        state, _ = ek.update(state, H, e, config=config)
    header, arrays = state_header(state), dict(state_arrays(state))
    for name in ("pending.1", "information.0", "information.2"):
        shape = arrays[name].shape
        broken = {**arrays, name: arrays[name][:2]}
        with pytest.raises(ek.CheckpointError) as caught:
            restore_state(header, broken)
        assert str(caught.value) == (
            f"array {name!r} of the saved filter must have shape {shape}, got (2, {shape[1]}); use an earlier copy"
        )
    del arrays["information.1"]
    with pytest.raises(ek.CheckpointError, match=r"the saved filter has no array 'information.1'; use an earlier copy"):
        restore_state(header, arrays)


def test_uncertainties_of_all_of_p(xp: "Xp") -> None:
    """H P H^T, and the entropy that measurements would take, with what joins the blocks and after losses."""
    H = np.random.default_rng(5).standard_normal((4, N))
    noise = [0.1, 1.0, 2.0, 0.5]
    for rows in (NEVER, 4):
        config = _config(rows)
        state = _run(xp, _start(xp, config), _stream(1, 6), config)
        P = np.linalg.inv(_inverse(state.covariance))
        np.testing.assert_allclose(to_numpy(ek.kpu(state, xp.asarray(H))), np.diag(H @ P @ H.T), rtol=RTOL)
        np.testing.assert_allclose(to_numpy(ek.kpu(state, xp.asarray(H[0]))), [H[0] @ P @ H[0]], rtol=RTOL)
        change = np.linalg.slogdet(np.eye(4) + H @ P @ H.T / np.sqrt(np.outer(noise, noise)))[1] / 2
        np.testing.assert_allclose(float(entropy_change(state, xp.asarray(H), noise)), change, rtol=RTOL)


def _inverse(P: ek.Covariance) -> NDArray[Any]:
    """Return P^-1 as the docstring of `information` has it."""
    assert P.information is not None
    U = to_numpy(P.information)[: P.count] / np.repeat(to_numpy(P.scale), LAYOUT.sizes) ** 0.5
    inverse: NDArray[Any] = U.T @ U
    for index, part in enumerate(LAYOUT.slices):
        inverse[part, part] += np.linalg.inv(to_numpy(P.uncoupled(index)))
    return inverse


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("k", [0, 1, 3, 4, 31, 33, 70])
def test_correlate(contender: "Contender", k: int, dtype: str) -> None:
    """(H V^T) V for no rows, one and many, for one measurement, several and more than a kernel takes."""
    rng = np.random.default_rng(k)
    for m in (0, 1, 5, 13):
        H, V = (rng.standard_normal((count, 37)).astype(dtype) for count in (m, k))
        found = contender.kernels.correlate(contender.xp.asarray(H, dtype), contender.xp.asarray(V, dtype))
        assert found.dtype == getattr(contender.xp.namespace, dtype)
        desired = H.astype(np.float64) @ V.T.astype(np.float64) @ V.astype(np.float64)
        # Of the largest: sums of some thousand products
        atol = {"float64": 1e-14, "float32": 1e-5}[dtype] * np.abs(desired).max(initial=0.0)
        np.testing.assert_allclose(to_numpy(found), desired, rtol=0, atol=atol)


class TestNumPy:
    """What must hold whatever the numbers; the kernels are tried one by one above."""

    @pytest.fixture(params=["generic", "auto"])
    def backend(self, request: pytest.FixtureRequest) -> str:
        """Return the reference kernels, and the fastest."""
        name: str = request.param
        return name

    @given(st.permutations(range(6)), st.lists(st.integers(1, 4), min_size=1, max_size=3), seeds)
    @invariant
    def test_any_order_equals_one_vector_update(self, order: list[int], sizes: list[int], seed: int) -> None:
        """With several blocks too: of a linear model at lambda = 1, one by one, two by two or all at once."""
        rng, layout = np.random.default_rng(seed), ek.BlockLayout(tuple(sizes))
        H, y = rng.standard_normal((6, layout.n_params)), rng.standard_normal(6)
        config, states = _config(memory=ENDLESS), []
        for groups in ([list(range(6))], [[k] for k in order], [order[:2], order[2:4], order[4:]]):
            state = ek.init(np.ones(layout.n_params), layout, config, backend="generic")
            for rows in groups:
                e = y[rows] - H[rows] @ state.weights
                state, _ = ek.update(state, H[rows], e, config=config, throw=True)
            states.append(state)
        eye = np.eye(layout.n_params)
        for state in states[1:]:
            np.testing.assert_allclose(state.weights, states[0].weights, rtol=1e-9, atol=1e-10)
            P, desired = (one.covariance.multiply(eye) for one in (state, states[0]))
            np.testing.assert_allclose(P, desired, rtol=1e-9, atol=1e-11)

    @given(
        st.lists(st.tuples(st.integers(0, 3), st.floats(-3, 10)), min_size=1, max_size=14),
        st.data(),
        seeds,
        st.booleans(),
    )
    @invariant
    def test_p_stays_positive_whatever_is_given_up(
        self, rows: list[tuple[int, float]], data: st.DataObject, seed: int, near: bool
    ) -> None:
        """Rows that repeat each other, nearly or exactly, of measurements that are poor or most exact."""
        rng = np.random.default_rng(seed)
        directions = rng.standard_normal((4, N))
        H = np.stack([10 ** (power / 2) * directions[which] for which, power in rows])
        if near:
            H += 1e-7 * H * rng.standard_normal(H.shape)
        for backend in ("generic", "auto"):
            P = ek.Covariance.identity(LAYOUT, 2.0, backend=get_backend(backend, like=H), like=H, coupled=True)
            for h in H:
                G = P.multiply(h[None, :])
                U = G / np.sqrt(1 + G @ h)
                P = P.downdate(U, np.ones(3, dtype=bool), 1.0, 0.0, information=h[None, :])
            keep = len(H)
            while keep:
                keep = data.draw(st.integers(0, keep - 1))
                P = P.age(keep, donate=False)
                full = P.multiply(np.eye(N))
                np.testing.assert_allclose(full, full.T, rtol=0, atol=1e-14)
                assert np.linalg.eigvalsh((full + full.T) / 2).min() > 0
                np.testing.assert_allclose(np.sum(P.traces), np.trace(full), rtol=1e-12)

    @pytest.mark.parametrize("rows", [2, 5, 8])
    def test_measurements_that_are_almost_exact(self, backend: str, rows: int) -> None:
        """A thousandfold repetition of a few directions, whose variance shrinks by ten orders of magnitude."""
        config = _config(rows, memory=ENDLESS, noise=1e-9)
        rng = np.random.default_rng(6)
        H, state = rng.standard_normal((3, N)), ek.init(np.zeros(N), LAYOUT, config, backend=backend)
        for _ in range(300):
            state, info = ek.update(state, H[rng.integers(3)], float(rng.standard_normal()), config=config, throw=True)
            assert np.all(info.hph >= 0)
        full = state.covariance.multiply(np.eye(N))
        assert np.linalg.eigvalsh((full + full.T) / 2).min() > 0

    def test_nothing_overflows_where_all_is_forgotten(self, backend: str) -> None:
        """The factor that lambda adds up to grows without end, and must not stay beside Q."""
        config = _config(4, memory=ek.MemoryFactor(0.5, 1.0))
        rng = np.random.default_rng(7)
        state, book = ek.init(np.zeros(N), LAYOUT, config, backend=backend), Informed(np.zeros(N), config.p0)
        for _ in range(1200):  # 2^1200 is more than double precision has
            H, e = rng.standard_normal((8, N)), rng.standard_normal(8)
            state, _ = ek.update(state, H, e, config=config, throw=True)
            book.update(H, e, 0.3, 0.5)
            book.age(2)
        # What is forgotten takes its rounding with it.
        np.testing.assert_allclose(state.covariance.multiply(np.eye(N)), book.covariance, rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(state.weights, book.w, rtol=1e-9, atol=1e-11)

    def test_settings_must_fit_the_state(self) -> None:
        """A state that began without such rows cannot get them, nor lose them."""
        joined, single = _config(4), _config(0)
        H, e = _stream(1, 1)[0]
        with pytest.raises(ek.InputError, match=r"`config.rows` is 4, but the state keeps none; use the settings that"):
            ek.update(ek.init(np.zeros(N), LAYOUT, single), H, e, config=joined)
        with pytest.raises(
            ek.InputError, match=r"`config.rows` is 0, but the state keeps rows that join the blocks; use"
        ):
            ek.update(ek.init(np.zeros(N), LAYOUT, joined), H, e, config=single)


def test_update_can_be_compiled_by_jax(tmp_path: Path) -> None:
    """Without the check, over losses, with adaptive noise, and saved afterwards."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", True)
    config = _config(4, noise=AdaptiveNoise(factor=0.5, window=3, power=3))
    step = jax.jit(functools.partial(ek.update, config=config, check=False))
    w = np.random.default_rng(0).standard_normal(N)
    state, desired = ek.init(jax.numpy.asarray(w), LAYOUT, config), ek.init(w, LAYOUT, config, backend="generic")
    for H, e in _stream(1, 7):
        state, info = step(state, jax.numpy.asarray(H), jax.numpy.asarray(e))
        desired, expected = ek.update(desired, H, e, config=config)
        np.testing.assert_allclose(info.noise, expected.noise, rtol=1e-13)
        np.testing.assert_allclose(state.weights, desired.weights, rtol=RTOL, atol=ATOL)
    eye = np.eye(N)
    P = to_numpy(state.covariance.multiply(jax.numpy.asarray(eye)))
    np.testing.assert_allclose(P, desired.covariance.multiply(eye), rtol=RTOL, atol=ATOL)
    ek.save(state, tmp_path / "state")
    loaded = ek.load(tmp_path / "state")
    assert (loaded.count, loaded.covariance.count) == (7, 3)
    np.testing.assert_array_equal(loaded.noise.mean, to_numpy(state.noise.mean))
