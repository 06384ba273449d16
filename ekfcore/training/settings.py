"""CONFIG, the file with all settings of a training."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ekfcore.errors import InputError
from ekfcore.models.settings import PotentialSettings
from ekfcore.potentials.model_file import MODEL_FILE
from ekfcore.potentials.model_table import WithModel, default_model
from ekfcore.settings.fields import Count, NotNegative
from ekfcore.settings.table import Table, checked, read_table

from .optimizer_settings import OptimizerSettings
from .records import METRICS_FILE
from .sources import Source, Sources

__all__ = [
    "DataSettings",
    "RunSettings",
    "Settings",
    "TrainingSettings",
    "load_settings",
]

_TEST_FRACTION = 0.2
_TAKEN = (MODEL_FILE, METRICS_FILE, "tensorboard", "learning_curve.png", "parity.png")  # names in the folder of a run


class DataSettings(Table):
    """``[data]``: the labelled frames; without `test` and `test_fraction`, a fifth of them is for testing.

    A `test_fraction` of 0 trains on all of them and tests on none.

    An entry of `train` and `test` is a path, or a table ``{ path = "...", format = "cp2k/output", weight = 2.0 }`` with
    the keys of `Source`.
    """

    train: Annotated[Sources, Field(min_length=1)]
    test: Sources = []
    test_fraction: Annotated[float | None, Field(ge=0, lt=1)] = None

    @model_validator(mode="before")
    @classmethod
    def _one_way_to_test(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "train" not in data:
            return data
        test, fraction = data.get("test"), data.get("test_fraction")
        if test and fraction is not None:
            raise InputError(f"`test` and `test_fraction` exclude each other, got {test} and {fraction}; remove one")
        return data if test or fraction is not None else {**data, "test_fraction": _TEST_FRACTION}

    def starting_from(self, folder: Path) -> Self:
        """Return the same files with absolute paths, where the relative ones start from `folder`."""

        def absolute(source: str | Source) -> str | Source:
            return str(folder / Path(source).expanduser()) if isinstance(source, str) else source.starting_from(folder)

        return self.model_copy(update={name: [absolute(s) for s in getattr(self, name)] for name in ("train", "test")})


class TrainingSettings(Table):
    """``[training]``: epochs, frames a step, and the seed of all random choices.

    Without `batch`, one process takes one frame a step; several that train with a filter share four.
    """

    epochs: Count = 10
    batch: Count | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    lcurve: str = ""  # name of a second table of the errors, in the layout of DeePMD-kit's lcurve.out
    tensorboard: bool = False  # also write the errors for TensorBoard

    @property
    def frames_a_step(self) -> int:
        """`batch`; one frame if it is not set."""
        return 1 if self.batch is None else self.batch

    @field_validator("lcurve")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name and (Path(name).name in ("", "..", *_TAKEN) or "\0" in name):
            raise InputError(f"be the name of a file, and none of {', '.join(_TAKEN)}")
        return name


class RunSettings(Table):
    """``[run]``: kernels, device and threads; the result does not depend on them, rounding aside."""

    backend: str = "auto"
    device: str = "cpu"
    threads: Count | None = None
    sample_memory: NotNegative = 4.0  # [GiB] for cached samples; other frames are prepared each time they are needed


class Settings(WithModel):
    """All of CONFIG."""

    data: DataSettings
    model: SerializeAsAny[PotentialSettings] = Field(default_factory=default_model)
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    run: RunSettings = RunSettings()

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-ready description, which `from_json` reads."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Rebuild settings from their description.

        Raises
        ------
        InputError
            If the description is invalid; the message names the key, its rule and the value.
        """
        return checked(cls, data, "settings")


def load_settings(path: str | PathLike[str], overrides: Sequence[str] = ()) -> Settings:
    """Read CONFIG.

    Parameters
    ----------
    path : path
        A TOML file. Relative paths in its ``[data]`` start from its folder.
    overrides : sequence of str
        ``KEY=VALUE`` as in ``optimizer.block_size=1024``, overriding the file. The value is TOML; a value that is not
        TOML is text, so that words need no quotes.

    Returns
    -------
    Settings
        Complete and checked.

    Raises
    ------
    InputError
        One line that names the file, the key, its rule and the value.
    """
    path = Path(path)
    settings = read_table(Settings, path, overrides)
    return settings.model_copy(update={"data": settings.data.starting_from(path.parent.resolve())})
