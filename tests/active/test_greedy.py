"""The greedy batch against the filter itself."""

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.active.greedy import choose_greedily

N, FRAMES, ROWS = 12, 6, 2


def _state() -> ek.EKFState:
    rng = np.random.default_rng(0)
    config = ek.EKFConfig(memory=ek.MemoryFactor(1.0, 1.0), noise=1.0)
    state = ek.init(np.zeros(N), ek.partition([N], block_size=N), config)
    for _ in range(5):
        state, _ = ek.update(state, rng.standard_normal(N), np.asarray(0.3), config=config)
    return state


@pytest.mark.parametrize("maximum", [1, 3, FRAMES])
def test_greedy_is_what_updates_of_the_filter_give(maximum: int) -> None:
    """Pick the largest H P H^T, update P with that frame's gradients, and look again."""
    rng = np.random.default_rng(1)
    H, noise = rng.standard_normal((FRAMES, ROWS, N)), np.asarray([0.5, 2.0])
    config = ek.EKFConfig(memory=ek.MemoryFactor(1.0, 1.0), noise=1.0)
    state, expected = _state(), []
    for _ in range(maximum):
        left = [np.asarray(ek.kpu(state, rows)).sum() if k not in expected else -1.0 for k, rows in enumerate(H)]
        expected.append(int(np.argmax(left)))
        state, _ = ek.update(state, H[expected[-1]], np.zeros(ROWS), config=config, noise=noise.tolist())
    P = _state().covariance.dense(0)
    gram = np.einsum("aqn,nm,brm->aqbr", H, P, H)
    values = np.trace(gram.diagonal(axis1=0, axis2=2))
    assert choose_greedily(gram.copy(), values, noise=noise, maximum=maximum, low=0.0) == expected


def test_near_duplicates_lose_their_value() -> None:
    """Of ten frames that are nearly the same one is chosen, then the others that differ."""
    rng = np.random.default_rng(2)
    same = np.asarray([3.0, 0.0, 0.0, 0.0]) + 0.01 * rng.standard_normal((10, 4))
    H = np.concatenate([same, np.eye(4)[1:]])[:, None]
    gram = np.einsum("aqn,brn->aqbr", H, H)
    values = gram[np.arange(13), 0, np.arange(13), 0]
    chosen = choose_greedily(gram, values, noise=np.asarray([0.01]), maximum=13, low=0.5)
    assert chosen[0] < 10
    assert sorted(chosen[1:]) == [10, 11, 12]


def test_nothing_to_choose_from() -> None:
    """An empty set, and frames that teach nothing."""
    empty = np.zeros((0, 2, 0, 2))
    assert choose_greedily(empty, np.zeros(0), noise=np.ones(2), maximum=3, low=0.0) == []
    assert choose_greedily(np.zeros((3, 2, 3, 2)), np.zeros(3), noise=np.ones(2), maximum=3, low=0.0) == []
