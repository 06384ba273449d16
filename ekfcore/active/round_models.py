"""The models of a round."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

from ekfcore.atoms import read_frames
from ekfcore.atoms.digest import digest_of
from ekfcore.potentials.model_file import MODEL_FILE
from ekfcore.training import KalmanOptimizer, LoadedModel, load_model, prepare
from ekfcore.training.settings import DataSettings, Settings
from ekfcore.training.sources import Source

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
    say: Callable[[str], None],
) -> LoadedModel | None:
    """Train a model, or what is left of its training.

    A model that stands there and was made from anything else is moved out of the way.

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
    say : callable
        Told of a model that was moved.

    Returns
    -------
    LoadedModel or None
        The trained model; None if the training was stopped.
    """
    warm = load_model(start) if start is not None else None
    training = _training_settings(settings, data, seed, warm)
    inputs = _inputs(settings, training, data, warm)
    ready = (out / MODEL_FILE).exists()
    if ready and load_model(out, whole=False).inputs != inputs:
        say(f"The model in {out} was trained on something else; it is kept as {_move_away(out)}.")
        ready = False
    trainer = prepare(training, out, resume=ready, start=warm, inputs=inputs)
    optimizer = trainer.optimizer
    if not ready and warm is not None and settings.update.memory is not None:
        assert isinstance(optimizer, KalmanOptimizer)
        optimizer.state = replace(optimizer.state, lam=settings.update.memory)
    if not trainer.run(should_stop=should_stop):
        return None
    return load_model(out)


def _inputs(settings: LearnSettings, training: Settings, data: Path, warm: LoadedModel | None) -> str:
    """Return the digest of what decides about a model: it does not depend on where it was trained."""
    known = training.model_dump(mode="json", include={"model", "optimizer", "training"})
    before = b"" if warm is None else warm.weights.tobytes()
    return digest_of(known, settings.update.memory, before, data.read_bytes())


def _move_away(folder: Path) -> Path:
    """Give a folder the first free name like its own; return that."""
    free = next(path for k in count(1) if not (path := folder.with_name(f"{folder.name}.{k}")).exists())
    return folder.rename(free)


def _training_settings(settings: LearnSettings, data: Path, seed: int, warm: LoadedModel | None) -> Settings:
    """Return the settings of `ekfcore train` for the data of a round."""
    training = settings.training.model_copy(update={"seed": seed})
    model = settings.model
    if warm is not None:
        if settings.update.epochs is not None:
            training = training.model_copy(update={"epochs": settings.update.epochs})
    else:
        model = model.with_room(read_frames([str(data)]), _ROOM)
    judged_by: list[str | Source] = [path for paths in settings.data.validation.values() for path in paths]
    return Settings(
        # All labels are trained on, whether there is anything to judge the model by or not.
        data=DataSettings(train=[str(data)], test=judged_by, test_fraction=None if judged_by else 0.0),
        model=model,
        optimizer=settings.optimizer,
        training=training,
        run=settings.run,
    )
