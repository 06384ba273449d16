"""What a training that goes on keeps from its beginning, whatever CONFIG says now."""

from ekfcore.errors import InputError
from ekfcore.potentials.model_file import LoadedModel
from ekfcore.ranks import Ranks

from .settings import Settings

__all__ = ["with_batch", "with_beginning"]

# Frames of a batch that several ranks share: a frame teaches the filter about as much as alone, see
# docs/how-to/several-machines.md.
_SHARED = 4
_AT_THE_BEGINNING = {"model": ("fitting_gain",), "optimizer": ("p0", "memory")}  # keys by their tables


def with_batch(settings: Settings, saved: LoadedModel | None, ranks: Ranks) -> Settings:
    """Return CONFIG with the frames of a batch; a training goes on with as many as before, on any number of ranks.

    Raises
    ------
    InputError
        If the training stopped within an epoch of which it has learned other frames than CONFIG would say.
    """
    training, before = settings.training, dict(saved.settings.get("training", {})) if saved else {}
    if training.batch is None:
        shared = ranks.size > 1 and settings.optimizer.preset != "adam"  # whose steps would be fewer, and no longer
        training = training.model_copy(update={"batch": before.get("batch", _SHARED if shared else 1)})
    if saved is not None and saved.position.batch:
        # Batch and seed say which frames of the epoch were learned: with others, some would be left out unnoticed.
        for key in ("batch", "seed"):
            value = getattr(training, key)
            if value != before[key]:
                raise InputError(
                    f"training.{key} = {value} differs from {before[key]} of this training, which stopped within an "
                    f"epoch; go on to the end of it with --set training.{key}={before[key]} and "
                    f"--set training.epochs={saved.position.epoch + 1}, and change it then"
                )
    return settings.model_copy(update={"training": training})


def with_beginning(settings: Settings, saved: LoadedModel) -> tuple[Settings, str]:
    """Return CONFIG with what counts at the beginning of a training as it was then, and a note on what differs."""
    now, changed = settings.as_json(), []
    for table, keys in _AT_THE_BEGINNING.items():
        before = saved.settings.get(table, {})  # an imported model has no settings of a training
        different = {key: before[key] for key in keys if key in before and now[table].get(key) != before[key]}
        changed += [f"{table}.{key}" for key in different]
        # What is saved must be what was done: P began with the p0 of then.
        settings = settings.model_copy(update={table: getattr(settings, table).model_copy(update=different)})
    if not changed:
        return settings, ""
    return settings, f"{' and '.join(changed)} counted when this training began; the new value has no effect"
