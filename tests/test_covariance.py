"""The deferred form of P against a dense matrix, for every backend that takes the array library."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from array_api_compat import is_writeable_array
from numpy.typing import NDArray

from ekfcore import BlockLayout, Covariance, InputError
from ekfcore.protocols import Backend
from ekfcore.registry import get_backend

if TYPE_CHECKING:
    from conftest import Contender, Xp

LAYOUT = BlockLayout((5, 1, 8))
RTOL = 1e-11
ATOL = 1e-13  # of P's elements, which are about one: those off the diagonal can be near zero


@pytest.fixture
def xp(contender: "Contender") -> "Xp":
    """Return the array library of the kernels."""
    return contender.xp


@pytest.fixture
def kernels(contender: "Contender") -> Backend:
    """Return all kernels in turn."""
    return contender.kernels


class Dense:
    """The same matrix written out, updated as it stands in the docstring of `downdate`."""

    def __init__(self, p0: float) -> None:
        self.P = p0 * np.eye(LAYOUT.n_params)

    def downdate(self, U: NDArray[Any], active: list[bool], lam: float, process_noise: float) -> None:
        for part, is_active in zip(LAYOUT.slices, active, strict=True):
            if is_active:
                block = self.P[part, part] - U[:, part].T @ U[:, part]
                self.P[part, part] = block / lam + process_noise * np.eye(len(block))


def _steps(count: int, m: int = 2) -> list[tuple[NDArray[Any], list[bool], float, float]]:
    """Return downdates small enough to leave P positive definite; the last block rests in each third of them."""
    rng = np.random.default_rng(0)
    steps = []
    for index in range(count):
        active = [True, True, index % 3 != 2]
        U = 0.1 * rng.standard_normal((m, LAYOUT.n_params)) * np.repeat(active, LAYOUT.sizes)
        steps.append((U, active, 0.9 + 0.01 * index, 0.05 * (index % 2)))
    return steps


def _downdate(xp: "Xp", P: Covariance, step: tuple[NDArray[Any], list[bool], float, float]) -> Covariance:
    U, active, lam, process_noise = step
    return P.downdate(xp.asarray(U), xp.asarray(active, "bool"), lam, process_noise)


def _identity(xp: "Xp", kernels: Backend, p0: float = 1.0) -> Covariance:
    return Covariance.identity(LAYOUT, p0, backend=kernels, like=xp.asarray([0.0]))


def _blocks(xp: "Xp", P: Covariance) -> list[NDArray[Any]]:
    return [xp.to_numpy(P.dense(index)).copy() for index in range(len(LAYOUT.sizes))]


def _assert_equals(xp: "Xp", P: Covariance, dense: NDArray[Any]) -> None:
    for block, part in zip(_blocks(xp, P), LAYOUT.slices, strict=True):
        np.testing.assert_allclose(block, dense[part, part], rtol=RTOL, atol=ATOL)
    traces = [np.trace(dense[part, part]) for part in LAYOUT.slices]
    np.testing.assert_allclose(xp.to_numpy(P.traces), traces, rtol=RTOL)


def test_deferred_form_equals_dense(xp: "Xp", kernels: Backend) -> None:
    """Elements and traces agree after every downdate, with forgetting, process noise, resting blocks and folds."""
    P, dense = _identity(xp, kernels, 3.0), Dense(3.0)
    for index, step in enumerate(_steps(10)):
        P = _downdate(xp, P, step)
        dense.downdate(*step)
        _assert_equals(xp, P, dense.P)
        if index in (3, 4, 8):
            P = P.fold(donate=False)
            _assert_equals(xp, P, dense.P)


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_multiply_is_a_product_with_p(xp: "Xp", kernels: Backend, rows: int) -> None:
    """Before and after a fold, for one row, for several and for many."""
    P, dense = _identity(xp, kernels), Dense(1.0)
    H = np.random.default_rng(1).standard_normal((rows, LAYOUT.n_params))
    for step in _steps(4):
        P = _downdate(xp, P, step)
        dense.downdate(*step)
    for form in (P, P.fold(donate=False)):
        np.testing.assert_allclose(xp.to_numpy(form.multiply(xp.asarray(H))), H @ dense.P, rtol=RTOL, atol=ATOL)


def test_fold_leaves_a_plain_q(xp: "Xp", kernels: Backend) -> None:
    """No pending rows, scale one, shift zero, traces counted afresh."""
    P = _identity(xp, kernels)
    for step in _steps(4):
        P = _downdate(xp, P, step)
    folded = P.fold(donate=False)
    assert folded.pending.shape == (0, LAYOUT.n_params)
    np.testing.assert_array_equal(xp.to_numpy(folded.scale), 1.0)
    np.testing.assert_array_equal(xp.to_numpy(folded.shift), 0.0)
    traces = [np.trace(block) for block in _blocks(xp, folded)]
    np.testing.assert_allclose(xp.to_numpy(folded.traces), traces, rtol=1e-15)


def test_older_states_stay_valid(xp: "Xp", kernels: Backend) -> None:
    """Without `donate`, no later downdate and no later fold changes a bit of an earlier covariance."""
    P = _identity(xp, kernels)
    kept = [(P, _blocks(xp, P))]
    for index, step in enumerate(_steps(9)):
        P = _downdate(xp, P, step)
        if index % 3 == 2:
            P = P.fold(donate=False)
        kept.append((P, _blocks(xp, P)))
    for old, blocks in kept:
        for block, again in zip(blocks, _blocks(xp, old), strict=True):
            np.testing.assert_array_equal(block, again)


def test_donated_fold_gives_the_same_bits(xp: "Xp", kernels: Backend) -> None:
    """Overwriting the stores is a matter of memory alone."""
    P = _identity(xp, kernels)
    for step in _steps(5):
        P = _downdate(xp, P, step)
    kept, donated = _blocks(xp, P.fold(donate=False)), _blocks(xp, P.fold(donate=True))
    for left, right in zip(kept, donated, strict=True):
        np.testing.assert_array_equal(left, right)


def test_numpy_kernels_fold_in_place() -> None:
    """A gigabyte is not allocated anew if it was donated, and only then."""
    pytest.importorskip("scipy", reason="the NumPy kernels call BLAS through SciPy")
    P = Covariance.identity(LAYOUT, 1.0, backend=get_backend("numpy", like=np.zeros(1)), like=np.zeros(1))
    for U, active, lam, process_noise in _steps(2):
        P = P.downdate(U, np.asarray(active), lam, process_noise)
    store = P.backend.lower(P.store, 2)
    kept, donated = P.fold(donate=False), P.fold(donate=True)
    assert not np.shares_memory(kept.backend.lower(kept.store, 2), store)
    assert np.shares_memory(donated.backend.lower(donated.store, 2), store)


def test_donated_rows_are_appended_in_place(xp: "Xp", kernels: Backend) -> None:
    """Once the buffer has grown, across folds as well, and to the same bits as without donation."""
    P, kept = _identity(xp, kernels), _identity(xp, kernels)
    buffers = []
    for index, (U, active, lam, process_noise) in enumerate(_steps(9)):
        args = xp.asarray(U), xp.asarray(active, "bool"), lam, process_noise
        P, kept = P.downdate(*args, donate=True), kept.downdate(*args)
        np.testing.assert_array_equal(xp.to_numpy(P.pending), xp.to_numpy(kept.pending))
        buffers.append(P.rows)
        if index % 3 == 2:
            P, kept = P.fold(donate=True), kept.fold(donate=False)
    in_place = is_writeable_array(P.rows)  # those of JAX never are
    assert len({id(buffer) for buffer in buffers[3:]}) == (1 if in_place else 6)
    for left, right in zip(_blocks(xp, P), _blocks(xp, kept), strict=True):
        np.testing.assert_array_equal(left, right)


def test_resting_block_keeps_its_covariance(xp: "Xp", kernels: Backend) -> None:
    """It neither forgets nor gains process noise, to the last bit."""
    P = _downdate(xp, _identity(xp, kernels), _steps(1)[0])
    before = xp.to_numpy(P.dense(2)).copy(), float(P.traces[2])
    for step in _steps(9)[2::3]:
        P = _downdate(xp, P, (step[0], step[1], 0.8, 0.5))
        np.testing.assert_array_equal(xp.to_numpy(P.dense(2)), before[0])
        assert float(P.traces[2]) == before[1]


def test_p_is_exactly_symmetric_after_a_fold(xp: "Xp", kernels: Backend) -> None:
    """Also where the library's matrix product rounds V^T V differently on the two sides of the diagonal."""
    layout = BlockLayout((33,))
    P = Covariance.identity(layout, 1.0, backend=kernels, like=xp.asarray([0.0]))
    U = 0.01 * np.random.default_rng(3).standard_normal((17, 33))
    P = P.downdate(xp.asarray(U), xp.asarray([True], "bool"), 0.97, 0.0).fold(donate=False)
    # Products with unit vectors give the rows of Q as the kernels use it.
    Q = xp.to_numpy(P.multiply(xp.asarray(np.eye(33))))
    np.testing.assert_array_equal(Q, Q.T)


