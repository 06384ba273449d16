"""Export of models to DeePMD-kit, and import from it."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import CheckpointError, InputError
from ekfcore.files import is_vacant, make_folder
from ekfcore.models.deep_potential import Architecture, DeepPotential
from ekfcore.models.wrapped import WrappedPotential
from ekfcore.potentials import LoadedModel
from ekfcore.potentials.model_file import MODEL_FILE, save_model
from ekfcore.potentials.position import Position

from ._kit import read_torch, write_torch
from .description import describe, settings_of
from .dp_file import read_dp, write_dp
from .kit_potential import export_kit_model
from .rebuild import rebuild
from .room import with_room

__all__ = ["export_model", "import_model"]


def export_model(loaded: LoadedModel, path: str | Path, *, room: float = 1.2) -> list[str]:
    """Write a model for DeePMD-kit and programs that run its models.

    Parameters
    ----------
    loaded : LoadedModel
        The model, see `load_model`.
    path : path
        Ends in ``.dp``, DeePMD-kit 3's backend-neutral format, or in ``.pth``, that of its PyTorch backend, which needs
        DeePMD-kit to be installed.
    room : float
        Places for neighbours of an element ("sel") as a multiple of the model's capacity. DeePMD-kit ignores the
        farthest neighbours beyond that number; the model here does not. With more than 1 the file may have an extra
        element X, which no frame has, see `with_room`; the predictions are the same.

    Returns
    -------
    list of str
        Notes on the file for the user.

    Raises
    ------
    InputError
        If the name has another suffix, `room` is less than 1, the file cannot be written, or DeePMD-kit is needed and
        missing.
    """
    path = Path(path)
    if path.suffix not in (".dp", ".pth"):
        raise InputError(f"{path} must end in .dp or .pth, so that DeePMD-kit knows what it is")
    kind = loaded.model.header()["type"]
    if kind == "deepmd" and isinstance(loaded.model, WrappedPotential):
        export_kit_model(loaded.model, loaded.weights, path)
        return []
    if not isinstance(loaded.model, DeepPotential):
        raise InputError(f'DeePMD-kit knows no model of type "{kind}"; export a "deep_potential" or a "deepmd" one')
    model, weights, reason = with_room(loaded.model, np.asarray(loaded.weights, dtype=np.float64), room)
    data: dict[str, Any] = {
        "software": "ekfcore",
        "version": version("ekfcore"),
        "backend": "DPModel",
        "model": describe(model, weights),
        "model_def_script": settings_of(model.architecture),
        "@variables": {},
    }
    write = write_dp if path.suffix == ".dp" else write_torch
    write(path, data)
    return _export_notes(loaded.model, model.architecture, reason)


def _export_notes(ours: DeepPotential, theirs: Architecture, reason: str) -> list[str]:
    """Return notes on the places for neighbours in the file, and on other points that DeePMD-kit does not report."""
    counts = zip(ours.architecture.elements, theirs.capacity, strict=False)
    places = ", ".join(f"{count} {symbol}" for symbol, count in counts)
    notes = [f"places for {places}; of more neighbours, DeePMD-kit leaves out the farthest without a word"]
    if reason:
        notes.append(f"no room for more than the model's capacity: {reason}")
    if ours.statistics.unknown:
        notes.append(f"the model has not learned {', '.join(ours.statistics.unknown)}; DeePMD-kit does not refuse it")
    return notes


def import_model(path: str | Path, out: str | Path) -> LoadedModel:
    """Make a model folder from a model of DeePMD-kit.

    Parameters
    ----------
    path : path
        A ``.dp``; or a ``.pth`` or a checkpoint ``.pt`` of the PyTorch backend, which require DeePMD-kit.
    out : path
        Folder to write, in the form of a training run; it must be empty or not exist.

    Returns
    -------
    LoadedModel
        Model in the folder. It has no filter: a training that starts from it begins with a fresh one.

    Raises
    ------
    InputError
        If the kind of model is not supported, which the message names; or a file cannot be read or written.
    CheckpointError
        If the file is damaged.
    """
    path, out = Path(path), Path(out)
    readers = {".dp": read_dp, ".pth": read_torch, ".pt": read_torch}
    if path.suffix not in readers:
        raise InputError(f"{path} must end in .dp, .pth or .pt; convert it with: dp convert-backend {path} model.dp")
    if not is_vacant(out):
        raise InputError(f"{out} exists already; choose another folder with --out")
    data = readers[path.suffix](path)
    if not isinstance(data.get("model"), dict):
        raise CheckpointError(f"{path} describes no model; copy or freeze it again")
    model, weights = rebuild(data["model"], str(path))
    model = replace(model, spacing=None)  # the training chooses its nodes
    position, optimizer = Position(), {"type": "DeePMD-kit"}
    arrays: dict[str, NDArray[Any]] = {"weights": weights}
    make_folder(out)
    save_model(out / MODEL_FILE, model, settings={}, position=position, optimizer=optimizer, arrays=arrays.items())
    return LoadedModel(model=model, weights=weights, settings={}, position=position, optimizer=optimizer, arrays=arrays)
