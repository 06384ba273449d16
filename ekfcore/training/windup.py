"""Whether the covariance may outgrow its precision: what nothing measures only ever gets divided by lambda."""

import math

from ekfcore.presets import Recipe

from .kalman import plan

__all__ = ["LIMITS", "windup_note"]

LIMITS = {"float64": math.log(1e-4 * 2.0**52), "float32": math.log(1e-4 * 2.0**23)}
"""Logarithm of the growth that a precision bears: measured directions shrink meanwhile, by some four digits."""


def windup_note(recipe: Recipe, *, frames: int, batch: int, epochs: int) -> str:
    """Say so if P may outgrow its precision in a training.

    It is no mistake for certain: how far measured directions shrink depends on the data, so that of two seeds one may
    come through.

    Parameters
    ----------
    recipe : Recipe
        Filter and what it measures.
    frames, batch, epochs : int
        Frames to train on, frames of a batch, and epochs.

    Returns
    -------
    str
        One line with the keys, their values and what to set; empty if all is well.
    """
    memory, dtype = recipe.config.memory, recipe.config.dtype
    updates = plan(recipe.mode, recipe.groups, recipe.groups_per_update, virial=recipe.virial_prefactor > 0)
    batches = frames if recipe.mode == "sequential" else -(-frames // batch)
    at_once = batch if recipe.mode in ("pinned", "vector") else 1
    growth = memory.growth(epochs * batches * len(updates), at_once * len(updates[0]))
    limit = LIMITS[dtype]
    if growth <= limit:
        return ""
    # The growth is about proportional to 1 - memory, and falls faster than that.
    enough = math.ceil(1e3 * (1 - (1 - memory.initial) * limit / growth)) / 1e3
    remedy = f"set optimizer.memory to {enough:g} or more"
    if dtype == "float32":
        remedy = f'set optimizer.dtype to "float64", or {remedy.removeprefix("set ")}'
    return (
        f"optimizer.memory = {memory.initial:g} with optimizer.memory_rate = {memory.rate:g} lets P grow by "
        f"{_power(growth)} where nothing is measured, and {dtype} bears {_power(limit)}: weights may be thrown about "
        f"or the training stop; {remedy}"
    )


def _power(logarithm: float) -> str:
    """Return the number with one digit; it may be too large for a float."""
    decades, rest = divmod(logarithm / math.log(10), 1.0)
    return f"{10**rest:.0f}e{decades:.0f}"
