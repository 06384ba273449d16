"""Many calculations on one executor; some may crash their worker, or the whole executor."""

import math
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from uuid import uuid4

from ekfcore.errors import EKFError, one_line

from ._calculation import Outcome, Task, run_alone, run_in
from .executors import ExecutorSettings, ProcessExecutor, open_executor

__all__ = ["Dispatch"]

_POLL = 0.2  # [s] between two calls of `should_stop`
_ANSWER = 60.0  # [s] for an idle executor to answer a trivial call
_BREAKDOWNS = 3  # of the executor in a row, without an outcome between them


class Dispatch:
    """Run each task until its outcome is final.

    Each calculation has its own process, so a crash of that process is an ordinary `Outcome`. This class handles the
    loss of the worker that supervises the process: the tasks whose workers were lost run again one at a time, so that
    a task fails only if it loses its worker while it runs alone. An executor that does not answer is opened anew.

    Parameters
    ----------
    tasks : mapping
        Tasks by key.
    settings : ExecutorSettings
        Where they run.
    record : callable
        Takes a task and its outcome, and returns whether to try again.
    should_stop : callable
        Called several times a second; once it returns True, no outcome is recorded any more.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        settings: ExecutorSettings,
        record: Callable[[Task, Outcome], bool],
        should_stop: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._record = record
        self._should_stop = should_stop
        self._stopped = False
        self._n_recorded = 0
        self._last_error = ""

    def run(self) -> None:
        """Return when all outcomes are final, or when `should_stop` returns True.

        Raises
        ------
        EKFError
            If the executor breaks down three times in a row.
        """
        left = list(self._tasks)
        breakdowns = 0
        while left and not self._stop():
            before = self._n_recorded
            with open_executor(self._settings) as executor:
                left = self._all_at_once(executor, left)
                alive = bool(left) and not self._stop() and self._answers(executor)
            while alive and left and not self._stop():
                # A new executor: in the old one, a lost worker that went unnoticed could swallow the next task.
                with open_executor(self._settings) as executor:
                    left = self._alone(executor, left[0]) + left[1:]
                    alive = self._answers(executor)
            if left and not self._stopped:
                breakdowns = breakdowns + 1 if self._n_recorded == before else 1
                if breakdowns == _BREAKDOWNS:
                    raise EKFError(
                        f"executor {self._settings.kind}: lost its workers {breakdowns} times in a row "
                        f"({self._last_error}); finished labels are kept: mend it and run again"
                    )

    def _all_at_once(self, executor: Executor, keys: list[str]) -> list[str]:
        """Run tasks, with their retries, and return those whose worker was lost."""
        waiting = keys[::-1]
        running: dict[Future[Outcome], str] = {}
        lost = []
        while (waiting or running) and not self._stop():
            while waiting and len(running) < self._settings.in_flight:
                key = waiting.pop()
                try:
                    running[self._submit(executor, key)] = key
                except Exception as error:  # a broken executor accepts no task
                    self._note_error(error)
                    lost.append(key)
            for key, outcome in self._arrived(running):
                if outcome is None:
                    lost.append(key)
                elif self._finish(key, outcome):
                    waiting.append(key)
        return lost

    def _arrived(self, running: dict[Future[Outcome], str]) -> list[tuple[str, Outcome | None]]:
        """Remove and return what has finished; Dask repeats the task of a future that is kept if its worker is lost."""
        done = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done
        return [(running.pop(future), self._outcome(future)) for future in done]

    def _alone(self, executor: Executor, key: str) -> list[str]:
        """Run one task alone; return it if its worker was lost again and it is to be tried again."""
        if not self._all_at_once(executor, [key]):
            return []
        outcome = Outcome(status="failed", reason=f"failed: {self._last_error}")
        task_failed = self._answers(executor)  # otherwise the executor failed
        return [key] if not task_failed or self._finish(key, outcome) else []

    def _finish(self, key: str, outcome: Outcome) -> bool:
        self._n_recorded += 1
        return self._record(self._tasks[key], outcome)

    def _submit(self, executor: Executor, key: str) -> Future[Outcome]:
        if isinstance(executor, ProcessExecutor):  # its workers are local processes, which it can kill
            return executor.drive(run_in, self._tasks[key])
        # Executors that cache to files return the cached result of an equal call: a unique name makes each call differ.
        return executor.submit(run_alone, self._tasks[key], uuid4().hex)

    def _outcome(self, future: Future[Outcome]) -> Outcome | None:
        """Return the outcome, or None if the worker was lost."""
        try:
            return future.result()
        except (Exception, CancelledError) as error:
            self._note_error(error)
            return None

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
            self._note_error(error)
            return False

    def _note_error(self, error: BaseException) -> None:
        self._last_error = f"its worker was lost: {one_line(error, 177)}"

    def _stop(self) -> bool:
        self._stopped = self._stopped or self._should_stop()
        return self._stopped
