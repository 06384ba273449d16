"""Training with the filter: the measurements of a batch, and the updates that absorb them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace
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

    Attributes
    ----------
    absorbed : int
        Updates of the last batch that were done before one broke down; 0 if none broke down.
    """

    def __init__(self, model: Linearizable[Any], recipe: Recipe, state: EKFState) -> None:
        self.model: Any = model  # `Linearizable`; the loop puts a refined one in its place
        self.recipe, self.state = recipe, state
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
        scale = kpu_scale(self.model, state, samples)
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
        xp = array_namespace(self.state.weights)
        rows, innovations, noise, tracked = [], [], [], []
        for sample, drawn in zip(batch, groups, strict=True):
            H, e, R, forces = self._measure(xp, sample, drawn, kinds)
            rows += H
            innovations += e
            noise += R
            tracked += forces
        if not rows:
            return
        if self.recipe.mode == "batch":
            H, e = reduce_batch(rows, innovations)
            noise, tracked = noise[:1], tracked[:1]
        else:
            H, e = xp.stack(rows), xp.stack(innovations)
        # Forces alone set the noise level: an oscillating energy that got more noise would oscillate even more.
        self.state, _ = update(
            self.state, H, e, config=self.recipe.config, noise=noise, tracked=tracked, throw=True, donate=True
        )

    def _measure(
        self, xp: Namespace, sample: Sample, groups: list[list[int]], kinds: Sequence[Measured]
    ) -> tuple[list[Array], list[Array], list[float], list[bool]]:
        """Return gradient, innovation, noise and whether it is a force, of each measurement that has a label."""
        kinds = [
            kind
            for kind in kinds
            if getattr(sample, kind.quantity.label) is not None and (kind.group is None or kind.group < len(groups))
        ]
        if not kinds:
            return [], [], [], []
        prediction, pull = self.model.linearize(self.state.weights, sample.environment)
        cotangents, innovations, noise = [], [], []
        for quantity, group in kinds:
            predicted, label = prediction[quantity.label], getattr(sample, quantity.label)
            weight = None if group is None else _mean_over(xp, groups[group], like=predicted)
            cotangent, e = signed_mean(predicted, label, weight)
            # Scaling by sqrt(weight) is equivalent to dividing the noise by the weight.
            scale = factor(self.recipe, quantity, sample.n_atoms) * sample.weight**0.5
            cotangents.append({quantity.label: cotangent * scale})
            innovations.append(e * scale)
            noise.append(self._variance(quantity))
        _, H = pull(cotangents)
        return list(H), innovations, noise, [quantity.of_atoms for quantity, _ in kinds]

    def _variance(self, quantity: Quantity) -> float:
        n_blocks = len(self.state.covariance.layout.sizes)
        return variance(self.recipe, quantity, count=self.state.count, n_blocks=n_blocks)

    def header(self) -> dict[str, Any]:
        """Return what a checkpoint needs beside the arrays."""
        return {"type": "filter", **state_header(self.state)}

    def arrays(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return the arrays of a checkpoint."""
        return state_arrays(self.state)


def _mean_over(xp: Namespace, group: list[int], *, like: Array) -> Array:
    """Return the weight of each atom in a mean of all that the atoms of a group have; `like` is one for each atom."""
    share = np.zeros((like.shape[0], *(1 for _ in like.shape[1:])))
    share[group] = 1 / (math.prod(like.shape[1:]) * len(group))
    return xp.asarray(share, dtype=like.dtype, device=like.device)
