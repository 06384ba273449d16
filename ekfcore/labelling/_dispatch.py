"""Many calculations on one executor, some of which take their worker down, or the executor."""

import math
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from uuid import uuid4

from ekfcore.errors import EKFError

from ._calculation import Outcome, Task, run_alone, run_in
from .executors import ExecutorSettings, ProcessExecutor, open_executor

__all__ = ["Dispatch"]

_POLL = 0.2  # [s] between two looks at `should_stop`
_ANSWER = 60.0  # [s] for an executor that has nothing else to do
_BREAKDOWNS = 3  # in a row, without a result between them


class Dispatch:
    """Run each task until it is settled.

    A calculation has a process of its own, so what it does to that is an `Outcome` like others. What is handled here is
    the loss of the worker that looks after that process: the tasks it may concern run again one at a time, so that only
    one that loses its worker alone is blamed; and an executor that does not answer is opened anew.

    Parameters
    ----------
    tasks : mapping
        Tasks by key.
    settings : ExecutorSettings
        Where they run.
    settle : callable
        Takes a task and its outcome, and says whether to try again.
    should_stop : callable
        Asked several times a second; once it says yes, nothing is settled any more.
    """

    def __init__(
        self,
        tasks: Mapping[str, Task],
        settings: ExecutorSettings,
        settle: Callable[[Task, Outcome], bool],
        should_stop: Callable[[], bool],
    ) -> None:
        self._tasks = tasks
        self._settings = settings
        self._settle = settle
        self._should_stop = should_stop
        self._stopped = False
        self._settled = 0
        self._trouble = ""

    def run(self) -> None:
        """Return when all tasks are settled, or when it should stop.

        Raises
        ------
        EKFError
            If the executor breaks down again and again.
        """
        left = list(self._tasks)
        breakdowns = 0
        while left and not self._stop():
            before = self._settled
            with open_executor(self._settings) as executor:
                left = self._all_at_once(executor, left)
                alive = bool(left) and not self._stop() and self._answers(executor)
            while alive and left and not self._stop():
                # A fresh one: a worker that is lost, but not missed yet, may take a task along that nobody answers for.
                with open_executor(self._settings) as executor:
                    left = self._alone(executor, left[0]) + left[1:]
                    alive = self._answers(executor)
            if left and not self._stopped:
                breakdowns = breakdowns + 1 if self._settled == before else 1
                if breakdowns == _BREAKDOWNS:
                    raise EKFError(
                        f"executor {self._settings.kind}: lost its workers {breakdowns} times in a row "
                        f"({self._trouble}); finished labels are kept: mend it and run again"
                    )

    def _all_at_once(self, executor: Executor, keys: list[str]) -> list[str]:
        """Run tasks, again where they are to be tried again, and return those whose worker was lost."""
        waiting = keys[::-1]
        running: dict[Future[Outcome], str] = {}
        lost = []
        while (waiting or running) and not self._stop():
            while waiting and len(running) < self._settings.in_flight:
                key = waiting.pop()
                try:
                    running[self._submit(executor, key)] = key
                except Exception as error:  # an executor that has broken down takes nothing
                    self._note(error)
                    lost.append(key)
            for key, outcome in self._arrived(running):
                if outcome is None:
                    lost.append(key)
                elif self._finish(key, outcome):
                    waiting.append(key)
        return lost

    def _arrived(self, running: dict[Future[Outcome], str]) -> list[tuple[str, Outcome | None]]:
        """Take out what has come to an end; a future that is kept makes Dask repeat it when its worker is lost."""
        done = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED).done
        return [(running.pop(future), self._outcome(future)) for future in done]

    def _alone(self, executor: Executor, key: str) -> list[str]:
        """Run one task with nothing beside it; return it if its worker was lost again and it is to be tried again."""
        if not self._all_at_once(executor, [key]):
            return []
        outcome = Outcome(status="failed", reason=f"failed: {self._trouble}")
        guilty = self._answers(executor)  # else it is the executor that is gone
        return [key] if not guilty or self._finish(key, outcome) else []

    def _finish(self, key: str, outcome: Outcome) -> bool:
        self._settled += 1
        return self._settle(self._tasks[key], outcome)

    def _submit(self, executor: Executor, key: str) -> Future[Outcome]:
        if isinstance(executor, ProcessExecutor):  # its workers are processes that can be killed
            return executor.drive(run_in, self._tasks[key])
        # Executors that write to files hand out what they have written for the same call: a name makes it another one.
        return executor.submit(run_alone, self._tasks[key], uuid4().hex)

    def _outcome(self, future: Future[Outcome]) -> Outcome | None:
        """Return the outcome, or None if the worker was lost."""
        try:
            return future.result()
        except (Exception, CancelledError) as error:
            self._note(error)
            return None

    def _answers(self, executor: Executor) -> bool:
        """Tell whether the executor can still compute anything; a queue may take its time to say so."""
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

    def _note(self, error: BaseException) -> None:
        self._trouble = f"its worker was lost: {type(error).__name__}: {error}".splitlines()[0][:200]

    def _stop(self) -> bool:
        self._stopped = self._stopped or self._should_stop()
        return self._stopped
