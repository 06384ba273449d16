"""Settings of molecular dynamics."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ekfcore.errors import InputError
from ekfcore.settings.fields import Count, Positive
from ekfcore.settings.table import Table

__all__ = ["ExploreSettings"]


class ExploreSettings(Table):
    """``[explore]``: the molecular dynamics, and the limits at which a run stops.

    Parameters
    ----------
    ensemble : {"nve", "nvt", "npt"}
        Ensemble. In "npt", the cell changes its volume but not its shape.
    thermostat : {"langevin", "nose-hoover"}
        Thermostat for "nvt"; "npt" always uses Nose-Hoover chains.
    pressure : float
        Pressure for "npt" [GPa].
    damping : float
        Time constant of the thermostat; that of the barostat is ten times as long [fs].
    time_step : float
        Time step [fs].
    steps : int
        Steps of each run.
    every : int
        Interval of the frames that are kept [steps].
    max_temperature_factor : float
        A run stops when its instantaneous temperature exceeds this factor times the set temperature.
    min_distance : float
        A run stops when two atoms come closer than this [Å].
    max_force : float
        A run stops when the force on an atom exceeds this [eV/Å].
    max_uncertainty : float, optional
        A run stops when the error bar of the force on an atom, the square root of its KPU, exceeds this [eV/Å], and
        keeps this frame. It is computed for the frames that are kept, from the covariance of the filter.
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
    max_uncertainty: Positive | None = None

    @model_validator(mode="after")
    def _check_interval(self) -> Self:
        if self.every > self.steps:
            raise InputError(f"`every` must be at most steps, got {self.every} of {self.steps}; no frame would be kept")
        return self

    @model_validator(mode="after")
    def _check_ensemble(self) -> Self:
        for name, owner in (("thermostat", "nvt"), ("pressure", "npt")):
            if name in self.model_fields_set and self.ensemble != owner:
                raise InputError(
                    f'`{name}` belongs to ensemble = "{owner}", got {getattr(self, name)!r} beside ensemble = '
                    f'"{self.ensemble}"; remove one of them'
                )
        return self
