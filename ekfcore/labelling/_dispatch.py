"""Many calls on one executor; some may crash their worker, or the whole executor."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ekfcore.errors import EKFError, InputError, one_line

from .executors import ExecutorSettings, open_executor

__all__ = ["Dispatch", "Lost"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

_POLL = 0.2  # [s] between two calls of `should_stop`
_ANSWER = 60.0  # [s] for an idle executor to answer a trivial call
_BREAKDOWNS = 3  # of the executor in a row, without an outcome between them
_PAUSE = 120.0  # [s] after a breakdown of a batch system, whose daemons may be starting anew


@dataclass(frozen=True, slots=True)
class Lost:
    """A call whose worker was lost while no other call could be the cause."""

    reason: str


class Dispatch(Generic[_Task, _Result]):
    """Run each task until its outcome is final.

    This class handles the loss of workers. Tasks whose workers were lost run again: one at a time if they share
    workers, so that a task is blamed only if it loses its worker while it runs alone. An executor that does not answer
    is opened anew.

    Parameters
    ----------
    tasks : mapping
        Tasks by key.
    settings : ExecutorSettings
        Where they run.
    folder : Path
        Folder for the files of jobs, see `open_executor`.
    submit : callable
        Takes the executor and a task, and submits it. It must be harmless to run a task twice.
    record : callable
        Takes a task and its result or `Lost`, and returns whether to try again.
    should_stop : callable
        Called several times a second; once it returns True, no outcome is recorded any more.
    """

    def __init__(
        self,
        tasks: Mapping[str, _Task],
        settings: ExecutorSettings,
        folder: Path,
        *,
        submit: Callable[[Executor, _Task], Future[_Result]],
        record: Callable[[_Task, _Result | Lost], bool],
        should_stop: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._folder = folder
        self._submit = submit
        self._record = record
        self._should_stop = should_stop
        self._left = list(tasks)
        self._opened = self._stopped = False
        self._n_recorded = 0
        self._last_error = ""

    def run(self) -> None:
        """Return when all outcomes are final, or when `should_stop` returns True.

        Raises
        ------
        InputError
            If the executor cannot be opened at first, or a task raises one.
        EKFError
            If the executor breaks down three times in a row.
        """
        breakdowns = 0
        while self._left and not self._stop():
            before = self._n_recorded
            try:
                self._attempt()
            except BrokenExecutor as error:
                self._last_error = str(error)
            if self._left and not self._stop():
                breakdowns = breakdowns + 1 if self._n_recorded == before else 1
                if breakdowns == _BREAKDOWNS:
                    raise EKFError(
                        f"executor {self._settings.kind}: lost its workers {breakdowns} times in a row "
                        f"({self._last_error}); what is finished is kept: mend it and run again"
                    )
                self._pause()

    def _attempt(self) -> None:
        """Return when all outcomes are final, or when the executor no longer answers."""
        at_once = True  # until tasks that share workers have lost one
        while self._left and not self._stop():
            # Each time a new executor: in an old one, a lost worker that went unnoticed could swallow the next task.
            with self._open() as executor:
                lost = self._run(executor, self._left if at_once else self._left[:1])
                if lost and (self._stop() or not self._answers(executor)):
                    return
            if self._settings.isolates or not at_once:
                for key, reason in lost.items():
                    self._finish(key, Lost(reason))
            at_once = self._settings.isolates

    @contextmanager
    def _open(self) -> Iterator[Executor]:
        """Open the executor; one that could be opened before is broken if it cannot be opened now."""
        with ExitStack() as stack:
            try:
                executor = stack.enter_context(open_executor(self._settings, self._folder))
            except InputError as error:
                if self._opened:
                    raise BrokenExecutor(error) from None
                raise
            self._opened = True
            yield executor

    def _run(self, executor: Executor, keys: list[str]) -> dict[str, str]:
        """Run tasks, with their retries, and return those whose worker was lost, with the reasons."""
        waiting = keys[::-1]
        running: dict[Future[_Result], str] = {}
        lost = {}
        while (waiting or running) and not self._stop():
            while waiting and len(running) < self._settings.in_flight:
                key = waiting.pop()
                try:
                    running[self._submit(executor, self._tasks[key])] = key
                except Exception as error:  # a broken executor accepts no task
                    lost[key] = self._note(error)
            for key, result in self._arrived(running):
                if isinstance(result, Lost):
                    lost[key] = result.reason
                elif self._finish(key, result):
                    waiting.append(key)
        return lost

    def _arrived(self, running: dict[Future[_Result], str]) -> list[tuple[str, _Result | Lost]]:
        """Remove and return what has finished; Dask repeats the task of a future that is kept if its worker is lost."""
        done = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done
        return [(running.pop(future), self._result(future)) for future in done]

    def _finish(self, key: str, result: _Result | Lost) -> bool:
        """Record a result; return whether to try again."""
        self._n_recorded += 1
        again = self._record(self._tasks[key], result)
        if not again:
            self._left.remove(key)
        return again

    def _result(self, future: Future[_Result]) -> _Result | Lost:
        try:
            return future.result()
        except InputError:  # the user must correct something
            raise
        except (Exception, CancelledError) as error:
            return Lost(self._note(error))

    def _answers(self, executor: Executor) -> bool:
        """Return whether the executor can still compute anything; a batch queue may take any time to answer."""
        limit = math.inf if self._settings.queues else _ANSWER
        start, number = time.monotonic(), random.random()
        try:
            future = executor.submit(abs, -number)
            while not future.done() and time.monotonic() - start < limit and not self._stop():
                wait([future], timeout=_POLL)
            return future.done() and future.result() == number
        except (Exception, CancelledError) as error:
            self._note(error)
            return False

    def _note(self, error: BaseException) -> str:
        self._last_error = f"its worker was lost: {one_line(error, 177)}"
        return self._last_error

    def _pause(self) -> None:
        """Wait before the next try, if it is a batch system that does not answer."""
        end = time.monotonic() + (_PAUSE if self._settings.queues else 0.0)
        while time.monotonic() < end and not self._stop():
            time.sleep(_POLL)

    def _stop(self) -> bool:
        self._stopped = self._stopped or self._should_stop()
        return self._stopped
