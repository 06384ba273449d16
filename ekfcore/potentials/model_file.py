"""Model files, which a training writes: model, weights, optimizer and position."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import is_numpy_array
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.archive import read_archive, write_archive
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.errors import CheckpointError

from .error_bars import KpuScale
from .fingerprint import Fingerprint
from .placing import place_weights
from .position import EpochRecord, Position, known_fields
from .registry import settings_for
from .upgrades import FORM, upgraded

__all__ = ["MODEL_FILE", "LoadedModel", "evaluate", "load_model", "save_model"]

MODEL_FILE = "model.npz"
"""Name of the file in the folder of a run."""

_FRAMES = ("train", "test")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LoadedModel:
    """Contents of a model file.

    Parameters
    ----------
    model : Potential
        Form and constants.
    weights : array, shape (n,)
        Trained weights for predictions; a filter that averages continues from other ones.
    settings : mapping
        The CONFIG of the run, as JSON.
    position : Position
        How far the training had come.
    optimizer : mapping
        Description of the optimizer, to restore it from; its "type" is "filter", "adam", or for a model without one
        the name of where the model comes from.
    arrays : mapping of str to array
        Arrays of the optimizer, read on access.
    frames : Fingerprint, optional
        Digests of training and test frames; older files lack them.
    inputs : str
        Digest of everything that determines the result of the training, if the caller gave one.
    """

    model: Potential
    weights: NDArray[np.floating]
    settings: Mapping[str, Any]
    position: Position
    optimizer: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    frames: Fingerprint | None = None
    inputs: str = ""

    @property
    def has_optimizer(self) -> bool:
        """Whether the file has a filter or Adam to continue with."""
        return self.optimizer.get("type") in ("filter", "adam")

    @property
    def kpu_scale(self) -> KpuScale:
        """Factors that scale the variances of P to the errors, fitted after the last complete epoch."""
        last = self.position.records[-1] if self.position.records else None
        if last is None or last.energy_kpu_scale is None or last.force_kpu_scale is None:
            return KpuScale()
        return KpuScale(energy=last.energy_kpu_scale, force=last.force_kpu_scale)

    def without_optimizer(self) -> "LoadedModel":
        """Return the same model without its optimizer, so that a training starts with a fresh one."""
        return replace(self, optimizer={"type": "nothing"}, arrays={})


def save_model(
    path: Path,
    model: Potential,
    *,
    settings: Mapping[str, Any],
    position: Position,
    optimizer: Mapping[str, Any],
    arrays: Iterable[tuple[str, NDArray[Any]]],
    frames: Fingerprint | None = None,
    inputs: str = "",
) -> None:
    """Write a model file, replacing an old one.

    Raises
    ------
    InputError
        If the file cannot be written; an old file is then intact.
    """
    header: dict[str, Any] = {
        "kind": "model",
        "form": FORM,
        "model": dict(model.header()),
        "settings": dict(settings),
        "position": asdict(position),
        "optimizer": dict(optimizer),
        "inputs": inputs,
    }

    def members() -> Iterator[tuple[str, NDArray[Any]]]:
        yield from model.constants().items()
        if frames is not None:
            for name in _FRAMES:
                yield f"{name}_frames", getattr(frames, name)
        yield from arrays

    write_archive(path, header, members())


def load_model(path: str | Path, *, whole: bool = True) -> LoadedModel:
    """Read a model file, or the one in the folder of a run.

    Parameters
    ----------
    path : path
        The file, or the folder of a run.
    whole : bool
        Check every byte of the file. If false, P is not read, which takes nearly all of the time; arrays that are read
        are always checked.

    Raises
    ------
    CheckpointError
        If the file is truncated, altered, or not a model file.
    InputError
        If the file does not exist.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    header, arrays = read_archive(path, kind="model", whole=whole)
    try:
        header = upgraded(header)
        position = known_fields(Position, header["position"])
        position["records"] = tuple(EpochRecord(**known_fields(EpochRecord, record)) for record in position["records"])
        has_frames = f"{_FRAMES[0]}_frames" in arrays
        return LoadedModel(
            model=settings_for(header["model"]).load(header["model"], arrays),
            weights=arrays["average" if "average" in arrays else "weights"],
            settings=header["settings"],
            position=Position(**position),
            optimizer=header["optimizer"],
            arrays=arrays,
            frames=Fingerprint(**{name: arrays[f"{name}_frames"] for name in _FRAMES}) if has_frames else None,
            inputs=header["inputs"],
        )
    except CheckpointError as error:
        raise CheckpointError(f"{path} {error}") from None
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} lacks what a model file must hold ({error}); train the model again") from None


def evaluate(model: Potential, weights: Array, frames: Sequence[Frame]) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield energy [eV], forces [eV/Å] and virial [eV] of each frame as NumPy arrays.

    Raises
    ------
    InputError
        If a frame does not fit the model.
    """
    weights = place_weights(model, weights) if is_numpy_array(weights) else weights
    for frame in frames:
        prediction = model.exact.predict(weights, model.exact.environment(frame, like=weights))
        yield {name: to_numpy(array) for name, array in prediction.items()}
