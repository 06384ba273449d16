"""The baseline: Adam with DeePMD-kit's loss, on the same model and the same gradients."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace
from ekfcore.arrays import to_numpy
from ekfcore.atoms.quantities import QUANTITIES
from ekfcore.errors import InputError
from ekfcore.linearize import Linearizable
from ekfcore.potentials.sample import Sample
from ekfcore.protocols import Cotangent, Prediction
from ekfcore.ranks import ALONE, Ranks, collect

__all__ = ["AdamOptimizer", "AdamSettings"]

# Decay of the two moments and the floor of the denominator, as in Kingma and Ba, arXiv 1412.6980, Algorithm 1.
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamSettings:
    """Learning rate and loss.

    Parameters
    ----------
    learning_rate, final_learning_rate : float
        First and last value of an exponential decay over the whole training.
    decay_steps : int
        Steps between two drops of the learning rate, as in DeePMD-kit; 1 for a smooth decay.
    energy_prefactors, force_prefactors, virial_prefactors : pair of float
        First and last weight in the loss; in between they follow the learning rate, as in DeePMD-kit.
    """

    learning_rate: float = 1e-3
    final_learning_rate: float = 3.5e-8
    decay_steps: int = 1
    energy_prefactors: tuple[float, float] = (0.02, 1.0)
    force_prefactors: tuple[float, float] = (1000.0, 1.0)
    virial_prefactors: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 < self.final_learning_rate <= self.learning_rate:
            raise InputError(
                "`final_learning_rate` must be positive and at most `learning_rate`, got "
                f"{self.final_learning_rate} and {self.learning_rate}"
            )
        if self.decay_steps < 1:
            raise InputError(f"`decay_steps` must be at least 1, got {self.decay_steps}")
        for name in (f"{quantity.name}_prefactors" for quantity in QUANTITIES):
            if min(getattr(self, name)) < 0:
                raise InputError(f"`{name}` must not be negative, got {getattr(self, name)}")


class AdamOptimizer:
    """Adam with an exponentially decaying learning rate.

    Parameters
    ----------
    model : Linearizable
        Predicts energy, forces and virial.
    settings : AdamSettings
        Learning rate and loss.
    weights : array, shape (n,)
        Initial weights.
    total_steps : int
        Batches in the whole training, over which the learning rate decays.
    ranks : Ranks
        Processes that share the samples of a batch, see `Sample.owner`.
    """

    def __init__(
        self,
        model: Linearizable[Any],
        settings: AdamSettings,
        weights: Array,
        *,
        total_steps: int,
        ranks: Ranks = ALONE,
    ) -> None:
        xp = array_namespace(weights)
        self.model = model
        self.settings, self.total_steps, self.ranks = settings, total_steps, ranks
        self.weights, self.count, self.absorbed = weights, 0, 0
        self.first, self.second = xp.zeros_like(weights), xp.zeros_like(weights)

    @property
    def rate(self) -> float:
        """Learning rate of the next step."""
        decay = self.settings.final_learning_rate / self.settings.learning_rate
        stairs = self.count // self.settings.decay_steps * self.settings.decay_steps
        return float(self.settings.learning_rate * decay ** (stairs / self.total_steps))

    def diagnose(self, samples: Sequence[Sample]) -> Mapping[str, float]:
        """Return nothing: a gradient alone gives neither noise nor uncertainty."""
        return {}

    def step(self, samples: Sequence[Sample], rng: np.random.Generator, *, skip: int = 0) -> None:
        """Descend along the mean gradient of a batch; a batch is one update, so `skip` has no effect."""
        xp = array_namespace(self.weights)
        gradient = sum(self._gradients(xp, samples)) / len(samples)
        rate = self.rate
        self.count += 1
        self.first = _BETA1 * self.first + (1 - _BETA1) * gradient
        self.second = _BETA2 * self.second + (1 - _BETA2) * gradient**2
        mean = self.first / (1 - _BETA1**self.count)
        scale = xp.sqrt(self.second / (1 - _BETA2**self.count)) + _EPSILON
        self.weights = self.weights - rate * mean / scale

    def _gradients(self, xp: Namespace, samples: Sequence[Sample]) -> Iterable[Array]:
        """Return the gradient of each sample, shape (n,), from the rank that has it."""
        own = [self._gradient(xp, sample) for sample in samples if sample.owner == self.ranks.rank]
        rows = xp.stack(own) if own else xp.zeros_like(self.weights)[None, :][:0, :]
        return list(collect(self.ranks, [sample.owner for sample in samples], [1] * len(samples), rows))

    def _gradient(self, xp: Namespace, sample: Sample) -> Array:
        prediction, pull = self.model.linearize(self.weights, sample.environment)
        _, H = pull([self._cotangent(sample, prediction)])
        return H[0, :]

    def _cotangent(self, sample: Sample, prediction: Prediction) -> Cotangent:
        """Return the derivative of the loss with respect to the prediction.

        The loss is p_e (dE)^2 / N + p_f mean(dF^2) + p_v mean(dW^2) / N, as in DeePMD-kit's energy loss, times the
        weight of the frame.
        """
        s, n = self.settings, sample.n_atoms
        done = self.rate / s.learning_rate
        cotangent = {}
        for quantity in QUANTITIES:
            first, last = getattr(s, f"{quantity.name}_prefactors")
            prefactor = sample.weight * (last + (first - last) * done)
            label = getattr(sample, quantity.label)
            if label is None or not (prefactor > 0 or quantity.expected):
                continue
            away = prediction[quantity.label] - label
            count = math.prod(away.shape) * (n if quantity.per_atom else 1)
            cotangent[quantity.label] = 2 * prefactor / count * away
        return cotangent

    def header(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the arrays."""
        return {"type": "adam", "count": self.count, "total_steps": self.total_steps}

    def arrays(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return the arrays of a checkpoint."""
        yield "weights", to_numpy(self.weights)
        yield "first", to_numpy(self.first)
        yield "second", to_numpy(self.second)

    def restore(self, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        """Restore the optimizer from a checkpoint."""
        xp = array_namespace(self.weights)
        kind = {"dtype": self.weights.dtype, "device": self.weights.device}
        self.count = int(header["count"])
        self.weights, self.first, self.second = (
            xp.asarray(arrays[name], **kind) for name in ("weights", "first", "second")
        )
