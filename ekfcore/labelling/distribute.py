"""A function of many arguments, computed on the executor of the labels."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TypeVar

from ekfcore.errors import EKFError

from ._dispatch import Dispatch, Lost
from ._worker import Worker
from .executors import ExecutorSettings, ProcessExecutor

__all__ = ["distribute"]

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

_ATTEMPTS = 3  # of a call that loses its worker


def distribute(
    function: Callable[[_Argument], _Result],
    arguments: Sequence[_Argument],
    settings: ExecutorSettings,
    folder: Path,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[_Result] | None:
    """Return what a function gives for each argument; calls whose workers are lost are repeated.

    Parameters
    ----------
    function : callable
        Function of an importable module; a call that is repeated must do no harm.
    arguments : sequence
        Its arguments, which can be pickled.
    settings : ExecutorSettings
        Where it is computed.
    folder : Path
        Folder for the files of jobs, see `open_executor`.
    should_stop : callable
        Called several times a second; once it returns True, running calls are stopped.

    Returns
    -------
    list or None
        Results in the order of the arguments; None if `should_stop` returned True.

    Raises
    ------
    InputError
        If the executor cannot be used, or a call raises one.
    EKFError
        If the executor breaks down, or a call loses its worker three times.
    """
    found: dict[int, _Result] = {}
    losses = [0] * len(arguments)

    def submit(executor: Executor, index: int) -> Future[_Result]:
        if isinstance(executor, ProcessExecutor):  # its processes have their number of threads already
            return executor.submit(function, arguments[index])
        return executor.submit(_call, function, arguments[index], settings.threads)

    def record(index: int, result: _Result | Lost) -> bool:
        if not isinstance(result, Lost):
            found[index] = result
            return False
        losses[index] += 1
        if losses[index] == _ATTEMPTS:
            raise EKFError(
                f"executor {settings.kind}: call {index + 1} of {len(arguments)} failed {_ATTEMPTS} times "
                f"({result.reason}); what is finished is kept: mend it and run again"
            )
        return True

    tasks = {str(index): index for index in range(len(arguments))}
    Dispatch(tasks, settings, folder, submit=submit, record=record, should_stop=should_stop).run()
    return [found[index] for index in tasks.values()] if len(found) == len(arguments) else None


def _call(function: Callable[[_Argument], _Result], argument: _Argument, threads: int) -> _Result:
    """Compute in a process that has a number of threads, like a label."""
    with Worker(threads) as worker:
        result: _Result = worker.call(function, argument)
    return result
