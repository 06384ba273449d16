"""Frames of copper, and the paper's network for them, made once a process: asv sets up anew for each sample."""

from dataclasses import replace
from functools import cache

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    find_kernels,
    fit_nodes,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)
from ekfcore.models.deep_potential.embedding_kernels import whole_arrays

__all__ = ["copper_frames", "copper_model", "initial_copper_weights"]

_SEED = 0
_TOLERANCE = 1e-9  # of the nodes, the training's default


@cache
def copper_frames(count: int) -> list[Frame]:
    """Return frames of 72 copper atoms, displaced at random from the fcc lattice and labelled with ASE's EMT."""
    try:
        from ase.build import bulk
        from ase.calculators.emt import EMT
    except ImportError as error:
        raise NotImplementedError(f"ASE is not installed ({error})") from None
    rng, frames = np.random.default_rng(_SEED), []
    for index in range(count):
        atoms = bulk("Cu", cubic=True) * (3, 3, 2)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)  # [Å], about 600 K
        atoms.calc = EMT()  # type: ignore[no-untyped-call]
        atoms.get_forces()
        frames.append(Frame.from_ase(atoms, f"copper, frame {index}"))
    return frames


def initial_copper_weights() -> NDArray[np.float64]:
    """Return the initial weights of the network, shape (26551,)."""
    weights: NDArray[np.float64] = initial_weights(_exact().architecture, seed=_SEED)
    return weights


def copper_model(embedding: str, *, like: Array) -> DeepPotential:
    """Return the network for one frame, for arrays such as `like`.

    The embedding is "nodal", on the nodes that a training in double precision chooses, "exact", or "exact, whole
    arrays", which is without compiled kernels.
    """
    if embedding == "exact":
        return _exact()
    if embedding == "exact, whole arrays":
        return replace(_exact(), kernels=whole_arrays(array_namespace(like)))
    if find_kernels(array_namespace(like)) is None:
        raise NotImplementedError("there are no kernels of the nodal embedding for this library")
    return replace(_exact(), spacing=_spacing())


@cache
def _exact() -> DeepPotential:
    frames = copper_frames(1)
    architecture = Architecture(elements=("Cu",), capacity=neighbour_capacity(frames, ["Cu"], 6.0))
    return DeepPotential(architecture, fit_statistics(frames, architecture))


@cache
def _spacing() -> float:
    nodal = fit_nodes(_exact(), initial_copper_weights(), copper_frames(1), _TOLERANCE)
    assert nodal is not None, "tanh is smooth"
    spacing: float = nodal.spacing
    return spacing
