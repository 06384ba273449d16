"""Blocks of P, and whether the memory can hold them."""

import hashlib
import socket
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ekfcore._typing import Array
from ekfcore.devices import free_memory, place
from ekfcore.errors import InputError
from ekfcore.partition import BlockLayout, partition
from ekfcore.presets import Recipe
from ekfcore.ranks import Ranks
from ekfcore.registry import get_backend

from .settings import Settings

__all__ = ["fitting_layout"]


def fitting_layout(settings: Settings, layer_sizes: Sequence[int], ranks: Ranks) -> BlockLayout | None:
    """Return the blocks of P, or None for Adam; refuse a P that the memory cannot hold."""
    if settings.optimizer.preset == "adam":
        return None
    recipe = settings.optimizer.recipe(1)
    layout = partition(layer_sizes, block_size=recipe.block_size, strategy=recipe.strategy)
    # All of P if every rank is on this machine, and the shares of those that are otherwise.
    here = _nearby(ranks) / ranks.size
    needed, available = _bytes(settings, recipe, layout), int(free_memory(_one(settings)) / here)
    if needed > available:
        beside = f" beside optimizer.rows = {recipe.config.rows}" if recipe.config.rows else ""
        raise InputError(
            f"P of {layout.n_params} weights with optimizer.block_size = {recipe.block_size} and "
            f"optimizer.strategy = {recipe.strategy!r}{beside} needs "
            f"{needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are free; "
            f"{_fitting(settings, layer_sizes, recipe, available)}"
        )
    return layout


def _nearby(ranks: Ranks) -> int:
    """Return the number of ranks on this machine, this one included: they share its memory."""
    # A number of the machine, not its name: a name has no fixed length.
    host = hashlib.sha256(socket.gethostname().encode()).digest()[:8]
    hosts = [int(found[0]) for found in ranks.gather(np.frombuffer(host, np.int64))]
    return hosts.count(hosts[ranks.rank])


def _bytes(settings: Settings, recipe: Recipe, layout: BlockLayout) -> int:
    """Return the memory of P [bytes]: its blocks, and the rows that join them, which are stored in two forms."""
    like = _one(settings)
    itemsize = 4 if recipe.config.dtype == "float32" else 8
    blocks = get_backend(settings.run.backend, like=like).store_size(layout, like=like)
    return itemsize * (blocks + 2 * recipe.config.rows * layout.n_params)


def _one(settings: Settings) -> Array:
    """Return an array of one number on the backend and the device of the run."""
    return place(np.zeros(1), backend=settings.run.backend, device=settings.run.device)


def _fitting(settings: Settings, layer_sizes: Sequence[int], recipe: Recipe, available: int) -> str:
    """Return advice: the largest block size, and the number of rows, that the memory could hold."""
    ignores_size = recipe.strategy in ("global", "layer")
    strategy = "rlekf" if ignores_size else recipe.strategy
    change = f"optimizer.strategy = {strategy!r} with " if ignores_size else ""
    largest = min(recipe.config.rows, 2**14)
    for rows in (largest, *(2**k for k in range(13, 0, -1) if 2**k < largest)):
        fewer = replace(recipe, config=replace(recipe.config, rows=rows))
        for block_size in (2**k for k in range(14, 4, -1)):
            layout = partition(layer_sizes, block_size=block_size, strategy=strategy)
            if _bytes(settings, fewer, layout) < 0.8 * available:
                also = f" and optimizer.rows = {rows}" if rows != recipe.config.rows else ""
                return f"{change}optimizer.block_size = {block_size}{also} would fit"
    return "no block size would fit"
