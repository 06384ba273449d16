"""Training of the models of a round."""

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

_ROOM = 1.5  # N of the descriptor is this times the neighbours in the first frames, as later frames may have more


def load_or_train(
    settings: LearnSettings,
    data: Path,
    out: Path,
    *,
    seed: int,
    start: Path | None,
    should_stop: Callable[[], bool],
    on_message: Callable[[str], None],
) -> LoadedModel | None:
    """Train a model, or finish its training.

    An existing model in `out` with other settings or data is moved to another folder.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    data : Path
        Labelled frames.
    out : Path
        Folder of the model.
    seed : int
        Seed of the initial weights and of the training.
    start : Path, optional
        Model to start from.
    should_stop : callable
        Called after each batch.
    on_message : callable
        Called with a line about a model that was moved.

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
        on_message(f"The model in {out} was trained on something else; it is kept as {_move_away(out)}.")
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
    """Return the digest of everything that determines a model, which excludes where it is trained."""
    decisive = training.model_dump(mode="json", include={"model", "optimizer", "training"})
    before = b"" if warm is None else warm.weights.tobytes()
    return digest_of(decisive, settings.update.memory, before, data.read_bytes())


def _move_away(folder: Path) -> Path:
    """Rename a folder to NAME.1, NAME.2, ..., the first that is free; return the new path."""
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
    validation: list[str | Source] = [path for paths in settings.data.validation.values() for path in paths]
    return Settings(
        # Without validation sets, no labels are held out: all are trained on.
        data=DataSettings(train=[str(data)], test=validation, test_fraction=None if validation else 0.0),
        model=model,
        optimizer=settings.optimizer,
        training=training,
        run=settings.run,
    )
