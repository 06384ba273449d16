"""CONFIG, the file with all settings of a training."""

from collections.abc import Sequence
from dataclasses import fields, replace
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from ekfcore.config import EKFConfig
from ekfcore.errors import InputError
from ekfcore.models.settings import PotentialSettings
from ekfcore.partition import Strategy
from ekfcore.potentials.model_file import MODEL_FILE
from ekfcore.potentials.model_table import WithModel, default_model
from ekfcore.presets import PRESETS, Mode, Recipe, preset
from ekfcore.settings.fields import Count, NotNegative, Pair, Positive
from ekfcore.settings.table import Table, checked, read_table

from .adam import AdamSettings
from .records import METRICS_FILE
from .sources import Source, Sources

__all__ = [
    "DataSettings",
    "OptimizerSettings",
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


class OptimizerSettings(Table):
    """``[optimizer]``: a preset and the settings that differ from it, see `Recipe`, `EKFConfig` and `AdamSettings`."""

    preset: str = "recommended"
    # For the filters
    strategy: Strategy | None = None
    block_size: int | None = None
    mode: Mode | None = None
    groups: int | None = None
    group_size: int | Literal["all"] | None = None  # "all": the groups share all atoms of a frame
    groups_per_update: int | None = None
    energy_noise: float | None = None
    force_noise: float | None = None
    virial_noise: float | None = None
    energy_prefactor: NotNegative | None = None
    force_prefactor: NotNegative | None = None
    virial_prefactor: NotNegative | None = None
    force_per_atom: bool | None = None
    memory: Annotated[float | None, Field(gt=0, le=1)] = None
    memory_rate: Annotated[float | None, Field(ge=0, le=1)] = None
    memory_counts: Literal["measurements", "updates"] | None = None
    noise: Positive | Literal["adaptive", "blocks"] | None = None
    noise_factor: Positive | None = None
    noise_window: Annotated[float | None, Field(ge=1)] = None
    noise_power: Annotated[float | None, Field(ge=2)] = None
    p0: float | None = None
    process_noise: float | None = None
    rows: int | None = None
    pending: int | None = None
    averaging: float | None = None
    dtype: Literal["float64", "float32"] | None = None
    # For Adam
    learning_rate: float | None = None
    final_learning_rate: float | None = None
    decay_steps: int | None = None
    energy_prefactors: Pair | None = None
    force_prefactors: Pair | None = None
    virial_prefactors: Pair | None = None

    @field_validator("preset")
    @classmethod
    def _is_a_preset(cls, name: str) -> str:
        if name not in (*PRESETS, "adam"):
            raise InputError(f"be one of {', '.join(PRESETS)}, adam")
        return name

    @model_validator(mode="after")
    def _fits_the_preset(self) -> Self:
        given = self._given()
        for name in given:
            if (name in _ADAM) != (self.preset == "adam"):
                owner = 'preset "adam"' if name in _ADAM else "the filters"
                raise InputError(
                    f"`{name}` belongs to {owner}, got it beside preset {self.preset!r}; remove one of them"
                )
        # These constructors check the values.
        if self.preset == "adam":
            self.adam()
        else:
            self.recipe(1)
        return self

    def recipe(self, measurements_per_epoch: int) -> Recipe:
        """Return the filter and what it measures.

        Parameters
        ----------
        measurements_per_epoch : int
            Number of measurements in an epoch, the time scale of annealed settings.

        Returns
        -------
        Recipe
            The preset with the keys that were set.

        Raises
        ------
        InputError
            If the preset is "adam", which is no filter, or a value is out of its range.
        """
        base = preset(self.preset, measurements_per_epoch=measurements_per_epoch)
        given = self._given()
        memory = {_MEMORY[name]: given.pop(name) for name in _MEMORY if name in given}
        adaptive = {_NOISE[name]: given.pop(name) for name in _NOISE if name in given}
        if given.get("noise") == "adaptive" and base.config.adaptive is not None:
            del given["noise"]  # with the preset's own factor
        if given.get("group_size") == "all":
            given["group_size"] = None
        config = {name: given.pop(name) for name in _CONFIG if name in given}
        changed = replace(base.config, memory=replace(base.config.memory, **memory), **config)
        if adaptive:
            if changed.adaptive is None:
                name = next(name for name in _NOISE if _NOISE[name] in adaptive)
                raise InputError(
                    f'`{name}` needs optimizer.noise = "adaptive", got {changed.noise}; remove one of them'
                )
            changed = replace(changed, noise=replace(changed.adaptive, **adaptive))
        return replace(base, config=changed, **given)

    def adam(self) -> AdamSettings:
        """Return the settings of Adam: its defaults with the keys that were set."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self._given().items()}
        return AdamSettings(**given)

    def _given(self) -> dict[str, Any]:
        """Return the keys that differ from the preset."""
        return self.model_dump(exclude={"preset"}, exclude_none=True)


_ADAM = {field.name for field in fields(AdamSettings)}
_NOISE = {"noise_factor": "factor", "noise_window": "window", "noise_power": "power"}
_MEMORY = {"memory": "initial", "memory_rate": "rate", "memory_counts": "counts"}
_CONFIG = {field.name for field in fields(EKFConfig)} - _MEMORY.keys()


class TrainingSettings(Table):
    """``[training]``: epochs, frames a step, and the seed of all random choices."""

    epochs: Count = 10
    batch: Count = 1
    seed: Annotated[int, Field(ge=0)] = 0
    lcurve: str = ""  # name of a second table of the errors, in the layout of DeePMD-kit's lcurve.out
    tensorboard: bool = False  # also write the errors for TensorBoard

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
