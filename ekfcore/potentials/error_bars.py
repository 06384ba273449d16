"""Scale of P that makes the variances as large as the errors on the training frames."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.filter import EKFState
from ekfcore.linearize import Linearizable
from ekfcore.protocols import Cotangent
from ekfcore.ranks import ALONE, Ranks, collect
from ekfcore.uncertainty import kpu

from .dataset import Dataset
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


def kpu_scale(model: Linearizable[Any], state: EKFState, samples: Sequence[Sample], ranks: Ranks = ALONE) -> KpuScale:
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
    ranks : Ranks
        Processes that share them; `samples` is then a Dataset, which knows how.
    """
    indices = np.unique(np.linspace(0, len(samples) - 1, _FRAMES).round().astype(int)).tolist()
    chosen = samples.batch(indices) if isinstance(samples, Dataset) else [samples[k] for k in indices]
    squares, variances = np.zeros((len(chosen), 2)), np.zeros((len(chosen), 2))
    # One frame of each rank at a time: the gradients of all would take the memory of a small P.
    for turn in _turns(chosen, ranks.size):
        away, H = _probed(model, state.average, [(k, chosen[k]) for k in turn if chosen[k].owner == ranks.rank])
        owners = [chosen[k].owner for k in turn]
        away = collect(ranks, owners, [1] * len(turn), away)
        H = collect(ranks, owners, [1 + _PROBES] * len(turn), H)
        for place, k in enumerate(turn):
            hph = to_numpy(kpu(state, H[place * (1 + _PROBES) : (place + 1) * (1 + _PROBES), :]))
            # On average over the signs, the square of a signed sum is the sum of the squares.
            known = np.asarray([chosen[k].energy is not None, chosen[k].forces is not None])
            variances[k] = np.where(known, [hph[0], np.mean(hph[1:])], 0.0)
            squares[k] = away[place]
    # Added in the order of the frames, whoever measured them.
    factors = [
        s / v if v > 0 and math.isfinite(s / v) else 1.0
        for s, v in zip(*(sum(values, start=np.zeros(2)) for values in (squares, variances)), strict=True)
    ]
    return KpuScale(energy=factors[0], force=factors[1])


def _turns(samples: Sequence[Sample], size: int) -> list[list[int]]:
    """Return the numbers of the first sample of each rank, of the second, and so on."""
    of_ranks = [[k for k, sample in enumerate(samples) if sample.owner == rank] for rank in range(size)]
    turns = zip_longest(*of_ranks)
    return [sorted(k for k in turn if k is not None) for turn in turns]


def _probed(
    model: Linearizable[Any], w: Array, samples: Sequence[tuple[int, Sample]]
) -> tuple[NDArray[np.float64], Array]:
    """Return squared errors of the energy per atom and of the forces, (k, 2), and gradients of what stands for them."""
    xp = array_namespace(w)
    away, rows = np.zeros((len(samples), 2)), [xp.zeros((0, w.shape[0]), dtype=w.dtype, device=device(w))]
    for place, (index, sample) in enumerate(samples):
        prediction, pull = model.linearize(w, sample.environment)
        forces, n = prediction["forces"], sample.n_atoms
        signs = np.random.default_rng(index).choice([-1.0, 1.0], (_PROBES, n, 3))
        functionals: list[Cotangent] = [{"energy": _like(prediction["energy"], np.asarray(1 / n))}]
        functionals += [{"forces": _like(forces, z)} for z in signs]
        rows.append(pull(functionals)[1])
        if sample.energy is not None:
            away[place, 0] = (float(sample.energy - prediction["energy"]) / n) ** 2
        if sample.forces is not None:
            away[place, 1] = float(np.sum((to_numpy(sample.forces) - to_numpy(forces)) ** 2))
    return away, rows[1] if len(rows) == 2 else xp.concat(rows)


def _like(array: Array, values: NDArray[np.float64]) -> Array:
    return array_namespace(array).asarray(values, dtype=array.dtype, device=device(array))
