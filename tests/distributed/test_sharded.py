"""Shares of P: what all ranks have together is P, in arithmetic, in memory and in messages.

The ranks are threads here, which meet at a barrier instead of a network.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.checkpoint import restore_state, state_arrays, state_header
from ekfcore.distributed.sharded import Sharded
from ekfcore.ranks import ALONE, Ranks, collect, share_out
from ekfcore.share import Whole
from ekfcore.uncertainty import CovarianceRoot

Together = Callable[[int, Callable[[Any], Any]], list[Any]]

LAYOUT = ek.BlockLayout((33, 1, 17, 9, 8, 20))
WIDE = ek.partition([25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1], block_size=256)  # the paper's net
SETTINGS = {
    "joined": ek.EKFConfig(rows=12, noise=0.5, memory=ek.MemoryFactor(0.99, 0.99)),
    "blocks": ek.EKFConfig(pending=4, noise=0.5, process_noise=1e-4),
}


def _train(config: ek.EKFConfig, share: Sharded | None, backend: str, *, updates: int = 9, m: int = 3) -> ek.EKFState:
    rng = np.random.default_rng(0)
    state = ek.init(rng.standard_normal(LAYOUT.n_params), LAYOUT, config, backend=backend, share=share)
    for index in range(updates):
        H, e = rng.standard_normal((m, LAYOUT.n_params)), rng.standard_normal(m)
        H[:, LAYOUT.slices[3]] *= index % 3 != 1  # a block without a gradient now and then
        state, _ = ek.update(state, H, e, config=config, throw=True, donate=True)
    return state


def _saved(state: ek.EKFState) -> dict[str, NDArray[Any]]:
    return dict(state_arrays(state))


@pytest.mark.parametrize("backend", ["numpy", "numba", "generic"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_ranks_have_the_filter_of_one_process(together: Together, kind: str, backend: str) -> None:
    """The same numbers as without ranks, and the same bits on every rank, whatever their number."""
    _need(backend)
    config = SETTINGS[kind]
    alone = _saved(_train(config, None, backend))
    first = None
    for size in (1, 2, 3, 4, 5):
        for found in together(size, lambda ranks: _saved(_train(config, Sharded(LAYOUT, ranks, rows=12), backend))):
            first = first or found
            assert list(found) == list(alone)
            for name, array in found.items():
                np.testing.assert_array_equal(array, first[name], err_msg=name)
                np.testing.assert_allclose(array, alone[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", SETTINGS)
def test_uncertainties_of_a_share(together: Together, kind: str) -> None:
    """Every rank has those of the whole."""
    config, H = SETTINGS[kind], np.random.default_rng(1).standard_normal((4, LAYOUT.n_params))

    def work(ranks: Ranks) -> list[NDArray[Any]]:
        state = _train(config, Sharded(LAYOUT, ranks, rows=12), "generic")
        return [ek.kpu(state, H), CovarianceRoot(state).kpu(H), state.covariance.dense(2)]

    state = _train(config, None, "generic")
    desired = [ek.kpu(state, H), CovarianceRoot(state).kpu(H), state.covariance.dense(2)]
    for found in together(3, work):
        for array, expected in zip(found, desired, strict=True):
            np.testing.assert_allclose(array, expected, rtol=1e-8)


@pytest.mark.parametrize("kind", SETTINGS)
@pytest.mark.parametrize(("before", "after"), [(4, 1), (1, 3), (3, 2)])
def test_saved_by_some_and_read_by_others(together: Together, kind: str, before: int, after: int) -> None:
    """Each keeps its own part of the one file, and has the next update in common with the others."""
    config = SETTINGS[kind]

    def save(ranks: Ranks) -> tuple[Any, dict[str, NDArray[Any]]]:
        state = _train(config, Sharded(LAYOUT, ranks, rows=12), "numpy")
        return state_header(state), _saved(state)

    _need("numpy")
    header, arrays = together(before, save)[0]

    def go_on(ranks: Ranks) -> dict[str, NDArray[Any]]:
        state = restore_state(header, arrays, share=Sharded(LAYOUT, ranks, rows=12))
        H = np.random.default_rng(5).standard_normal((2, LAYOUT.n_params))
        for _ in range(5):
            state, _ = ek.update(state, H, np.ones(2), config=config, throw=True, donate=True)
        return _saved(state)

    expected = together(before, go_on)[0]
    for found in together(after, go_on):
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("backend", ["numpy", "numba", "generic"])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
def test_memory_of_p_falls_with_the_ranks(backend: str, size: int) -> None:
    """No number is kept twice, and none has more than 1.2 times the mean: of Q, and of the rows."""
    _need(backend)
    like = np.zeros(1)
    kernels = ek.init(np.zeros(2), ek.BlockLayout((2,)), backend=backend).covariance.backend
    shares = [Sharded(WIDE, _Silent(rank, size), rows=128) for rank in range(size)]
    assert sorted(index for share in shares for index in share.indices) == list(range(len(WIDE.sizes)))
    stores = [kernels.store_size(share.layout, like=like) for share in shares]
    rows = [share.layout.n_params for share in shares]
    assert sum(stores) == kernels.store_size(WIDE, like=like)
    assert sum(rows) == WIDE.n_params
    for numbers in (stores, rows):
        assert max(numbers) <= 1.2 * sum(numbers) / size


def test_messages_of_an_update(together: Together) -> None:
    """As the documentation counts them: one of the size of H, and with rows that join the blocks a small one."""
    size, m, itemsize = 3, 3, 8

    def work(ranks: Any) -> dict[str, Any]:
        sent = {}
        for kind, config in SETTINGS.items():
            share = Sharded(LAYOUT, ranks, rows=12)
            state = _train(config, share, "generic", updates=1)
            ranks.sent.clear()
            ek.update(state, np.ones((m, LAYOUT.n_params)), np.ones(m), config=config, throw=True)
            sent[kind] = (list(ranks.sent), share)
        return sent

    for sent in together(size, work):
        for kind, (messages, share) in sent.items():
            columns = [sum(w for w, o in zip(share.widths, share.owners, strict=True) if o == r) for r in range(size)]
            G = m * max(columns) * itemsize
            k, parts = m, max(share.owners.count(rank) for rank in range(size))  # rows of the one update before
            if kind == "joined":
                assert messages == [parts * m * k * itemsize, G]
            else:
                traces = max(len(Sharded(LAYOUT, _Silent(rank, size), rows=12).indices) for rank in range(size))
                assert messages == [G, traces * itemsize]  # six rows are folded, and the traces summed anew


def test_more_ranks_than_blocks() -> None:
    """One line that says how many could start."""
    with pytest.raises(ek.InputError, match=r"6 ranks are more than the 5 parts of P .* of 6 blocks; start 5 at most"):
        Sharded(LAYOUT, _Silent(0, 6))


def test_whole_is_what_one_rank_has() -> None:
    """The share of the only rank: all blocks, in order."""
    share = Sharded(LAYOUT, _Silent(0, 1))
    assert share.layout == Whole(LAYOUT).layout
    assert list(share.indices) == list(Whole(LAYOUT).indices)


def test_share_out_takes_the_costliest_first() -> None:
    """Within 4/3 of the best that there is, as Graham proved; the best is found by trying all ways."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        costs = rng.integers(1, 20, 7).tolist()
        loads = _loads(costs, share_out(costs, 3), 3)
        best = min(max(_loads(costs, owners, 3)) for owners in np.ndindex(3, 3, 3, 3, 3, 3, 3))
        assert max(loads) <= (4 / 3 - 1 / 9) * best + 1e-9


