"""From CONFIG to a training that is ready to run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ekfcore._typing import Array
from ekfcore.atoms import Frame, read_frames, split_frames
from ekfcore.checkpoint import restore_state
from ekfcore.devices import free_memory, place
from ekfcore.errors import InputError
from ekfcore.filter import init
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    NodalPotential,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)
from ekfcore.partition import BlockLayout, partition
from ekfcore.presets import Recipe
from ekfcore.registry import get_backend

from .adam import AdamOptimizer
from .evaluator import Evaluator
from .kalman import KalmanOptimizer
from .loop import Dataset, Optimizer, Trainer
from .model_file import MODEL_FILE, LoadedModel, Position, load_model
from .settings import Settings

__all__ = ["prepare"]


def prepare(settings: Settings, out: Path, *, resume: bool = False, start: LoadedModel | None = None) -> Trainer:
    """Read the data, build or restore the model, and return the training.

    Parameters
    ----------
    settings : Settings
        CONFIG.
    out : Path
        Folder for the model and the metrics; made here.
    resume : bool
        Go on from the model in `out`.
    start : LoadedModel, optional
        Begin with this model, its weights and its filter, where there is nothing to go on from; with a fresh filter if
        the model has none.

    Raises
    ------
    InputError
        If the data, the settings, the memory or the folder do not allow the training.
    CheckpointError
        If the model to go on from cannot be used.
    """
    saved = load_model(out / MODEL_FILE) if resume else None
    _check_folder(out, resume)
    train, test = _read(settings)
    origin = saved or start
    if origin is not None:
        settings = settings.model_copy(update={"model": settings.model.completed(origin.model.architecture)})
    architecture = _architecture(settings, [*train, *test], origin)
    layout = _layout(settings, architecture)
    _make_folder(out)
    model = origin.model if origin else DeepPotential(architecture, fit_statistics(train, architecture))
    like = _weights(settings, model, origin)
    position = saved.position if saved else Position()
    tolerance = settings.model.interpolation
    evaluator = Evaluator(model, like, train, tolerance=tolerance, spacing=position.spacing)
    return Trainer(
        evaluator=evaluator,
        optimizer=_optimizer(settings, evaluator.model, like, layout, len(train), origin),
        train=Dataset.prepare(evaluator.model, train, like=like),
        test=Dataset.prepare(evaluator.model, test, like=like),
        epochs=settings.training.epochs,
        batch=settings.training.batch,
        seed=settings.training.seed,
        settings=settings.as_json(),
        out=out,
        position=replace(position, spacing=evaluator.spacing),
        lcurve=settings.training.lcurve,
    )


def _check_folder(out: Path, resume: bool) -> None:
    """Refuse a folder that holds something already."""
    if not resume and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists already; go on from it with --resume, or choose another folder with --out")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out") from None


def _read(settings: Settings) -> tuple[list[Frame], list[Frame]]:
    """Return the frames for training and for testing."""
    require = ["energy", "forces"]
    train = read_frames(settings.data.train, require=require)
    if settings.data.test:
        return train, read_frames(settings.data.test, require=require)
    assert settings.data.test_fraction is not None  # the settings see to it
    return split_frames(train, settings.data.test_fraction, settings.training.seed)


def _architecture(settings: Settings, frames: Sequence[Frame], saved: LoadedModel | None) -> Architecture:
    """Complete the architecture from the data; refuse one that differs from that of the model to go on from."""
    wanted = settings.model
    present = {symbol for frame in frames for symbol in frame.symbols}
    elements = wanted.elements or sorted(present)
    missing = present - set(elements)
    if saved is not None and elements != list(saved.model.architecture.elements):
        raise InputError(
            f"model.elements = {elements} differs from {list(saved.model.architecture.elements)} of the model to go on "
            "from; set it back, or start anew in another folder"
        )
    if missing:
        raise InputError(
            f"the data hold {', '.join(sorted(missing))}, which model.elements = {elements} leaves out"
            if saved is None
            else f"the data hold {', '.join(sorted(missing))}, which the model to go on from does not know; "
            f"its elements are {', '.join(elements)}"
        )
    capacity = wanted.capacity or list(neighbour_capacity(frames, elements, wanted.cutoff))
    if isinstance(capacity, dict):
        if set(capacity) != set(elements):
            raise InputError(f"model.capacity must name the elements {', '.join(elements)}, got {capacity}")
        capacity = [capacity[element] for element in elements]
    architecture = wanted.architecture(elements, capacity)
    if saved is not None and architecture != saved.model.architecture:
        old, new = saved.model.architecture.as_json(), architecture.as_json()
        key = next(key for key in new if new[key] != old[key])
        raise InputError(
            f"model.{key} = {new[key]} differs from {old[key]} of the model to go on from; "
            "set it back, or start anew in another folder"
        )
    return architecture


def _layout(settings: Settings, architecture: Architecture) -> BlockLayout | None:
    """Return the blocks of P, or None for Adam; refuse a P that the memory cannot hold."""
    if settings.optimizer.preset == "adam":
        return None
    recipe = settings.optimizer.recipe(1)
    layout = partition(architecture.layer_sizes, block_size=recipe.block_size, strategy=recipe.strategy)
    needed, available = _bytes(settings, layout), free_memory(_one(settings))
    if needed > available:
        raise InputError(
            f"P of {layout.n_params} weights with optimizer.block_size = {recipe.block_size} and "
            f"optimizer.strategy = {recipe.strategy!r} needs "
            f"{needed / 2**30:.1f} GiB, {available / 2**30:.1f} GiB are free; "
            f"{_fitting_block_size(settings, architecture, recipe, available)}"
        )
    return layout


def _bytes(settings: Settings, layout: BlockLayout) -> int:
    """Return how much memory P takes."""
    like = _one(settings)
    itemsize = 4 if settings.optimizer.recipe(1).config.dtype == "float32" else 8
    return itemsize * get_backend(settings.run.backend, like=like).store_size(layout, like=like)


def _one(settings: Settings) -> Array:
    """Return an array of one number where the run takes place."""
    return place(np.zeros(1), backend=settings.run.backend, device=settings.run.device)


def _fitting_block_size(settings: Settings, architecture: Architecture, recipe: Recipe, available: int) -> str:
    """Say which block size the memory could hold."""
    ignores_size = recipe.strategy in ("global", "layer")
    strategy = "rlekf" if ignores_size else recipe.strategy
    for block_size in (2**k for k in range(14, 4, -1)):
        layout = partition(architecture.layer_sizes, block_size=block_size, strategy=strategy)
        if _bytes(settings, layout) < 0.8 * available:
            change = f"optimizer.strategy = {strategy!r} with " if ignores_size else ""
            return f"{change}optimizer.block_size = {block_size} would fit"
    return "no block size would fit"


def _weights(settings: Settings, model: DeepPotential, saved: LoadedModel | None) -> Array:
    """Return the weights to start from, in the library and on the device of the run."""
    host = saved.weights if saved else initial_weights(model.architecture, seed=settings.training.seed)
    return place(host, backend=settings.run.backend, device=settings.run.device)


def _optimizer(
    settings: Settings,
    model: DeepPotential | NodalPotential,
    weights: Array,
    layout: BlockLayout | None,
    n_train: int,
    saved: LoadedModel | None,
) -> Optimizer:
    """Return the filter or Adam, restored if there is something to go on from."""
    if saved is not None and not saved.has_optimizer:
        saved = None
    kind = "adam" if layout is None else "filter"
    if saved is not None and saved.optimizer.get("type") != kind:
        raise InputError(
            f"optimizer.preset = {settings.optimizer.preset!r} cannot go on from a model trained with the "
            f"{saved.optimizer.get('type')}; start anew in another folder"
        )
    if layout is None:
        batches = -(-n_train // settings.training.batch)
        adam = AdamOptimizer(model, settings.optimizer.adam(), weights, total_steps=settings.training.epochs * batches)
        if saved is not None:
            adam.restore(saved.optimizer, saved.arrays)
        return adam
    recipe = settings.optimizer.recipe(_measurements(settings, n_train))
    if saved is None:
        return KalmanOptimizer(model, recipe, init(weights, layout, recipe.config, backend=settings.run.backend))
    if tuple(saved.optimizer["sizes"]) != layout.sizes:
        raise InputError(
            f"optimizer.block_size = {recipe.block_size} gives other blocks than those of the model to go on from; "
            "set it back, or start anew in another folder"
        )
    state = restore_state(dict(saved.optimizer), saved.arrays, like=weights, backend=settings.run.backend)
    return KalmanOptimizer(model, recipe, state)


def _measurements(settings: Settings, n_train: int) -> int:
    """Return the measurements in an epoch, which set the pace of annealed noise."""
    recipe = settings.optimizer.recipe(1)
    updates = -(-recipe.groups // recipe.groups_per_update) if recipe.mode == "pinned" else 1
    return n_train * (updates + recipe.groups)
