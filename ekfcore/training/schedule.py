"""Measurements of the filter: their order in a frame, their number, scale and variance."""

from collections.abc import Sequence

from ekfcore.atoms import Frame
from ekfcore.presets import Recipe

__all__ = ["Measured", "factor", "group_size", "measurements", "plan", "plan_of", "variance"]

Measured = str | int
"""A measured quantity: "energy", "virial", or the index of a group of atoms for the mean of its forces."""


def plan(mode: str, n_groups: int, per_update: int = 1, *, virial: bool) -> list[list[Measured]]:
    """Return what each update of a batch measures.

    Examples
    --------
    >>> plan("sequential", 2, virial=False)
    [['energy'], [0], [1]]
    >>> plan("pinned", 2, virial=False)
    [['energy', 0], ['energy', 1]]
    >>> plan("pinned", 3, 2, virial=False)
    [['energy', 0, 1], ['energy', 2]]
    >>> plan("pinned", 0, virial=False)
    [['energy']]
    >>> plan("vector", 2, virial=True)
    [['energy', 'virial', 0, 1]]
    """
    totals: list[Measured] = ["energy", "virial"] if virial else ["energy"]
    groups: list[Measured] = list(range(n_groups))
    if mode == "pinned":
        return [[*totals, *groups[k : k + per_update]] for k in range(0, max(n_groups, 1), per_update)]
    if mode == "vector":
        return [totals + groups]
    return [[kind] for kind in totals + groups]


def group_size(recipe: Recipe, n_atoms: int) -> int:
    """Return the number of atoms in a full group of a frame, see `atom_groups`."""
    return -(-n_atoms // recipe.groups) if recipe.group_size is None else min(recipe.group_size, n_atoms)


def plan_of(recipe: Recipe, n_atoms: int, *, virial: bool = False) -> list[list[Measured]]:
    """Return what each update measures in a frame of `n_atoms` atoms, with its virial or without."""
    groups = min(recipe.groups, -(-n_atoms // group_size(recipe, n_atoms)))
    return plan(recipe.mode, groups, recipe.groups_per_update, virial=virial)


def measurements(recipe: Recipe, frames: Sequence[Frame], *, batch: int) -> int:
    """Return the number of measurements that the filter counts in an epoch, the time scale of annealed settings."""
    plans = [_plan_of_frame(recipe, frame) for frame in frames]
    if recipe.mode == "batch":  # the measurements of all frames of a batch are reduced to one
        return -(-len(frames) // batch) * max(len(updates) for updates in plans)
    return sum(len(kinds) for updates in plans for kinds in updates)


def _plan_of_frame(recipe: Recipe, frame: Frame) -> list[list[Measured]]:
    """Return what is measured in a frame, without missing labels and without the force on a single atom."""
    forces = frame.forces is not None and frame.n_atoms > 1
    virial = recipe.virial_prefactor > 0 and frame.virial is not None
    updates = plan_of(recipe, frame.n_atoms, virial=virial)
    return [
        [kind for kind in kinds if (forces if isinstance(kind, int) else getattr(frame, kind) is not None)]
        for kinds in updates
    ]


def factor(recipe: Recipe, kind: Measured, n_atoms: int) -> float:
    """Return the factor on the energy or the virial of a frame, or on the mean force of a group."""
    if isinstance(kind, int):
        return recipe.force_prefactor / (n_atoms if recipe.force_per_atom else 1)
    return (recipe.energy_prefactor if kind == "energy" else recipe.virial_prefactor) / n_atoms


def variance(recipe: Recipe, kind: Measured, *, count: int, n_blocks: int) -> float:
    """Return the variance R after `count` measurements; for adaptive noise, its ratio to the common noise level."""
    sigma = recipe.force_noise if isinstance(kind, int) else getattr(recipe, f"{kind}_noise")
    return float(sigma**2) if sigma is not None else recipe.config.noise_at(count, n_blocks)
