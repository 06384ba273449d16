"""The covariance computed afresh, at the weights where a training has ended.

The P that a training leaves was gathered while the weights moved, with a memory that fades and a noise chosen for
convergence. What the training frames say at the final weights alone foretells errors better, and any optimizer will do.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.config import EKFConfig
from ekfcore.covariance import Covariance
from ekfcore.errors import InputError
from ekfcore.filter import EKFState, init
from ekfcore.models.deep_potential import DeepPotential, NodalPotential
from ekfcore.partition import BlockLayout, partition

from .gradients import energy_per_atom, frame_gradients

__all__ = ["ENERGY_NOISE", "FORCE_NOISE", "refreshed"]

FORCE_NOISE, ENERGY_NOISE = 1.0, 0.03
"""Standard deviations that the recommended preset gives a force [eV/Å] and an energy per atom [eV]."""

_TOGETHER = 256  # rows added to the information at once: sums of few rows would be bound by memory


def refreshed(
    model: DeepPotential | NodalPotential,
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
) -> EKFState:
    r"""Return a state of the filter whose P belongs to these weights and frames.

    Parameters
    ----------
    model : DeepPotential or NodalPotential
        The model.
    weights : array, shape (n,)
        Trained weights.
    frames : sequence of Frame
        Frames of the training; their labels are not used.
    layout : BlockLayout, optional
        Blocks of P; those of the recommended preset if not given.
    probes : int
        Sums of all force components of a frame, signed at random, that stand for the components one by one: on average
        over the signs their information is the same.
    force_noise, energy_noise : float
        Standard deviations of a force component [eV/Å] and of an energy per atom [eV]; only their ratio and `p0` count.
    p0 : float
        Variance of each weight before the frames were seen: large, so that what they do not excite is uncertain.
    seed : int
        Seed of the signs.
    backend : str, optional
        Kernels of the state.

    Returns
    -------
    EKFState
        With these weights, and in each block :math:`P_l^{-1} = I / p_0 + \sum H_l^T R^{-1} H_l` over all energies and
        forces of the frames.

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
    layout = layout or partition(model.layer_sizes, block_size=1024)
    rng = np.random.default_rng(seed)
    information = [np.eye(size) / p0 for size in layout.sizes]
    for rows in _batches(model, weights, frames, rng, probes, force_noise, energy_noise):
        for index, part in enumerate(layout.slices):
            information[index] += rows[:, part].T @ rows[:, part]
    state = init(weights, layout, EKFConfig(p0=p0), backend=backend)
    return replace(state, covariance=_inverse(state.covariance, information), lam=1.0)


def _batches(
    model: DeepPotential | NodalPotential,
    weights: Array,
    frames: Sequence[Frame],
    rng: np.random.Generator,
    probes: int,
    force_noise: float,
    energy_noise: float,
) -> Iterator[NDArray[np.float64]]:
    """Yield rows h with the information h^T h, many at a time."""
    parts: list[NDArray[np.float64]] = []
    for frame in frames:
        signs = rng.choice([-1.0, 1.0], (probes, frame.n_atoms, 3)) / (math.sqrt(probes) * force_noise)
        functionals = [*({"forces": z} for z in signs), energy_per_atom(frame)]
        rows = np.array(to_numpy(frame_gradients(model, weights, frame, functionals)), dtype=np.float64)
        rows[-1] /= energy_noise
        parts.append(rows)
        if sum(map(len, parts)) >= _TOGETHER:
            yield np.concatenate(parts)
            parts = []
    if parts:
        yield np.concatenate(parts)


def _inverse(like: Covariance, information: Sequence[NDArray[np.float64]]) -> Covariance:
    """Return the covariance whose blocks are the inverses, with the backend and the arrays of another."""
    xp = array_namespace(like.scale)
    blocks = [np.linalg.inv(F) for F in information]

    def array(values: NDArray[np.float64]) -> Array:
        return xp.asarray(values, dtype=like.scale.dtype, device=device(like.scale))

    return Covariance(
        backend=like.backend,
        layout=like.layout,
        store=like.backend.from_lower(like.layout, (array((P + P.T) / 2) for P in blocks)),
        rows=like.rows,
        count=0,
        scale=like.scale,
        shift=like.shift,
        traces=array(np.asarray([np.trace(P) for P in blocks])),
    )
