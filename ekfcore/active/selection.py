"""Selection of the explored frames to label."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ekfcore.errors import InputError
from ekfcore.settings.fields import NotNegative, Positive
from ekfcore.settings.table import Table

__all__ = ["Outcome", "SelectSettings", "Selection", "select"]

_Share = Annotated[float, Field(ge=0, le=1)]


class Outcome(StrEnum):
    """Outcome of the selection for an explored frame."""

    RELIABLE = "reliable"  # below the lower threshold: the model needs no label of it
    SELECTED = "selected"
    SPARED = "spared"  # between the thresholds, but other frames were selected
    DISCARDED = "discarded"  # above the upper threshold: too uncertain to be a realistic frame


class SelectSettings(Table):
    """``[select]``: the uncertainty, its thresholds, and the number of frames.

    Parameters
    ----------
    method : {"kpu", "committee", "random"}
        By the uncertainty of one model, by the largest deviation of the forces of several [eV/Å], or at random.
    covariance : {"filter", "fresh"}
        P from the filter, as in the paper, or computed afresh from the training frames at the final weights, see
        `refreshed`, which takes longer but also works for models trained with Adam.
    quantity : {"force_mean", "force_max", "element_max", "energy"}
        KPU of a frame: mean over its forces, of its most uncertain atom, of its most uncertain element relative to the
        same element in the training frames, or of its energy per atom.
    fraction : float
        Share of the atoms of a frame whose KPU is computed.
    thresholds : {"base", "quantile", "absolute"}
        Unit of `low` and `high`: multiples of the mean over training frames, quantiles of the explored frames, or the
        error bar, the square root of the KPU, in eV/Å or eV/atom.
    low, high : float
        Thresholds; by default 2 and 20 times the base, or 0.05 and 0.2 eV/Å for a committee.
    base_frames : int
        Number of training frames whose mean is the base.
    batch : {"greedy", "highest", "random"}
        Greedy: one after another, the frame with the largest KPU given the frames selected before, so that one of
        several similar frames is enough. Highest: the frames of the largest values. Random: as in the paper.
    maximum : int
        Maximum number of frames to select in a round.
    models : int
        Number of models in a committee.
    """

    method: Literal["kpu", "committee", "random"] = "kpu"
    covariance: Literal["filter", "fresh"] = "filter"
    quantity: Literal["force_mean", "force_max", "element_max", "energy"] = "force_mean"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    thresholds: Literal["base", "quantile", "absolute"] | None = None
    low: NotNegative | None = None
    high: Positive | None = None
    base_frames: Annotated[int, Field(ge=1)] = 50
    batch: Literal["greedy", "highest", "random"] | None = None
    maximum: Annotated[int, Field(ge=1)] = 50
    models: Annotated[int, Field(ge=2)] = 4

    @model_validator(mode="after")
    def _check_thresholds(self) -> Self:
        low, high = self.limits
        if low >= high:
            raise InputError(f"`low` must be below select.high, got {low:g} and {high:g}")
        if self.threshold_unit == "quantile" and high > 1:
            raise InputError(f"`high` must be at most 1, for it is a quantile, got {high:g}")
        if self.method != "kpu" and self.batch == "greedy":
            raise InputError(f'`batch` = "greedy" needs select.method = "kpu", got {self.method!r}; remove one of them')
        if self.method == "committee" and self.thresholds == "base":
            raise InputError('`thresholds` = "base" needs select.method = "kpu", got "committee"; remove one of them')
        return self

    @property
    def threshold_unit(self) -> str:
        """Unit of the thresholds: that of `thresholds`, or the default of the method."""
        return self.thresholds or {"kpu": "base", "committee": "absolute", "random": "quantile"}[self.method]

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper threshold, given or default."""
        low, high = {"base": (2.0, 20.0), "absolute": (0.05, 0.2), "quantile": (0.0, 1.0)}[self.threshold_unit]
        return low if self.low is None else self.low, high if self.high is None else self.high

    @property
    def order(self) -> str:
        """Order in which frames between the thresholds are selected."""
        return self.batch or ("greedy" if self.method == "kpu" else "random")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """Outcome for all explored frames.

    Parameters
    ----------
    values : array, shape (N,)
        Uncertainty by which the frames were selected.
    low, high : float
        Thresholds in the unit of the values.
    outcomes : list of Outcome, N of them
        Outcomes in the order of the frames.
    chosen : list of int
        Indices of the selected frames, in the order of selection.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    outcomes: list[Outcome]
    chosen: list[int]

    def count(self, outcome: Outcome) -> int:
        """Return the number of frames with this outcome."""
        return self.outcomes.count(outcome)


def select(
    values: NDArray[np.float64],
    settings: SelectSettings,
    *,
    base: float,
    maximum: int,
    rng: np.random.Generator,
    greedy: Callable[[Sequence[int], int, float], list[int]] | None = None,
) -> Selection:
    """Select frames by their uncertainty.

    Parameters
    ----------
    values : array, shape (N,)
        Uncertainty of each frame; equal values for a random selection.
    settings : SelectSettings
        Thresholds and the order of selection.
    base : float
        Unit of thresholds that are multiples of the base.
    maximum : int
        Maximum number of frames to select.
    rng : Generator
        Generator of the random choices.
    greedy : callable, optional
        For the order "greedy": takes indices of candidates, a maximum number and the lower threshold, and returns the
        selected ones, without frames whose uncertainty has fallen below the threshold.

    Returns
    -------
    Selection
        Outcome of each frame.
    """
    low, high = _limits(values, settings, base)
    candidates = np.flatnonzero((values >= low) & (values <= high))
    if settings.order == "greedy":
        assert greedy is not None
        chosen = greedy([int(k) for k in candidates], maximum, low)
    elif settings.order == "highest":
        chosen = [int(k) for k in candidates[np.argsort(-values[candidates], kind="stable")][:maximum]]
    else:
        chosen = [int(k) for k in rng.permutation(candidates)[:maximum]]
    outcomes = [Outcome.RELIABLE if value < low else Outcome.DISCARDED for value in values]
    for k in candidates:
        outcomes[k] = Outcome.SPARED
    for pick in chosen:
        outcomes[pick] = Outcome.SELECTED
    return Selection(values=values, low=low, high=high, outcomes=outcomes, chosen=chosen)


def _limits(values: NDArray[np.float64], settings: SelectSettings, base: float) -> tuple[float, float]:
    low, high = settings.limits
    if settings.threshold_unit == "base":
        return low * base, high * base
    if settings.threshold_unit == "quantile" and len(values):
        return float(np.quantile(values, low)), float(np.quantile(values, high))
    return low, high
