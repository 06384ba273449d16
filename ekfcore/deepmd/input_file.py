"""Settings from an input of DeePMD-kit."""

import json
import math
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from ekfcore.errors import InputError
from ekfcore.models.deep_potential import neighbour_capacity
from ekfcore.models.deep_potential.settings import DeepPotentialSettings
from ekfcore.settings.table import checked
from ekfcore.settings.toml import set_key
from ekfcore.training import Settings
from ekfcore.training.sources import read_sources

from ._section import Section
from ._translate import data_table, model_table, optimizer_table, with_their_keys

__all__ = ["load_input"]

# Meaning of "auto" in DeePMD-kit
_ATOMS = 32  # least number of atoms in a batch
_ROOM = 1.1  # factor on the largest number of neighbours in the data


def load_input(
    path: str | PathLike[str], overrides: Sequence[str] = (), *, fresh: bool = True
) -> tuple[Settings, list[str]]:
    """Read the input of a training with DeePMD-kit.

    Parameters
    ----------
    path : path
        A JSON file: descriptor se_e2_a, energy loss, optimizer LKF or Adam. Relative paths start from its folder. For
        LKF the filter is the recommended one, unless the overrides name another.
    overrides : sequence of str
        ``KEY=VALUE`` with the keys of `Settings`, overriding the file, see `load_settings`.
    fresh : bool
        Whether a new model will be made, for which "auto" counts neighbours; an existing model has its capacity.

    Returns
    -------
    settings : Settings
        Complete and checked; keys missing in the input have the default of DeePMD-kit.
    notes : list of str
        Notes for the user on deviations from the input.

    Raises
    ------
    InputError
        One line: the file is not JSON, a key breaks its rule, or the kind of model or training is not supported, which
        the message names.
    """
    path = Path(path)
    root = Section(_read(path), str(path))
    training, model = root.section("training"), root.section("model")
    data = _data(training)
    tables: dict[str, Any] = {
        "model": model_table(model),
        "optimizer": optimizer_table(root, training),
        "data": data_table(training, data, path.parent.resolve()),
        "training": {
            "seed": training.take("seed", default=0),
            "lcurve": training.take("disp_file", default="lcurve.out"),
            "tensorboard": training.take("tensorboard", default=False),
        },
    }
    length, batch_atoms = _length(training), _batch(data, tables["training"])
    sel = tables["model"]["capacity"]
    room = _number_after_auto(model, "model.descriptor.sel", sel, _ROOM) if isinstance(sel, str) else None
    if room is not None:
        del tables["model"]["capacity"]
    for assignment in overrides:
        set_key(tables, assignment)
    try:
        settings = checked(Settings, tables, "")
    except InputError as error:
        given = [assignment.partition("=")[0].strip() for assignment in overrides]
        raise InputError(f"{path}{with_their_keys(str(error), given)}") from None
    settings = settings.model_copy(update={"data": settings.data.starting_from(path.parent.resolve())})
    settings, notes = _fitted(settings, tables["training"], length, batch_atoms)
    form = settings.model
    if fresh and room is not None and isinstance(form, DeepPotentialSettings) and form.capacity is None:
        settings = settings.model_copy(update={"model": _with_room(settings, form, room)})
    if settings.optimizer.preset == "recommended":
        notes.insert(0, "LKF is ekfcore's filter; DeePMD-kit's own is --set optimizer.preset=deepmd-lkf")
    ignored = ", ".join(root.left())
    return settings, [*notes, f"ignored: {ignored}"] if ignored else notes


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an input of DeePMD-kit") from None
    except (ValueError, RecursionError) as error:  # includes wrong encodings and brackets nested too deeply
        raise InputError(f"{path}: is not JSON: {error}") from None


def _length(training: Section) -> tuple[float, Literal["steps", "epochs"]]:
    """Return the length of the training, and its unit."""
    epochs = training.take("numb_epoch", "num_epochs", "num_epoch", "numb_epochs")
    if epochs is not None:
        return _positive(training, epochs, "numb_epoch"), "epochs"
    steps = training.need("numb_steps", "stop_batch", "num_steps", "num_step", "numb_step")
    return _positive(training, steps, "numb_steps"), "steps"


