"""How well the nodes carry the embedding nets, and how close together they must be."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.errors import InputError

from .nodal import NodalPotential
from .nodal_kernels import find_kernels

if TYPE_CHECKING:
    from .exact import ExactPotential
    from .model import DeepPotential

__all__ = ["fit_nodes", "interpolation_error"]

_KINKED = {"relu", "relu6"}  # a kink that these frames do not meet may be met by others
_COARSEST = 1 / 16  # [1/Å] where the search begins
_FINEST = 1 / 4096  # [1/Å] a net that still is not smooth there never will be
_SLACK = 1 / 16  # of the tolerance, left for the net to grow steeper before the nodes must be refined
_SMALLEST_FORCE = 1e-3  # [eV/Å] forces that vanish by symmetry have no relative error


def interpolation_error(nodal: NodalPotential, w: Array, frames: Sequence[Frame]) -> float:
    """Return the largest relative error that the nodes make on these frames.

    Forces, and the weight gradients of the energy and of a signed sum of forces, are compared with the exact nets,
    each relative to its largest number on all the frames. The energy itself is always closer than its gradient.

    Parameters
    ----------
    nodal : NodalPotential
        The model with its nodes.
    w : array, shape (n,)
        Weights.
    frames : sequence of Frame
        What to compare on.

    Raises
    ------
    InputError
        If there are no frames.
    """
    if not frames:
        raise InputError("`frames` must hold at least one frame to compare on, got none")
    # Forces and two gradients, each relative to its own largest number, the forces to the floor at least.
    worst, largest = np.zeros(3), np.asarray([_SMALLEST_FORCE, 0.0, 0.0])
    for frame in frames:
        for k, (exact, near) in enumerate(zip(*(_numbers(m, w, frame) for m in (nodal.exact, nodal)), strict=True)):
            # Python's max would drop a NaN, and with it the only sign of weights that have diverged.
            worst[k] = np.maximum(worst[k], np.max(np.abs(near - exact)))
            largest[k] = np.maximum(largest[k], np.max(np.abs(exact)))
    return float(np.max(worst / np.where(largest > 0, largest, 1.0)))


def _numbers(model: Any, w: Array, frame: Frame) -> tuple[NDArray[np.floating], ...]:
    """Return the forces and two gradients of either kind of model, which take samples of their own."""
    xp = array_namespace(w)
    # Signs at random, for the forces of a frame add up to zero; the same ones for both models.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(frame.n_atoms, 3))
    ones: Namespace = {"dtype": w.dtype, "device": w.device}
    sample = model.environment(frame, like=w)
    forces = model.predict(w, sample)["forces"]
    _, H = model.jacobian(w, sample, [{"energy": xp.asarray(1.0, **ones)}, {"forces": xp.asarray(signs, **ones)}])
    return to_numpy(forces), to_numpy(H[0, :]), to_numpy(H[1, :])


def fit_nodes(
    exact: "DeepPotential | ExactPotential",
    w: Array,
    frames: Sequence[Frame],
    tolerance: float,
    *,
    spacing: float = _COARSEST,
) -> NodalPotential | None:
    """Return the model with nodes as far apart as the tolerance allows.

    Parameters
    ----------
    exact : DeepPotential or ExactPotential
        The model whose embedding nets are to be interpolated.
    w : array, shape (n,)
        Weights.
    frames : sequence of Frame
        What the error is measured on.
    tolerance : float
        Largest relative error, see `interpolation_error`; the nodes chosen stay well below it.
    spacing : float
        Where to begin; it is halved until the error is small enough [1/Å].

    Returns
    -------
    NodalPotential or None
        None if no nodes do it (an activation with kinks, a tolerance near rounding), or if the library of `w` has no
        kernels for them.
    """
    if exact.architecture.activation in _KINKED:
        return None
    kernels = find_kernels(array_namespace(w))
    while kernels is not None and spacing >= _FINEST:
        nodal = NodalPotential(exact, spacing, kernels)
        if interpolation_error(nodal, w, frames) <= _SLACK * tolerance:
            return nodal
        spacing /= 2  # divides the error by about 2^8, once the nodes resolve the net
    return None
