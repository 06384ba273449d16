"""What the filter measures in a frame, how often and how exactly: said here, and nowhere else."""

from collections.abc import Sequence

from ekfcore.atoms import Frame
from ekfcore.presets import Recipe

__all__ = ["Kind", "factor", "group_size", "measurements", "plan", "plan_of", "variance"]

Kind = str | int
"""What is measured: "energy", "virial", or the index of a group of atoms whose forces are."""


def plan(mode: str, n_groups: int, per_update: int = 1, *, virial: bool) -> list[list[Kind]]:
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
    totals: list[Kind] = ["energy", "virial"] if virial else ["energy"]
    groups: list[Kind] = list(range(n_groups))
    if mode == "pinned":
        return [[*totals, *groups[k : k + per_update]] for k in range(0, max(n_groups, 1), per_update)]
    if mode == "vector":
        return [totals + groups]
    return [[kind] for kind in totals + groups]


def group_size(recipe: Recipe, n_atoms: int) -> int:
    """Return how many atoms a whole group of a frame has, see `atom_groups`."""
    return -(-n_atoms // recipe.groups) if recipe.group_size is None else min(recipe.group_size, n_atoms)


def plan_of(recipe: Recipe, n_atoms: int, *, virial: bool = False) -> list[list[Kind]]:
    """Return what each update measures in a frame of that many atoms, with its virial or without."""
    groups = min(recipe.groups, -(-n_atoms // group_size(recipe, n_atoms)))
    return plan(recipe.mode, groups, recipe.groups_per_update, virial=virial)


def measurements(recipe: Recipe, frames: Sequence[Frame], *, batch: int) -> int:
    """Return how many measurements the filter counts in an epoch, which set the pace of what is annealed."""
    plans = [_plan_of_frame(recipe, frame) for frame in frames]
    if recipe.mode == "batch":  # which makes one of those of all frames
        return -(-len(frames) // batch) * max(len(updates) for updates in plans)
    return sum(len(kinds) for updates in plans for kinds in updates)


def _plan_of_frame(recipe: Recipe, frame: Frame) -> list[list[Kind]]:
    """Return what is measured in a frame that may lack some labels; the force on a single atom is none."""
    forces = frame.forces is not None and frame.n_atoms > 1
    virial = recipe.virial_prefactor > 0 and frame.virial is not None
    updates = plan_of(recipe, frame.n_atoms, virial=virial)
    return [
        [kind for kind in kinds if (forces if isinstance(kind, int) else getattr(frame, kind) is not None)]
        for kinds in updates
    ]


def factor(recipe: Recipe, kind: Kind, n_atoms: int) -> float:
    """Return what the energy or the virial of a frame, or the mean over a group of forces, is multiplied by."""
    if isinstance(kind, int):
        return recipe.force_prefactor / (n_atoms if recipe.force_per_atom else 1)
    return (recipe.energy_prefactor if kind == "energy" else recipe.virial_prefactor) / n_atoms


def variance(recipe: Recipe, kind: Kind, *, count: int, n_blocks: int) -> float:
    """Return R after that many measurements, or where the noise is adaptive, its ratio to the level of all noise."""
    sigma = recipe.force_noise if isinstance(kind, int) else getattr(recipe, f"{kind}_noise")
    return float(sigma**2) if sigma is not None else recipe.config.noise_at(count, n_blocks)