def _positive(training: Section, value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise training.wrong(f"training.{name} must be a positive number, got {value!r}")
    return value


def _data(training: Section) -> Section:
    """Return the section that names the systems: in version 1 of the input, the training itself."""
    if "systems" not in training:
        return training.section("training_data")
    if "training_data" in training:
        raise training.wrong("training.systems and training.training_data say the same; remove the first")
    return training


def _batch(data: Section, training: dict[str, Any]) -> tuple[float, Callable[[float], int]]:
    """Return the atoms of a batch and the function that rounds frames; set the frames of a batch if they are given."""
    batch = data.take("batch_size", default="auto")
    if isinstance(batch, list) and len(set(map(str, batch))) == 1:
        batch = batch[0]  # one value for each system, all the same
    key = "training.training_data.batch_size"
    if isinstance(batch, str):
        word, _, number = batch.partition(":")
        if word == "auto":  # at least this number of atoms
            return _number_after_auto(data, key, batch, _ATOMS), math.ceil
        if not number.isdecimal() or int(number) == 0 or word not in ("max", "mixed"):
            raise data.wrong(f'{key} must be a number, "auto", "auto:{_ATOMS}", "max:N" or "mixed:N", got {batch!r}')
        if word == "max":  # at most this number of atoms
            return int(number), math.floor
        batch = int(number)  # frames of mixed composition, as all batches are here
    if isinstance(batch, bool) or not isinstance(batch, int):
        raise data.wrong(f'{key} must be one number, "auto", "max:N" or "mixed:N", got {batch!r}')
    training["batch"] = batch
    return _ATOMS, math.ceil  # unused, as the frames of a batch are given


def _number_after_auto(section: Section, key: str, text: str, default: float) -> float:
    """Return the number in "auto:1.2", or the default."""
    word, _, number = text.partition(":")
    try:
        value = float(number or default)
    except ValueError:
        value = -1.0
    if word != "auto" or not 0 < value < math.inf:
        raise section.wrong(f'{key} must be a number, "auto" or "auto:{default}", got {text!r}')
    return value


def _with_room(settings: Settings, model: DeepPotentialSettings, room: float) -> DeepPotentialSettings:
    """Return the model with a capacity of `room` times the neighbours in the data, rounded up to multiples of four."""
    known = model.elements
    frames = read_sources([*settings.data.train, *settings.data.test], require=(), elements=known)
    elements = known or sorted({symbol for frame in frames for symbol in frame.symbols})
    most = neighbour_capacity(frames, elements, model.cutoff)
    return model.model_copy(
        update={"elements": elements, "capacity": [4 * ((int(count * room) + 3) // 4) for count in most]}
    )


def _fitted(
    settings: Settings,
    given: dict[str, Any],
    length: tuple[float, Literal["steps", "epochs"]],
    batch_atoms: tuple[float, Callable[[float], int]],
) -> tuple[Settings, list[str]]:
    """Set what depends on the data: frames of a batch, epochs, and settings that follow from them.

    Parameters
    ----------
    settings : Settings
        Settings that the input determines.
    given : dict
        Keys of ``[training]`` that must not change.
    length : (float, str)
        Length of the training, and its unit.
    batch_atoms : (float, callable)
        Atoms of a batch, if its frames are not given, and the function that rounds frames.
    """
    known, notes = settings.model.elements, []
    frames = read_sources(settings.data.train, require=(), elements=known)
    n_train = len(frames)
    if settings.data.test_fraction is not None:
        n_train -= round(settings.data.test_fraction * n_train)
        notes.append(
            f"no validation_data: {len(frames) - n_train} of the {len(frames)} frames are set aside to test on"
        )
    training, optimizer = settings.training, settings.optimizer
    if "batch" not in given:
        atoms, rounded = batch_atoms
        frames_of_batch = max(1, rounded(atoms / max(frame.n_atoms for frame in frames)))
        training = training.model_copy(update={"batch": frames_of_batch})
    batches = math.ceil(n_train / training.frames_a_step)
    if "epochs" not in given:
        wanted, unit = length
        epochs = math.ceil(wanted if unit == "epochs" else wanted / batches)
        training = training.model_copy(update={"epochs": epochs})
        if unit == "steps":
            notes.append(f"{wanted:.0f} steps are {epochs} epochs of {batches} steps")
    if optimizer.preset == "deepmd-lkf" and training.frames_a_step > 1 and "mode" not in optimizer.given:
        optimizer = optimizer.model_copy(update={"mode": "batch"})
    steps = training.epochs * batches
    if optimizer.given.get("decay_steps", 0) >= steps:
        # DeePMD-kit's rule for a training that ends before the first drop of the learning rate.
        decay_steps = 100 if steps // 10 > 100 else steps // 100 + 1
        optimizer = optimizer.model_copy(update={"decay_steps": decay_steps})
    return settings.model_copy(update={"training": training, "optimizer": optimizer}), notes
