"""Acquisition: the uncertainty of the explored frames, and the selection by it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.atoms.quantities import ENERGY, FORCE
from ekfcore.potentials.committee import committee_deviations
from ekfcore.potentials.kpu import FrameUncertainty, KalmanUncertainty
from ekfcore.potentials.refresh import ENERGY_NOISE, FORCE_NOISE
from ekfcore.ranks import ALONE, Ranks
from ekfcore.training import LoadedModel, load_model
from ekfcore.training.optimizer_settings import OptimizerSettings
from ekfcore.training.schedule import factor, group_size, plan_of, variance

from .greedy import choose_greedily
from .selection import Selection, SelectSettings, select

__all__ = ["Share", "choose", "judged"]

_PROBES = 8  # random combinations of the forces on a frame; on average their variances sum to its KPU
_POOL = 400  # candidates of a greedy choice: their gradients take a megabyte each


def choose(
    frames: Sequence[Frame],
    known: Sequence[Frame],
    models: Sequence[LoadedModel],
    settings: SelectSettings,
    optimizer: OptimizerSettings,
    *,
    epochs: int,
    maximum: int,
    seed: Sequence[int],
    backend: str = "auto",
    device: str = "cpu",
    judge: Callable[[Sequence[Frame]], list[Any]] | None = None,
    ranks: Ranks = ALONE,
) -> Selection:
    """Evaluate the uncertainty of the explored frames and select some of them.

    Parameters
    ----------
    frames : sequence of Frame
        Explored frames.
    known : sequence of Frame
        Frames that the models were trained on.
    models : sequence of LoadedModel
        One model, or the members of a committee.
    settings : SelectSettings
        Settings of the selection.
    optimizer : OptimizerSettings
        Settings of the filter, which determine the noise R of a new label.
    epochs : int
        Number of epochs that a label will be trained on.
    maximum : int
        Maximum number of frames to select.
    seed : sequence of int
        Seed of all random choices.
    backend, device : str
        Where to compute the uncertainty.
    judge : callable, optional
        Computes what `judged` does for the explored frames, elsewhere.
    ranks : Ranks
        Processes that share the gradients of the frames; all call this with the same arguments, and select the same.

    Raises
    ------
    InputError
        If a frame does not fit the model, or the model has no covariance and one is needed.
    """
    rng = np.random.default_rng(seed)
    if settings.method != "kpu":
        values = np.zeros(len(frames))
        if settings.method == "committee":
            values = np.asarray(judge(frames) if judge else _deviations(models, frames))
        return select(values, settings, base=1.0, maximum=maximum, rng=rng)
    fresh = settings.covariance == "fresh"
    uncertainty = _uncertainty(models[0], known, settings, backend=backend, device=device, ranks=ranks)
    sample = [known[k] for k in rng.permutation(len(known))[: settings.base_frames]]
    base = _Baseline(sample, uncertainty.many(sample), settings.quantity)
    values = base.values(frames, judge(frames) if judge else uncertainty.many(frames))
    # Absolute thresholds are in eV/Å, like those of a committee, so the values are square roots of variances.
    power = 2 if settings.threshold_unit == "absolute" and settings.quantity != "element_max" else 1
    values = values ** (1 / power)

    def greedy(candidates: Sequence[int], count: int, low: float) -> list[int]:
        pool = sorted(int(k) for k in rng.permutation(candidates)[:_POOL])
        if not pool:
            return []
        gram = _gram(uncertainty, [frames[k] for k in pool], rng)
        noise = _fresh_noise() if fresh else _noise(models[0], optimizer, epochs, [frames[k] for k in pool])
        variances = values[pool] ** power
        return [pool[k] for k in choose_greedily(gram, variances, noise=noise, maximum=count, low=low**power)]

    return select(values, settings, base=base.value, maximum=maximum, rng=rng, greedy=greedy)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Share:
    """Explored frames that a worker judges: by the models in these folders, trained on the frames `known`."""

    frames: Sequence[Frame]
    known: Sequence[Frame]
    models: Sequence[Path]
    settings: SelectSettings
    backend: str
    device: str


def judged(share: Share) -> list[Any]:
    """Return the `FrameUncertainty` of each frame, or the largest deviation of a committee [eV/Å]."""
    models = [load_model(folder) for folder in share.models]
    if share.settings.method == "committee":
        return _deviations(models, share.frames)
    uncertainty = _uncertainty(models[0], share.known, share.settings, backend=share.backend, device=share.device)
    return uncertainty.many(share.frames)


def _deviations(models: Sequence[LoadedModel], frames: Sequence[Frame]) -> list[float]:
    return [float(deviation.max()) for deviation in committee_deviations(models, frames)]


def _uncertainty(
    model: LoadedModel,
    known: Sequence[Frame],
    settings: SelectSettings,
    *,
    backend: str,
    device: str,
    ranks: Ranks = ALONE,
) -> KalmanUncertainty:
    refresh = known if settings.covariance == "fresh" else ()
    return KalmanUncertainty.load(
        model, backend=backend, device=device, fraction=settings.fraction, refresh=refresh, ranks=ranks
    )


class _Baseline:
    """Mean KPU of training frames, per element for `element_max`, and the values of frames."""

    def __init__(self, frames: Sequence[Frame], found: Sequence[FrameUncertainty], quantity: str) -> None:
        self.quantity = quantity
        self.elements: dict[int, float] = {}
        if quantity == "element_max":
            numbers = np.concatenate([frame.numbers[u.atoms] for frame, u in zip(frames, found, strict=True)])
            forces = np.concatenate([u.forces for u in found])
            self.elements = {int(n): float(forces[numbers == n].mean()) for n in np.unique(numbers)}
            self.value = 1.0
        else:
            self.value = float(np.mean(self.values(frames, found)))

    def values(self, frames: Sequence[Frame], found: Sequence[FrameUncertainty]) -> NDArray[np.float64]:
        return np.asarray([self._value(frame, u) for frame, u in zip(frames, found, strict=True)], dtype=np.float64)

    def _value(self, frame: Frame, u: FrameUncertainty) -> float:
        if self.quantity == "energy":
            return u.energy
        if self.quantity != "element_max":
            return u.force_mean if self.quantity == "force_mean" else u.force_max
        numbers = frame.numbers[u.atoms]
        return max(float(u.forces[numbers == n].mean()) / self.elements.get(int(n), np.inf) for n in np.unique(numbers))


def _gram(uncertainty: KalmanUncertainty, frames: Sequence[Frame], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return H P H^T of random combinations of forces and of the energy, for all frames, shape (N, q, N, q)."""
    Y = uncertainty.probes(frames, _PROBES, rng)
    n, q, size = Y.shape
    flat = Y.reshape(n * q, size)
    return (flat @ flat.T).astype(np.float64).reshape(n, q, n, q)


