"""CONFIG's table ``[optimizer]``, whose keys are declared where they are used: by the filter and by Adam."""

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, field_validator, model_validator

from ekfcore.config import EKFConfig
from ekfcore.errors import InputError
from ekfcore.presets import PRESETS, Recipe, preset
from ekfcore.settings.fields import Pair, Positive
from ekfcore.settings.table import Table

from .adam import AdamSettings

__all__ = ["OptimizerSettings"]

_ADAM, _CONFIG, _RECIPE = (
    {field.name: field.type for field in fields(kind) if not is_dataclass(field.type)}
    for kind in (AdamSettings, EKFConfig, Recipe)
)
_MEMORY = {"memory": "initial", "memory_rate": "rate", "memory_counts": "counts"}
_NOISE = {"noise_factor": "factor", "noise_window": "window", "noise_power": "power"}
_IN_TOML = {tuple[float, float]: Pair}

if TYPE_CHECKING:
    _Declared = Table
else:  # a key that is left out is None, and has the value of the preset
    _Declared = create_model(
        "_Declared",
        __base__=Table,
        **{key: (_IN_TOML.get(kind, kind) | None, None) for key, kind in (_RECIPE | _CONFIG | _ADAM).items()},
    )


class OptimizerSettings(_Declared):
    """``[optimizer]``: a preset and the settings that differ from it.

    Its keys are those of `Recipe` and `EKFConfig`, for ``preset = "adam"`` those of `AdamSettings`, and these.

    Parameters
    ----------
    preset : str
        Name of a filter, see `ekfcore.presets.preset`, or "adam".
    group_size : int or "all"
        Atoms in a group; "all" shares all atoms of a frame out among the groups.
    memory, memory_rate, memory_counts : float, float, {"measurements", "updates"}
        `initial`, `rate` and `counts` of `MemoryFactor`.
    noise : float, "adaptive" or "blocks"
        As in `EKFConfig`.
    noise_factor, noise_window, noise_power : float
        `factor`, `window` and `power` of `AdaptiveNoise`, for an adaptive noise.
    process_noise : float
        As in `EKFConfig`.
    """

    preset: str = "recommended"
    group_size: int | Literal["all"] | None = None
    memory: Annotated[float | None, Field(gt=0, le=1)] = None
    memory_rate: Annotated[float | None, Field(ge=0, le=1)] = None
    memory_counts: Literal["measurements", "updates"] | None = None
    noise: Positive | Literal["adaptive", "blocks"] | None = None
    noise_factor: Positive | None = None
    noise_window: Annotated[float | None, Field(ge=1)] = None
    noise_power: Annotated[float | None, Field(ge=2)] = None
    process_noise: float | None = None

    @field_validator("preset")
    @classmethod
    def _is_a_preset(cls, name: str) -> str:
        if name not in (*PRESETS, "adam"):
            raise InputError(f"be one of {', '.join(PRESETS)}, adam")
        return name

    @model_validator(mode="after")
    def _fits_the_preset(self) -> Self:
        for name in self.given:
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

    @property
    def given(self) -> dict[str, Any]:
        """Keys that differ from the preset."""
        return self.model_dump(exclude={"preset"}, exclude_none=True)

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
        base, given = preset(self.preset, measurements_per_epoch=measurements_per_epoch), self.given
        memory, adaptive = _taken(given, _MEMORY), _taken(given, _NOISE)
        config = {name: given.pop(name) for name in _CONFIG.keys() & given.keys()}
        if config.get("noise") == "adaptive" and base.config.adaptive is not None:
            del config["noise"]  # with the preset's own factor
        if given.get("group_size") == "all":
            given["group_size"] = None
        changed = replace(base.config, memory=replace(base.config.memory, **memory), **config)
        if adaptive:
            if changed.adaptive is None:
                key = next(key for key in _NOISE if _NOISE[key] in adaptive)
                raise InputError(f'`{key}` needs optimizer.noise = "adaptive", got {changed.noise}; remove one of them')
            changed = replace(changed, noise=replace(changed.adaptive, **adaptive))
        return replace(base, config=changed, **given)

    def adam(self) -> AdamSettings:
        """Return the settings of Adam: its defaults with the keys that were set."""
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in self.given.items()}
        return AdamSettings(**given)


def _taken(given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Take the keys with these names out, and return them by what they are called in their own class."""
    return {field: given.pop(key) for key, field in names.items() if key in given}
