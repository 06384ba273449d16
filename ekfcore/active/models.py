"""The models of a round."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ekfcore.atoms import Frame, read_frames
from ekfcore.models.deep_potential import neighbour_capacity
from ekfcore.training import KalmanOptimizer, LoadedModel, load_model, prepare
from ekfcore.training.model_file import MODEL_FILE
from ekfcore.training.settings import DataSettings, ModelSettings, Settings

from .settings import LearnSettings

__all__ = ["load_or_train"]

_ROOM = 1.5  # N of the descriptor, times the neighbours of the first frames; what later ones have is nearer to it


def load_or_train(
    settings: LearnSettings,
    data: Path,
    out: Path,
    *,
    seed: int,
    start: Path | None,
    should_stop: Callable[[], bool],
) -> LoadedModel | None:
    """Train a model, or what is left of its training.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    data : Path
        Labelled frames.
    out : Path
        Folder of the model.
    seed : int
        Makes the initial weights and all that is random in the training.
    start : Path, optional
        Model to begin with.
    should_stop : callable
        Asked after each batch.

    Returns
    -------
    LoadedModel or None
        The trained model; None if the training was stopped.
    """
    warm = load_model(start) if start is not None else None
    ready = (out / MODEL_FILE).exists()
    trainer = prepare(_training_settings(settings, data, seed, warm), out, resume=ready, start=warm)
    optimizer = trainer.optimizer
    if not ready and warm is not None and settings.update.memory is not None:
        assert isinstance(optimizer, KalmanOptimizer)
        optimizer.state = replace(optimizer.state, lam=settings.update.memory)
    if not trainer.run(should_stop=should_stop):
        return None
    return load_model(out)


def _training_settings(settings: LearnSettings, data: Path, seed: int, warm: LoadedModel | None) -> Settings:
    """Return the settings of `ekfcore train` for the data of a round."""
    training = settings.training.model_copy(update={"seed": seed})
    model = settings.model
    if warm is not None:
        if settings.update.epochs is not None:
            training = training.model_copy(update={"epochs": settings.update.epochs})
    elif model.capacity is None:
        model = _with_room(model, read_frames([str(data)]))
    return Settings(
        data=DataSettings(train=[str(data)], test=[p for paths in settings.data.validation.values() for p in paths]),
        model=model,
        optimizer=settings.optimizer,
        training=training,
        run=settings.run,
    )


def _with_room(model: ModelSettings, frames: list[Frame]) -> ModelSettings:
    elements = model.elements or sorted({symbol for frame in frames for symbol in frame.symbols})
    most = neighbour_capacity(frames, elements, model.cutoff)
    return model.model_copy(update={"elements": elements, "capacity": [math.ceil(_ROOM * count) for count in most]})
