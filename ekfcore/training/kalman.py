"""Training with the filter: the measurements of a batch, and the updates that absorb them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace
from ekfcore.atoms.quantities import ENERGY, FORCE, QUANTITIES, Quantity
from ekfcore.checkpoint import state_arrays, state_header
from ekfcore.filter import EKFState, update
from ekfcore.linearize import Linearizable
from ekfcore.measurement import atom_groups, reduce_batch, signed_mean
from ekfcore.potentials.error_bars import kpu_scale
from ekfcore.potentials.sample import Sample
from ekfcore.presets import Recipe
from ekfcore.ranks import ALONE, Ranks, collect

from .schedule import Measured, factor, learned, plan, variance

__all__ = ["KalmanOptimizer"]


class KalmanOptimizer:
    """Applies a recipe to batches of frames.

    Parameters
    ----------
    model : Linearizable
        Predicts energy, forces and virial.
    recipe : Recipe
        Settings of the filter and of the measurements.
    state : EKFState
        State of the filter; the optimizer owns it and overwrites its covariance.
    ranks : Ranks
        Processes that share the samples of a batch, see `Sample.owner`; each makes the whole update.

    Attributes
    ----------
    absorbed : int
        Updates of the last batch that were done before one broke down; 0 if none broke down.
    """

    def __init__(self, model: Linearizable[Any], recipe: Recipe, state: EKFState, ranks: Ranks = ALONE) -> None:
        self.model, self.recipe, self.state, self.ranks = model, recipe, state, ranks
        self.absorbed = 0

    @property
    def weights(self) -> Array:
        """Weights to predict with, shape (n,): those of the filter, or their running mean if it keeps one."""
        return self.state.average

    @property
    def rate(self) -> float:
        """Memory factor lambda."""
        return self.state.lam

    def diagnose(self, samples: Sequence[Sample]) -> Mapping[str, float]:
        """Return noise and the scale of P after an epoch, see `EpochRecord`."""
        adaptive, state = self.recipe.config.adaptive, self.state
        level = 1.0 if adaptive is None else float(adaptive.variance(state.noise))
        scale = kpu_scale(self.model, state, samples, self.ranks)
        return {
            "energy_noise": 1e3 * (level * self._variance(ENERGY)) ** 0.5,
            "force_noise": 1e3 * (level * self._variance(FORCE)) ** 0.5,
            "energy_kpu_scale": scale.energy,
            "force_kpu_scale": scale.force,
        }

    def step(self, samples: Sequence[Sample], rng: np.random.Generator, *, skip: int = 0) -> None:
        """Absorb one batch.

        Parameters
        ----------
        samples : sequence of Sample
            The frames.
        rng : numpy.random.Generator
            Draws the groups of atoms.
        skip : int
            Updates of this batch that the state has absorbed before an earlier run broke down in it.

        Raises
        ------
        FilterError
            If an update breaks down; the state is the one before that update, and `absorbed` is its index.
        """
        self.absorbed = 0
        batches = [[sample] for sample in samples] if self.recipe.mode == "sequential" else [list(samples)]
        for batch in batches:
            groups = [self._groups(sample, rng) for sample in batch]
            count, per_update = max(len(drawn) for drawn in groups), self.recipe.groups_per_update
            for kinds in plan(self.recipe.mode, learned(self.recipe, batch), count, per_update):
                if self.absorbed >= skip:
                    self._update(batch, groups, kinds)
                self.absorbed += 1
        self.absorbed = 0

    def _groups(self, sample: Sample, rng: np.random.Generator) -> list[list[int]]:
        # The force on a single atom is zero whatever the weights: its innovation, always zero, would lower the noise.
        labelled = any(getattr(sample, quantity.label) is not None for quantity in QUANTITIES if quantity.of_atoms)
        if not labelled or sample.n_atoms == 1:
            return []
        return atom_groups(rng, sample.n_atoms, size=self.recipe.group_size, count=self.recipe.groups)

    def _update(self, batch: Sequence[Sample], groups: Sequence[list[list[int]]], kinds: Sequence[Measured]) -> None:
        """Measure these quantities in all frames of the batch, at the same weights, and update once."""
        wanted = [_labelled(sample, drawn, kinds) for sample, drawn in zip(batch, groups, strict=True)]
        measured = [kind for some in wanted for kind in some]
        if not measured:
            return
        H, e = self._measure_all(batch, groups, wanted)
        noise = [self._variance(kind.quantity) for kind in measured]
        tracked = [kind.quantity.of_atoms for kind in measured]
        if self.recipe.mode == "batch":
            H, e = reduce_batch(list(H), list(e))
            noise, tracked = noise[:1], tracked[:1]
        # Forces alone set the noise level: an oscillating energy that got more noise would oscillate even more.
        self.state, _ = update(
            self.state, H, e, config=self.recipe.config, noise=noise, tracked=tracked, throw=True, donate=True
        )

    def _measure_all(
        self, batch: Sequence[Sample], groups: Sequence[list[list[int]]], wanted: Sequence[Sequence[Measured]]
    ) -> tuple[Array, Array]:
        """Return gradients, shape (m, n), and innovations, (m,), of what is wanted of each frame, from all ranks."""
        w = self.state.weights
        xp, owners, counts = array_namespace(w), [sample.owner for sample in batch], [len(kinds) for kinds in wanted]
        rows: list[Array] = []
        innovations: list[Array] = []
        for sample, drawn, kinds in zip(batch, groups, wanted, strict=True):
            if kinds and sample.owner == self.ranks.rank:
                H, e = self._measure(xp, sample, drawn, kinds)
                rows += list(H)
                innovations += e
        none = xp.zeros((0, w.shape[0]), dtype=w.dtype, device=device(w))  # of a rank that has no frame of the batch
        return (
            collect(self.ranks, owners, counts, xp.stack(rows) if rows else none),
            collect(self.ranks, owners, counts, xp.stack(innovations) if rows else none[:, 0]),
        )

    def _measure(
        self, xp: Namespace, sample: Sample, groups: list[list[int]], kinds: Sequence[Measured]
    ) -> tuple[Array, list[Array]]:
        """Return gradients and innovations of one frame."""
        prediction, pull = self.model.linearize(self.state.weights, sample.environment)
        cotangents, innovations = [], []
        for quantity, group in kinds:
            predicted, label = prediction[quantity.label], getattr(sample, quantity.label)
            weight = None if group is None else _mean_over(xp, groups[group], like=predicted)
            cotangent, e = signed_mean(predicted, label, weight)
            # Scaling by sqrt(weight) is equivalent to dividing the noise by the weight.
            scale = factor(self.recipe, quantity, sample.n_atoms) * sample.weight**0.5
            cotangents.append({quantity.label: cotangent * scale})
            innovations.append(e * scale)
        _, H = pull(cotangents)
        return H, innovations

    def _variance(self, quantity: Quantity) -> float:
        n_blocks = len(self.state.covariance.layout.sizes)
        return variance(self.recipe, quantity, count=self.state.count, n_blocks=n_blocks)

    def header(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the arrays."""
        return {"type": "filter", **state_header(self.state)}

    def arrays(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return the arrays of a checkpoint."""
        return state_arrays(self.state)


def _labelled(sample: Sample, groups: Sequence[list[int]], kinds: Sequence[Measured]) -> list[Measured]:
    """Return what can be measured in a frame: what it has a label of."""
    return [
        kind
        for kind in kinds
        if getattr(sample, kind.quantity.label) is not None and (kind.group is None or kind.group < len(groups))
    ]


def _mean_over(xp: Namespace, group: list[int], *, like: Array) -> Array:
    """Return the weight of each atom in a mean of all that the atoms of a group have; `like` is one for each atom."""
    share = np.zeros((like.shape[0], *(1 for _ in like.shape[1:])))
    share[group] = 1 / (math.prod(like.shape[1:]) * len(group))
    return xp.asarray(share, dtype=like.dtype, device=like.device)
