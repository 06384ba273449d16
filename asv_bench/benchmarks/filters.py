"""A filter that has been running for a while, on the paper's network or on one of any size."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from ekfcore import EKFConfig, EKFState, MemoryFactor, init, partition, update
from ekfcore._typing import Array
from ekfcore.partition import BlockLayout, Strategy

from .arrays import name_and_device, on_backend, skip_slow, skip_unusable, wait

__all__ = ["BLOCK_SIZES", "PARTS", "RunningFilter", "random_rows", "running_filter", "settle", "steady_config"]

BLOCK_SIZES = (1024, 5120)
PARTS = (25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1)
"""Parameter parts of the paper's network for one element: embedding 25, 25, 25, axis 16, fitting 50, 50, 50."""

_SEED = 0
_STEADY = 1e6  # variance of the noise
_FILLING = 8  # measurements in an update


def steady_config(dtype: str, *, rows: int = 0) -> EKFConfig:
    """Return settings with which P hardly changes, so that any number of updates by the same rows is harmless."""
    kind: Any = dtype  # asv gives strings
    return EKFConfig(memory=MemoryFactor(1.0), noise=_STEADY, rows=rows, dtype=kind)


def random_rows(backend: str, dtype: str, m: int, n: int) -> Array:
    """Return m gradients of a network with n weights."""
    return on_backend(backend, np.random.default_rng(_SEED).normal(0.0, 0.1, (m, n)), dtype)


@cache  # asv sets everything up again for each sample
def running_filter(
    backend: str,
    dtype: str,
    *,
    block_size: int,
    parts: tuple[int, ...] = PARTS,
    strategy: Strategy = "rlekf",
    rows: int = 0,
    pending: int = 0,
) -> EKFState:
    """Return a filter at random weights with `pending` rows since the last fold-in, or since rows aged."""
    skip_slow(backend, block_size)
    layout, config = partition(parts, block_size=block_size, strategy=strategy), steady_config(dtype, rows=rows)
    w = on_backend(backend, np.random.default_rng(_SEED).normal(0.0, 0.1, layout.n_params), dtype)
    state = settle(w, layout, config, backend)
    if pending:
        H, zeros = random_rows(backend, dtype, pending, layout.n_params), np.zeros(pending)
        state, _ = update(state, H, on_backend(backend, zeros, dtype), config=config, donate=True)
    wait(state.covariance.traces)
    return state


def settle(w: Array, layout: BlockLayout, config: EKFConfig, backend: str) -> EKFState:
    """Return a filter at the weights `w` whose kernels are warm and whose memory is in use.

    It has just folded, or its rows have just aged: that writes every page of P, which an operating system hands out
    only when it is written. Whatever noise the settings have, P is hardly changed.
    """
    with skip_unusable():
        state = init(w, layout, config, backend=name_and_device(backend)[0])
    H = random_rows(backend, config.dtype, _FILLING, layout.n_params)
    zeros = on_backend(backend, np.zeros(_FILLING), config.dtype)  # they leave the weights where they are
    for _ in range(max(1, -(-config.rows // _FILLING))):
        state, _ = update(state, H, zeros, config=replace(config, noise=_STEADY), donate=True)
    return state if config.rows else replace(state, covariance=state.covariance.fold(donate=True))


class RunningFilter:
    """A filter that goes on with every update by the same measurements, and folds, or lets rows age, when it is time.

    Parameters
    ----------
    state : EKFState
        Where it starts; its memory is overwritten.
    config : EKFConfig
        Settings.
    """

    def __init__(self, state: EKFState, config: EKFConfig) -> None:
        self.state, self.config = state, config

    def update(self, H: Array, e: Array | float) -> None:
        """Absorb the measurements, of shape (n,) or (m, n)."""
        self.state, _ = update(self.state, H, e, config=self.config, donate=True)
        wait(self.state.covariance.traces)