def test_kernels_look_at_the_lower_triangle_only(xp: "Xp", kernels: Backend) -> None:
    """What stands above the diagonal of the arguments of `from_lower` has no meaning."""
    rng = np.random.default_rng(4)
    Q = [A @ A.T for A in (rng.standard_normal((n, n)) for n in LAYOUT.sizes)]
    H, V = rng.standard_normal((2, LAYOUT.n_params)), rng.standard_normal((3, LAYOUT.n_params))
    scale, shift = np.asarray([2.0, 0.5, 3.0]), np.asarray([0.5, 0.0, 1.0])
    store = kernels.from_lower(LAYOUT, [xp.asarray(np.where(np.tri(len(A), dtype=bool), A, np.nan)) for A in Q])
    arguments = [xp.asarray(array) for array in (V, scale, shift)]
    product = xp.to_numpy(kernels.multiply(store, xp.asarray(H), *arguments))
    folded = kernels.fold(store, *arguments, donate=False)
    np.testing.assert_allclose(xp.to_numpy(kernels.traces(store)), [np.trace(A) for A in Q], rtol=RTOL)
    for index, part in enumerate(LAYOUT.slices):
        np.testing.assert_array_equal(np.tril(xp.to_numpy(kernels.lower(store, index))), np.tril(Q[index]))
        P = scale[index] * (Q[index] + shift[index] * np.eye(len(Q[index])) - V[:, part].T @ V[:, part])
        np.testing.assert_allclose(product[:, part], H[:, part] @ P, rtol=RTOL, atol=ATOL)
        lower = np.tril(xp.to_numpy(kernels.lower(folded, index)))
        np.testing.assert_allclose(lower, np.tril(P), rtol=RTOL, atol=ATOL)