def _fresh_noise() -> NDArray[np.float64]:
    """Return R of each probe for a fresh P, which saw each force component once: three times that of a component."""
    return np.asarray([3 * FORCE_NOISE**2] * _PROBES + [ENERGY_NOISE**2])


def _noise(
    model: LoadedModel, optimizer: OptimizerSettings, epochs: int, frames: Sequence[Frame]
) -> NDArray[np.float64]:
    """Return the effective R of each probe of each labelled frame over all epochs of the training, shape (N, q)."""
    recipe = optimizer.recipe(1)
    adaptive, level = recipe.config.adaptive, 1.0
    if adaptive is not None and "noise" in model.arrays:  # files of earlier versions have none
        level = adaptive.factor * float(model.arrays["noise"][0])
    state = {"count": 0, "n_blocks": 1}  # ignored by the ratios of adaptive noise
    if adaptive is None:
        state = {"count": int(model.optimizer["count"]), "n_blocks": len(model.optimizer["sizes"])}
    force, energy = (level * variance(recipe, quantity, **state) for quantity in (FORCE, ENERGY))
    rows = []
    for n_atoms in (frame.n_atoms for frame in frames):
        measured = [quantity for update in plan_of(recipe, n_atoms) for quantity, _ in update]
        size, groups, energies = group_size(recipe, n_atoms), measured.count(FORCE), measured.count(ENERGY)
        # `force` is the variance of the mean over the 3 * size components of a group. One component has 3 * size times
        # that; a probe, the sum of 3 N components divided by the square root of N, has three times that of a component.
        # An epoch measures a component with the probability groups * size / N.
        seen = epochs * min(1.0, groups * size / n_atoms)
        probe = 3 * 3 * size * force / factor(recipe, FORCE, n_atoms) ** 2 / seen
        per_atom = energy / (n_atoms * factor(recipe, ENERGY, n_atoms)) ** 2 / (epochs * energies)
        rows.append([probe] * _PROBES + [per_atom])
    return np.asarray(rows)
