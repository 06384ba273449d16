"""CONFIG of ``ekfcore learn``: what to start from, where to explore, what to select and how to label it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from ekfcore.dynamics.settings import ExploreSettings
from ekfcore.errors import InputError
from ekfcore.labelling.label import LabelSettings
from ekfcore.models.settings import PotentialSettings
from ekfcore.potentials.model_table import WithModel, default_model
from ekfcore.settings.fields import Count, NotNegative
from ekfcore.settings.table import Table, read_table
from ekfcore.training.settings import OptimizerSettings, RunSettings, TrainingSettings

from .selection import SelectSettings

__all__ = [
    "LearnSettings",
    "Stage",
    "StartSettings",
    "StopSettings",
    "UpdateSettings",
    "load_learn_settings",
]

_Share = Annotated[float, Field(ge=0, le=1)]


class StartSettings(Table):
    """``[data]``: what is known before the first round, and what the models are judged by.

    Parameters
    ----------
    structures : list of path
        Where molecular dynamics starts, with labels or without.
    train : list of path
        Labelled frames. Without them, `rattled` copies of the structures are labelled first.
    validation : mapping of str to list of path
        Labelled frames in sets with a name, as ``"1400 K" = ["md-1400.xyz"]``.
    rattled : int
        Copies of the structures, in turn.
    amplitude : float
        Standard deviation of the displacement of their atoms [Å].
    strain : float
        Standard deviation of the strain of their cells.
    """

    structures: Annotated[list[str], Field(min_length=1)]
    train: list[str] = []
    validation: dict[str, list[str]] = {}
    rattled: Count = 20
    amplitude: NotNegative = 0.05
    strain: NotNegative = 0.02

    def starting_from(self, folder: Path) -> Self:
        """Return the same files with absolute paths, where the relative ones start from `folder`."""

        def absolute(paths: list[str]) -> list[str]:
            return [str(folder / Path(path).expanduser()) for path in paths]

        return self.model_copy(
            update={
                "structures": absolute(self.structures),
                "train": absolute(self.train),
                "validation": {name: absolute(paths) for name, paths in self.validation.items()},
            }
        )


class Stage(Table):
    """``[[stages]]``: rounds at the same temperatures.

    Parameters
    ----------
    temperatures : list of float
        Each structure is run at each of them [K].
    rounds : int
        Rounds at most; see `StopSettings` for when there are fewer.
    """

    temperatures: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    rounds: Count = 1


class UpdateSettings(Table):
    """``[update]``: how a model learns from new labels.

    Parameters
    ----------
    start : {"scratch", "warm"}
        Train a new model in each round, or go on with weights and covariance of the last one; Adam goes on with the
        weights, and its learning rate begins anew.
    epochs : int, optional
        Epochs of a warm round; those of ``[training]`` if not given.
    memory : float, optional
        Memory factor that a warm round begins with: below the one that the last round reached, the filter forgets
        some of what it knows and learns faster.
    """

    start: Literal["scratch", "warm"] = "scratch"
    epochs: Count | None = None
    memory: Annotated[float | None, Field(gt=0, le=1)] = None

    @model_validator(mode="after")
    def _belongs_to_warm(self) -> Self:
        for name in ("epochs", "memory"):
            if self.start == "scratch" and getattr(self, name) is not None:
                raise InputError(
                    f'`{name}` belongs to start = "warm", got {getattr(self, name)} beside start = "scratch"; '
                    'remove it, or set start = "warm"'
                )
        return self


class StopSettings(Table):
    """``[stop]``: when there is nothing left to learn.

    Parameters
    ----------
    share : float
        A stage ends when twice in succession at most this share of the explored frames lay above the lower threshold
        and no run of molecular dynamics stopped itself.
    labels : int, optional
        Largest number of labels in all, those of the start included.
    """

    share: _Share = 0.0
    labels: Count | None = None


class LearnSettings(WithModel):
    """All of CONFIG."""

    data: StartSettings
    stages: Annotated[list[Stage], Field(min_length=1)]
    explore: ExploreSettings = ExploreSettings()
    select: SelectSettings = SelectSettings()
    label: LabelSettings
    update: UpdateSettings = UpdateSettings()
    stop: StopSettings = StopSettings()
    model: SerializeAsAny[PotentialSettings] = Field(default_factory=default_model)
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        select = self.select
        if select.method == "kpu" and select.covariance == "filter" and self.optimizer.preset == "adam":
            raise InputError(
                '`select` by the covariance of the filter needs one, got optimizer.preset = "adam"; choose a filter, '
                'select.covariance = "fresh", or select.method = "committee"'
            )
        if self.update.memory is not None and self.optimizer.preset == "adam":
            raise InputError(
                f'update.memory needs a filter, got {self.update.memory} beside optimizer.preset = "adam"; remove '
                "one of them"
            )
        if select.method == "committee" and self.update.start == "warm":
            raise InputError(
                '`select` by method "committee" trains its models anew, got update.start = "warm"; set it to "scratch"'
            )
        return self


def load_learn_settings(path: Path, overrides: list[str]) -> LearnSettings:
    """Read CONFIG; relative paths in its ``[data]`` start from its folder.

    Raises
    ------
    InputError
        One line that names the file, the key, its rule and the value.
    """
    settings = read_table(LearnSettings, path, overrides)
    return settings.model_copy(update={"data": settings.data.starting_from(path.parent.resolve())})
