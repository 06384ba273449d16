"""CONFIG of ``ekfcore learn``: start data, exploration, selection and labelling."""

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
from ekfcore.training.optimizer_settings import OptimizerSettings
from ekfcore.training.settings import RunSettings, TrainingSettings

from .selection import SelectSettings

__all__ = [
    "LearnSettings",
    "OffloadSettings",
    "Stage",
    "StartSettings",
    "StopSettings",
    "UpdateSettings",
    "load_learn_settings",
]

_Share = Annotated[float, Field(ge=0, le=1)]


class StartSettings(Table):
    """``[data]``: data of the first round, and validation sets.

    Parameters
    ----------
    structures : list of path
        Start structures of molecular dynamics, with or without labels.
    train : list of path
        Labelled frames. Without them, `rattled` copies of the structures are labelled first.
    validation : mapping of str to list of path
        Labelled frames in named sets, as ``"1400 K" = ["md-1400.xyz"]``.
    rattled : int
        Number of rattled copies, made of the structures in turn.
    amplitude : float
        Standard deviation of their atomic displacements [Å].
    strain : float
        Standard deviation of the strain of their cells [1].
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
        Temperatures at which each structure is run [K].
    rounds : int
        Maximum number of rounds; `StopSettings` may end a stage earlier.
    """

    temperatures: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)]
    rounds: Count = 1


class UpdateSettings(Table):
    """``[update]``: how a model learns from new labels.

    Parameters
    ----------
    start : {"scratch", "warm"}
        Train a new model in each round, or continue from weights and covariance of the last one; Adam continues from
        the weights and restarts its learning rate.
    epochs : int, optional
        Epochs of a warm round; those of ``[training]`` if not given.
    memory : float, optional
        Initial memory factor of a warm round: below the final one of the last round, the filter forgets part of the
        earlier data and learns faster.
    """

    start: Literal["scratch", "warm"] = "scratch"
    epochs: Count | None = None
    memory: Annotated[float | None, Field(gt=0, le=1)] = None

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        for name in ("epochs", "memory"):
            if self.start == "scratch" and getattr(self, name) is not None:
                raise InputError(
                    f'`{name}` belongs to start = "warm", got {getattr(self, name)} beside start = "scratch"; '
                    'remove it, or set start = "warm"'
                )
        return self


class StopSettings(Table):
    """``[stop]``: when to end a stage or the run.

    Parameters
    ----------
    share : float
        A stage ends when in two successive rounds at most this share of the explored frames was above the lower
        threshold and no run of molecular dynamics stopped early.
    labels : int, optional
        Maximum number of labels, including those at the start.
    """

    share: _Share = 0.0
    labels: Count | None = None


class OffloadSettings(Table):
    """``[offload]``: steps of a round that run on the executor of the labels, not where the run was started.

    Parameters
    ----------
    explore : bool
        Molecular dynamics, one call for each run.
    judge : bool
        Uncertainty of the explored frames, one call for each of the executor's `workers`.
    """

    explore: bool = False
    judge: bool = False


class LearnSettings(WithModel):
    """All of CONFIG."""

    data: StartSettings
    stages: Annotated[list[Stage], Field(min_length=1)]
    explore: ExploreSettings = ExploreSettings()
    select: SelectSettings = SelectSettings()
    label: LabelSettings
    offload: OffloadSettings = OffloadSettings()
    update: UpdateSettings = UpdateSettings()
    stop: StopSettings = StopSettings()
    model: SerializeAsAny[PotentialSettings] = Field(default_factory=default_model)
    optimizer: OptimizerSettings = OptimizerSettings()
    training: TrainingSettings = TrainingSettings()
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _check_optimizer(self) -> Self:
        select = self.select
        if select.method == "kpu" and select.covariance == "filter" and self.optimizer.preset == "adam":
            raise InputError(
                '`select` by the covariance of the filter needs one, got optimizer.preset = "adam"; choose a filter, '
                'select.covariance = "fresh", or select.method = "committee"'
            )
        if self.explore.max_uncertainty is not None and self.optimizer.preset == "adam":
            raise InputError(
                "explore.max_uncertainty needs the covariance of a filter, got "
                f'{self.explore.max_uncertainty:g} beside optimizer.preset = "adam"; remove one of them'
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
