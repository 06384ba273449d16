"""Scale of P that makes the variances as large as the errors on the training frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.filter import EKFState
from ekfcore.linearize import Linearizable
from ekfcore.protocols import Cotangent
from ekfcore.uncertainty import kpu

from .sample import Sample

__all__ = ["KpuScale", "kpu_scale"]

_FRAMES, _PROBES = 32, 2  # largest number of frames, and signed sums of force components in each


@dataclass(frozen=True, slots=True, kw_only=True)
class KpuScale:
    """Factors on H P H^T.

    Parameters
    ----------
    energy, force : float
        For the energy per atom and for forces; 1 leaves the variance of the filter.
    """

    energy: float = 1.0
    force: float = 1.0


def kpu_scale(model: Linearizable[Any], state: EKFState, samples: Sequence[Sample]) -> KpuScale:
    """Return the factors that make H P H^T equal to the squared error on average.

    The noise of a training is chosen so that it converges: a group of forces is trusted as one number, whatever the
    correlation of its errors, and earlier frames count less than later ones. The order of
    uncertainties does not depend on that, but their scale does, which is fitted here to labelled frames. Training
    frames serve, as in a least-squares fit whose residuals give the scale of its covariance.

    Parameters
    ----------
    model : Linearizable
        Predicts energy and forces.
    state : EKFState
        State of the filter: its average weights and P are used.
    samples : sequence of Sample
        Labelled frames, of which at most 32 are used; each counts for the labels that it has.
    """
    chosen = [samples[k] for k in np.unique(np.linspace(0, len(samples) - 1, _FRAMES).round().astype(int))]
    squares, variances = np.zeros(2), np.zeros(2)
    for index, sample in enumerate(chosen):
        prediction, pull = model.linearize(state.average, sample.environment)
        forces, n = prediction["forces"], sample.n_atoms
        signs = np.random.default_rng(index).choice([-1.0, 1.0], (_PROBES, n, 3))
        functionals: list[Cotangent] = [{"energy": _like(prediction["energy"], np.asarray(1 / n))}]
        functionals += [{"forces": _like(forces, z)} for z in signs]
        hph = to_numpy(kpu(state, pull(functionals)[1]))
        # On average over the signs, the square of a signed sum is the sum of the squares.
        if sample.energy is not None:
            variances[0] += hph[0]
            squares[0] += (float(sample.energy - prediction["energy"]) / n) ** 2
        if sample.forces is not None:
            variances[1] += np.mean(hph[1:])
            squares[1] += float(np.sum((to_numpy(sample.forces) - to_numpy(forces)) ** 2))
    factors = [s / v if v > 0 and math.isfinite(s / v) else 1.0 for s, v in zip(squares, variances, strict=True)]
    return KpuScale(energy=factors[0], force=factors[1])


def _like(array: Array, values: NDArray[np.float64]) -> Array:
    return array_namespace(array).asarray(values, dtype=array.dtype, device=device(array))
