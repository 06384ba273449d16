"""Covariance computed afresh at the final weights of a training.

A training accumulates P while the weights move. The P computed here belongs to the training frames at the final weights
alone, and works for any optimizer.
"""

import math
from collections.abc import Sequence

import numpy as np
from array_api_compat import array_namespace, device

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.config import EKFConfig
from ekfcore.errors import InputError
from ekfcore.filter import EKFState, init, update
from ekfcore.memory import MemoryFactor
from ekfcore.partition import BlockLayout, partition
from ekfcore.ranks import ALONE, Ranks, collect

from .gradients import energy_per_atom, frame_gradients

__all__ = ["ENERGY_NOISE", "FORCE_NOISE", "refreshed"]

FORCE_NOISE, ENERGY_NOISE = 1.0, 0.03
"""Standard deviations of a force component [eV/Å] and of an energy per atom [eV], relative to each other."""

_ROWS, _TOGETHER = 128, 32  # rows that join the blocks, and measurements in one update


def refreshed(
    model: Potential,
    weights: Array,
    frames: Sequence[Frame],
    *,
    layout: BlockLayout | None = None,
    probes: int = 20,
    force_noise: float = FORCE_NOISE,
    energy_noise: float = ENERGY_NOISE,
    p0: float = 1e5,
    seed: int = 0,
    backend: str | None = None,
    ranks: Ranks = ALONE,
) -> EKFState:
    r"""Return a state of the filter whose P belongs to these weights and frames.

    Parameters
    ----------
    model : Potential
        The model.
    weights : array, shape (n,)
        Trained weights.
    frames : sequence of Frame
        Frames of the training; their labels are not used.
    layout : BlockLayout, optional
        Blocks of P; by default of at most 256 weights.
    probes : int
        Number of randomly signed sums of all force components of a frame, which replace the single components: on
        average over the signs their information is the same.
    force_noise, energy_noise : float
        Standard deviations of a force component [eV/Å] and of an energy per atom [eV]; only their ratio and `p0` count.
    p0 : float
        Prior variance of each weight: large, so that directions which the frames do not determine stay uncertain.
    seed : int
        Seed of the signs.
    backend : str, optional
        Kernels of the state.
    ranks : Ranks
        Processes that share the gradients of the frames; all have all frames, and find the same state.

    Returns
    -------
    EKFState
        State with these weights. Each block of the inverse of P is :math:`I / p_0 + \sum H_l^T R^{-1} H_l` over all
        energies and forces of the frames; rows that join the blocks add correlations from the last measurements.

    Raises
    ------
    InputError
        If there are no frames, or a number is not positive.
    """
    if not frames:
        raise InputError("`frames` must hold at least one frame to compute P from, got none")
    for name, value in {"probes": probes, "force_noise": force_noise, "energy_noise": energy_noise, "p0": p0}.items():
        if not 0 < value < math.inf:
            raise InputError(f"`{name}` must be a positive number, got {value}")
    xp, rng = array_namespace(weights), np.random.default_rng(seed)
    config = EKFConfig(memory=MemoryFactor(1.0), p0=p0, rows=_ROWS)
    state = init(weights, layout or partition(model.layer_sizes, block_size=256), config, backend=backend)
    noise = [probes * force_noise**2] * probes + [energy_noise**2]
    none = xp.zeros((0, weights.shape[0]), dtype=weights.dtype, device=device(weights))
    for turn in range(0, len(frames), ranks.size):  # one frame of each rank at a time, which bounds the memory
        some, found = frames[turn : turn + ranks.size], none
        for rank, frame in enumerate(some):
            signs = rng.choice([-1.0, 1.0], (probes, frame.n_atoms, 3))
            if rank == ranks.rank:
                functionals = [*({"forces": z} for z in signs), energy_per_atom(frame)]
                found = frame_gradients(model, weights, frame, functionals)
        H = collect(ranks, range(len(some)), [len(noise)] * len(some), found)
        for first in range(0, H.shape[0], len(noise)):
            for k in range(0, len(noise), _TOGETHER):
                # A copy: where the rows lie in memory may decide about the last bit of a product.
                rows = xp.asarray(H[first + k : first + min(k + _TOGETHER, len(noise)), :], copy=True)
                nothing = xp.zeros_like(rows[:, 0])  # innovations of zero do not change the weights
                R = noise[k : k + _TOGETHER]
                state, _ = update(state, rows, nothing, config=config, noise=R, throw=True, donate=True)
    return state