def test_sums_over_blocks_and_back(xp: "Xp", kernels: Backend) -> None:
    """Two maps between vectors of n and of L numbers, each the transpose of the other."""
    store = kernels.identity(LAYOUT, 1.0, like=xp.asarray([0.0]))
    A = np.random.default_rng(5).standard_normal((2, LAYOUT.n_params))
    sums = [[np.sum(row[part]) for part in LAYOUT.slices] for row in A]
    np.testing.assert_allclose(xp.to_numpy(kernels.block_sums(store, xp.asarray(A))), sums, rtol=RTOL, atol=ATOL)
    spread = kernels.spread(store, xp.asarray([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(xp.to_numpy(spread), np.repeat([1.0, 2.0, 3.0], LAYOUT.sizes))


def test_store_size_counts_numbers(xp: "Xp", kernels: Backend) -> None:
    """One triangle at least, and at most squares that are padded to whole tiles of 64."""
    layout = BlockLayout((130, 1, 64))
    size = kernels.store_size(layout, like=xp.asarray([0.0]))
    assert sum(n * (n + 1) // 2 for n in layout.sizes) <= size <= sum((n + 63) ** 2 for n in layout.sizes)


def test_scale_is_safe_over_many_forgetful_updates(xp: "Xp", kernels: Backend) -> None:
    """The numbers s and d cancel exactly in the algebra; they must not lose digits on the way either."""
    P, dense = _identity(xp, kernels), Dense(1.0)
    for U, *_ in _steps(30, m=1):
        step = (U, [True] * 3, 0.7, 0.01)  # s grows to 0.7^-30 = 44000
        P = _downdate(xp, P, step)
        dense.downdate(*step)
    _assert_equals(xp, P, dense.P)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_precision_and_p0_follow_the_arguments(xp: "Xp", kernels: Backend, dtype: str) -> None:
    """P_0 = p0 I in the dtype of `like`, and it stays there."""
    like = xp.asarray([0.0], dtype)
    P = Covariance.identity(LAYOUT, 2.5, backend=kernels, like=like)
    for index, n in enumerate(LAYOUT.sizes):
        np.testing.assert_array_equal(xp.to_numpy(P.dense(index)), 2.5 * np.eye(n))
    np.testing.assert_array_equal(xp.to_numpy(P.traces), [2.5 * n for n in LAYOUT.sizes])
    U = xp.asarray(0.1 * np.ones((1, LAYOUT.n_params)), dtype)
    P = P.downdate(U, xp.asarray([True] * 3, "bool"), 0.9, 0.1).fold(donate=False)
    P = P.downdate(U, xp.asarray([True] * 3, "bool"), 0.9, 0.1)
    assert {array.dtype for array in (P.scale, P.shift, P.traces, P.pending, P.dense(0), P.multiply(U))} == {like.dtype}


def test_an_empty_product_has_no_rows(xp: "Xp", kernels: Backend) -> None:
    """Zero measurements are a case like any other."""
    P = _identity(xp, kernels)
    assert P.multiply(xp.asarray(np.zeros((0, LAYOUT.n_params)))).shape == (0, LAYOUT.n_params)


def test_rows_of_another_length_are_refused(xp: "Xp", kernels: Backend) -> None:
    """Before any kernel reads or writes beside its arrays."""
    P = Covariance.identity(LAYOUT, 1.0, backend=kernels, like=xp.asarray([0.0]))
    active = xp.asarray([True] * 3, "bool")
    for shape in ((1, 13), (2, 15), (14,)):
        rows = xp.asarray(np.ones(shape))
        message = rf"must have shape \(m, 14\) to fit the blocks of P, got \({shape[0]},"
        with pytest.raises(InputError, match=f"`H` {message}"):
            P.multiply(rows)
        with pytest.raises(InputError, match=f"`U` {message}"):
            P.downdate(rows, active, 1.0, 0.0)
