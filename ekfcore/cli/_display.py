"""Progress of a training: a line for each epoch and, on a terminal, a bar."""

from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ekfcore.training import EpochRecord, Progress

__all__ = ["Display"]

_HEADER = """\
                      energy RMSE [meV/atom]    force RMSE [meV/Å]
epoch   time [s]          train       test       train       test"""


class Display:
    """Prints the progress of a training, with which it is called.

    Parameters
    ----------
    known : int
        Number of epochs done before, which are not printed again.
    """

    def __init__(self, *, known: int = 0) -> None:
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self._n_printed = known
        self._bar = Bar(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[errors]}"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._console.print(_HEADER)
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, progress: Progress) -> None:
        """Print the new epochs and update the bar."""
        for record in progress.records[self._n_printed :]:
            self._console.print(_line(record))
        self._n_printed = max(self._n_printed, len(progress.records))
        shown: dict[str, Any] = {
            "epoch": f"{min(progress.epoch + 1, progress.epochs)}/{progress.epochs}",
            "errors": _errors(progress),
        }
        if self._task is None:  # with the earlier steps, so that the remaining time is right
            self._task = self._bar.add_task("", total=progress.steps, completed=progress.step - 1, **shown)
        self._bar.update(self._task, completed=progress.step, **shown)


def _line(record: EpochRecord) -> str:
    energy = f"{_number(record.energy_rmse_train):>11}{_number(record.energy_rmse_test):>11}"
    force = f"{_number(record.force_rmse_train):>12}{_number(record.force_rmse_test):>11}"
    return f"{record.epoch:>5}{record.wall_s:>11.1f}    {energy}{force}"


def _errors(progress: Progress) -> str:
    if not progress.records:
        return ""
    last = progress.records[-1]
    return f"test {_number(last.energy_rmse_test)} meV/atom, {_number(last.force_rmse_test)} meV/Å"


def _number(value: float) -> str:
    """Return the number with three digits, or all digits before the decimal point."""
    return f"{value:#.3g}" if abs(value) < 100 else f"{value:.0f}"
