"""Measurements of the filter: their order in a frame, their number, scale and variance."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

from ekfcore.atoms import Frame
from ekfcore.atoms.quantities import QUANTITIES, Quantity
from ekfcore.potentials.sample import Sample
from ekfcore.presets import Recipe

__all__ = ["Measured", "factor", "group_size", "learned", "measurements", "plan", "plan_of", "variance"]


class Measured(NamedTuple):
    """A quantity of a whole frame, or of atoms: then the mean over the group with that index."""

    quantity: Quantity
    group: int | None = None

    def __repr__(self) -> str:
        return self.quantity.name if self.group is None else f"{self.quantity.name} {self.group}"


def learned(recipe: Recipe, frames: Iterable[Frame | Sample]) -> list[Quantity]:
    """Return the quantities that are measured in these frames: without virials, for example, if none has one."""
    frames = list(frames)
    return [
        quantity
        for quantity in QUANTITIES
        if quantity.expected
        or (_prefactor(recipe, quantity) > 0 and any(getattr(f, quantity.label) is not None for f in frames))
    ]


def plan(mode: str, quantities: Sequence[Quantity], n_groups: int, per_update: int = 1) -> list[list[Measured]]:
    """Return what each update of a batch measures.

    Examples
    --------
    >>> from ekfcore.atoms.quantities import ENERGY, FORCE
    >>> plan("sequential", QUANTITIES, 2)
    [[energy], [virial], [force 0], [force 1]]
    >>> plan("pinned", QUANTITIES, 3, 2)
    [[energy, virial, force 0, force 1], [energy, virial, force 2]]
    >>> plan("pinned", [ENERGY, FORCE], 0)
    [[energy]]
    >>> plan("vector", [ENERGY, FORCE], 2)
    [[energy, force 0, force 1]]
    """
    totals = [Measured(quantity) for quantity in quantities if not quantity.of_atoms]
    groups = [[Measured(quantity, k) for quantity in quantities if quantity.of_atoms] for k in range(n_groups)]
    if mode == "pinned":
        return [[*totals, *chain(*groups[k : k + per_update])] for k in range(0, max(n_groups, 1), per_update)]
    everything = [*totals, *chain(*groups)]
    return [everything] if mode == "vector" else [[measured] for measured in everything]


def group_size(recipe: Recipe, n_atoms: int) -> int:
    """Return the number of atoms in a full group of a frame, see `atom_groups`."""
    return -(-n_atoms // recipe.groups) if recipe.group_size is None else min(recipe.group_size, n_atoms)


def plan_of(recipe: Recipe, n_atoms: int, frames: Sequence[Frame] = ()) -> list[list[Measured]]:
    """Return what each update measures in a frame of `n_atoms` atoms, of the quantities `learned` from `frames`."""
    groups = min(recipe.groups, -(-n_atoms // group_size(recipe, n_atoms)))
    return plan(recipe.mode, learned(recipe, frames), groups, recipe.groups_per_update)


def measurements(recipe: Recipe, frames: Sequence[Frame], *, batch: int) -> int:
    """Return the number of measurements that the filter counts in an epoch, the time scale of annealed settings."""
    plans = [_plan_of_frame(recipe, frame) for frame in frames]
    if recipe.mode == "batch":  # the measurements of all frames of a batch are reduced to one
        return -(-len(frames) // batch) * max(len(updates) for updates in plans)
    return sum(len(updates) for frame in plans for updates in frame)


def _plan_of_frame(recipe: Recipe, frame: Frame) -> list[list[Measured]]:
    """Return what is measured in a frame, without missing labels and without the force on a single atom."""
    return [
        [m for m in update if getattr(frame, m.quantity.label) is not None and (m.group is None or frame.n_atoms > 1)]
        for update in plan_of(recipe, frame.n_atoms, [frame])
    ]


def factor(recipe: Recipe, quantity: Quantity, n_atoms: int) -> float:
    """Return the factor on a quantity of a frame, or on its mean over a group of atoms."""
    per_atom = recipe.force_per_atom if quantity.of_atoms else quantity.per_atom
    return _prefactor(recipe, quantity) / (n_atoms if per_atom else 1)


def variance(recipe: Recipe, quantity: Quantity, *, count: int, n_blocks: int) -> float:
    """Return the variance R after `count` measurements; for adaptive noise, its ratio to the common noise level."""
    sigma = getattr(recipe, f"{quantity.name}_noise")
    return float(sigma**2) if sigma is not None else recipe.config.noise_at(count, n_blocks)


def _prefactor(recipe: Recipe, quantity: Quantity) -> float:
    prefactor: float = getattr(recipe, f"{quantity.name}_prefactor")
    return prefactor
