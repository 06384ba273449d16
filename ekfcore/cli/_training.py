"""Functions shared by the commands that train."""

import sys
from pathlib import Path

from ekfcore.atoms.checks import find_faults
from ekfcore.atoms.inspection import inspect_frames
from ekfcore.plots.training import plot_learning_curve, plot_parity
from ekfcore.training import Trainer, evaluate

from ._display import Display
from ._interrupt import stop_on_signal

__all__ = ["PLOTS", "run_training", "warn_of_faults", "write_plots"]

PLOTS = ("learning_curve.png", "parity.png")
"""Names of the plots in the folder of a run."""


def run_training(trainer: Trainer, *, resume_with: str) -> int:
    """Train until the end or a signal; return the exit code.

    Parameters
    ----------
    trainer : Trainer
        Training to run.
    resume_with : str
        Command that resumes the training, printed after a signal.
    """
    elements = " ".join(trainer.model.elements)
    print(
        f"{len(trainer.train.frames)} frames to train on and {len(trainer.test.frames)} to test on, {elements}; "
        f"{sum(trainer.model.layer_sizes)} weights\n{trainer.model}",
        *trainer.notes,
        sep="\n",
        flush=True,
    )
    with Display(known=len(trainer.records)) as display, stop_on_signal(trainer.ranks) as stop:
        finished = trainer.run(on_step=display, should_stop=stop)
    if finished:
        return 0
    print(f"Stopped; nothing is lost. Go on with: {resume_with}")
    return stop.exit_code


def warn_of_faults(trainer: Trainer) -> None:
    """Print a warning line for each fault of the frames; the training goes on."""
    for finding in find_faults(inspect_frames(trainer.train.frames, trainer.test.frames)):
        print(f"warning: {finding}", file=sys.stderr, flush=True)


def write_plots(trainer: Trainer, folder: Path) -> None:
    """Draw the learning curve, and the predictions for the test frames or, without any, the training frames."""
    plot_learning_curve(trainer.records, folder / PLOTS[0])
    frames = trainer.test.frames or trainer.train.frames
    plot_parity(frames, list(evaluate(trainer.model, trainer.weights, frames)), folder / PLOTS[1])
