"""What a run of molecular dynamics is like."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ekfcore.errors import InputError
from ekfcore.settings.fields import Count, Positive
from ekfcore.settings.table import Table

__all__ = ["ExploreSettings"]


class ExploreSettings(Table):
    """``[explore]``: the molecular dynamics, and when a run has left what atoms do.

    Parameters
    ----------
    ensemble : {"nve", "nvt", "npt"}
        What is held. Under pressure the cell keeps its shape.
    thermostat : {"langevin", "nose-hoover"}
        For "nvt"; "npt" always has chains of Nose and Hoover.
    pressure : float
        For "npt" [GPa].
    damping : float
        Time in which the thermostat acts; that of the barostat is ten times as long [fs].
    time_step : float
        Time step [fs].
    steps : int
        Steps of each run.
    every : int
        One frame in so many steps is kept.
    max_temperature_factor : float
        A run stops when its atoms are hotter than so many times the temperature of the run.
    min_distance : float
        A run stops when two atoms come closer [Å].
    max_force : float
        A run stops when the force on an atom is larger [eV/Å].
    """

    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    thermostat: Literal["langevin", "nose-hoover"] = "langevin"
    pressure: float = 0.0
    damping: Positive = 100.0
    time_step: Positive = 1.0
    steps: Count = 1000
    every: Count = 10
    max_temperature_factor: Annotated[float, Field(gt=1)] = 5.0
    min_distance: Positive = 0.5
    max_force: Positive = 50.0

    @model_validator(mode="after")
    def _keeps_a_frame(self) -> Self:
        if self.every > self.steps:
            raise InputError(f"`every` must be at most steps, got {self.every} of {self.steps}; no frame would be kept")
        return self

    @model_validator(mode="after")
    def _belongs_to_the_ensemble(self) -> Self:
        for name, owner in (("thermostat", "nvt"), ("pressure", "npt")):
            if name in self.model_fields_set and self.ensemble != owner:
                raise InputError(
                    f'`{name}` belongs to ensemble = "{owner}", got {getattr(self, name)!r} beside ensemble = '
                    f'"{self.ensemble}"; remove one of them'
                )
        return self
