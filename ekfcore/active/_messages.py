"""Messages of the active-learning loop."""

from collections.abc import Iterator, Sequence

from ekfcore.dynamics.explore import Trajectory
from ekfcore.labelling.label import LabelReport

from .selection import Outcome, Selection

__all__ = ["exploration", "failed", "finished", "validated"]


def validated(validation: dict[str, dict[str, float]]) -> str:
    """Return the errors on the validation sets, as the end of a message."""
    parts = [
        f"{name}: {found['energy_rmse']:.2f} meV/atom, {found['force_rmse']:.1f} meV/Å"
        for name, found in validation.items()
    ]
    return f"; {'; '.join(parts)}" if parts else ""


def failed(found: LabelReport) -> str:
    """Return the number of frames that could not be labelled, as the end of a message."""
    return f"; {len(found.quarantined)} could not be labelled" if found.quarantined else ""


def exploration(runs: Sequence[Trajectory], selection: Selection) -> Iterator[str]:
    """Yield messages about the stopped runs and the outcomes of the explored frames."""
    for run in runs:
        if run.outcome != "finished":
            yield f"  the run at {run.temperature:g} K stopped itself: {run.reason}"
    counts = ", ".join(f"{selection.count(outcome)} {outcome.value}" for outcome in Outcome)
    yield f"  {len(selection.outcomes)} frames explored: {counts}"
    if not selection.chosen:
        yield f"  nothing to label: no frame lies between {selection.low:.3g} and {selection.high:.3g}"


def finished(stage: int, share: float) -> str:
    """Return why a stage has ended; at most a `share` of its frames may be unreliable then."""
    frames = f"at most {100 * share:g} % of the explored frames were not reliable"
    if share == 0:
        frames = "all explored frames were reliable"
    return f"Stage {stage} is done: in two rounds running, {frames}."
