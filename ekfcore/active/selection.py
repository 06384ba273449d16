"""Which of the explored frames are worth a label."""

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

__all__ = ["Fate", "SelectSettings", "Selection", "select"]

_Share = Annotated[float, Field(ge=0, le=1)]


class Fate(StrEnum):
    """What becomes of an explored frame."""

    RELIABLE = "reliable"  # below the lower threshold: nothing to learn from it
    SELECTED = "selected"
    SPARED = "spared"  # between the thresholds, yet others were taken
    DISCARDED = "discarded"  # above the upper threshold: too far from what the model knows to be a likely frame


class SelectSettings(Table):
    """``[select]``: by what, between which thresholds, and how many.

    Parameters
    ----------
    method : {"kpu", "committee", "random"}
        By the uncertainty of one model; by the largest deviation of the forces of several [eV/Å]; or whatever comes.
    covariance : {"filter", "fresh"}
        P as the filter left it, as in the paper, or computed afresh from the training frames at the final weights, see
        `refreshed`, which takes longer and allows models trained with Adam.
    quantity : {"force_mean", "force_max", "element_max", "energy"}
        KPU of a frame: of its forces on average, of its most uncertain atom, of its most uncertain element, each
        element being compared with itself, or of its energy per atom.
    fraction : float
        Share of the atoms of a frame whose KPU is computed.
    thresholds : {"base", "quantile", "absolute"}
        What `low` and `high` count: multiples of the mean over training frames; quantiles of the explored frames; or
        the error bar itself, the root of the KPU, in eV/Å or eV/atom, which the committee's always do.
    low, high : float
        Thresholds; twice and twenty times the base, or 0.05 and 0.2 eV/Å for the committee, if not given.
    base_frames : int
        Training frames whose mean is the base.
    batch : {"greedy", "highest", "random"}
        Greedy: one after another the frame with the largest KPU given those that were taken before, so that of frames
        that resemble each other one is enough. Highest: those of the largest value. Random: as in the paper.
    maximum : int
        Frames selected in a round at most.
    models : int
        Models of a committee.
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
    def _fits_together(self) -> Self:
        low, high = self.limits
        if low >= high:
            raise InputError(f"`low` must be below select.high, got {low:g} and {high:g}")
        if self.kind == "quantile" and high > 1:
            raise InputError(f"`high` must be at most 1, for it is a quantile, got {high:g}")
        if self.method != "kpu" and self.batch == "greedy":
            raise InputError(f'`batch` = "greedy" needs select.method = "kpu", got {self.method!r}; remove one of them')
        if self.method == "committee" and self.thresholds == "base":
            raise InputError('`thresholds` = "base" needs select.method = "kpu", got "committee"; remove one of them')
        return self

    @property
    def kind(self) -> str:
        """What the thresholds count."""
        return self.thresholds or {"kpu": "base", "committee": "absolute", "random": "quantile"}[self.method]

    @property
    def limits(self) -> tuple[float, float]:
        """Lower and upper threshold as they were set."""
        low, high = {"base": (2.0, 20.0), "absolute": (0.05, 0.2), "quantile": (0.0, 1.0)}[self.kind]
        return low if self.low is None else self.low, high if self.high is None else self.high

    @property
    def order(self) -> str:
        """How frames between the thresholds are taken."""
        return self.batch or ("greedy" if self.method == "kpu" else "random")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Selection:
    """What becomes of each explored frame.

    Parameters
    ----------
    values : array, shape (N,)
        What the frames were judged by.
    low, high : float
        Thresholds in the unit of the values.
    fates : list of Fate, N of them
        In the order of the frames.
    chosen : list of int
        Indices of the selected frames, in the order in which they were taken.
    """

    values: NDArray[np.float64]
    low: float
    high: float
    fates: list[Fate]
    chosen: list[int]

    def count(self, fate: Fate) -> int:
        """Return how many frames have this fate."""
        return self.fates.count(fate)


def select(
    values: NDArray[np.float64],
    settings: SelectSettings,
    *,
    base: float,
    maximum: int,
    rng: np.random.Generator,
    greedy: Callable[[Sequence[int], int, float], list[int]] | None = None,
) -> Selection:
    """Choose frames.

    Parameters
    ----------
    values : array, shape (N,)
        Uncertainty of each frame; all the same, say, if there is none.
    settings : SelectSettings
        Thresholds and the order of choice.
    base : float
        What thresholds of the kind "base" are multiples of.
    maximum : int
        Frames to choose at most.
    rng : Generator
        Makes the random choices.
    greedy : callable, optional
        For the order "greedy": takes indices of candidates, the number wanted and the lower threshold, and returns the
        chosen ones; those that have lost their value are left out.

    Returns
    -------
    Selection
        The fate of each frame.
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
    fates = [Fate.RELIABLE if value < low else Fate.DISCARDED for value in values]
    for k in candidates:
        fates[k] = Fate.SPARED
    for pick in chosen:
        fates[pick] = Fate.SELECTED
    return Selection(values=values, low=low, high=high, fates=fates, chosen=chosen)


def _limits(values: NDArray[np.float64], settings: SelectSettings, base: float) -> tuple[float, float]:
    low, high = settings.limits
    if settings.kind == "base":
        return low * base, high * base
    if settings.kind == "quantile" and len(values):
        return float(np.quantile(values, low)), float(np.quantile(values, high))
    return low, high