def test_collect_puts_items_in_order(together: Together) -> None:
    """Along both axes, of lengths that differ, with a rank that has none."""
    counts, owners = [2, 1, 0, 3], [1, 0, 1, 1]
    everything = np.arange(12.0).reshape(6, 2)
    starts = np.cumsum([0, *counts])

    def work(ranks: Ranks) -> list[NDArray[Any]]:
        mine = [everything[starts[k] : starts[k + 1]] for k, owner in enumerate(owners) if owner == ranks.rank]
        part = np.concatenate([np.zeros((0, 2)), *mine])
        return [collect(ranks, owners, counts, part), collect(ranks, owners, counts, part.T, axis=1)]

    for rows, columns in together(3, work):
        np.testing.assert_array_equal(rows, everything)
        np.testing.assert_array_equal(columns, everything.T)
    np.testing.assert_array_equal(collect(ALONE, [0, 0], [4, 2], everything), everything)


class _Silent:
    """A rank that has nobody to talk to."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def gather(self, array: Any) -> list[Any]:
        """Return the array, as if all had the same."""
        return [array] * self.size

    def broadcast(self, array: Any, source: int) -> Any:
        """Return the array."""
        return array

    def agree(self, what: str, text: str) -> None:
        """Agree."""


def _loads(costs: Sequence[float], owners: Sequence[int], size: int) -> list[float]:
    return [sum(cost for cost, owner in zip(costs, owners, strict=True) if owner == rank) for rank in range(size)]


def _need(backend: str) -> None:
    if backend != "generic":
        pytest.importorskip({"numpy": "scipy"}.get(backend, backend), reason=f"backend {backend} is not installed here")
