"""Labels from any ASE calculator, each in a process that may fail, hang or be killed without harm to the others."""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

from pydantic import Field

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import EKFError, InputError

from ._bounds import Bounds
from ._calculation import Outcome, Task, run_alone, run_in
from ._dispatch import Dispatch, Lost
from .executors import ExecutorSettings, ProcessExecutor
from .ledger import Ledger, frame_key

__all__ = ["LabelReport", "LabelSettings", "label"]


_HOPELESS = 3  # frames that fail with all retries before any label: then the calculator is at fault, not the frames


class LabelSettings(Bounds):
    """``[label]``: what computes the labels and where, see `make_calculator` and `ExecutorSettings`.

    A calculation that fails, does not converge or takes longer than `timeout` [s] is repeated `retries` times, as is
    one whose label lies beyond `min_energy`, `max_energy` [eV/atom], `max_force` [eV/Å] or `max_stress` [GPa].
    """

    calculator: str
    parameters: dict[str, Any] = {}
    retries: Annotated[int, Field(ge=0)] = 1
    timeout: Annotated[float | None, Field(gt=0)] = None
    executor: ExecutorSettings = ExecutorSettings()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelReport:
    """Outcome of a call of `label`; each list keeps the order in which the frames were given.

    Parameters
    ----------
    labelled : list of Frame
        Frames with labels, as stored in the ledger.
    quarantined : list of (Frame, str)
        Frames that cannot be labelled, and the reasons.
    unfinished : list of Frame
        Frames that were left when `should_stop` returned True.
    reused : int
        Number of labels that were in the ledger before.
    seconds : float
        Computing time of all labels, including the reused ones [s].
    """

    labelled: list[Frame]
    quarantined: list[tuple[Frame, str]]
    unfinished: list[Frame]
    reused: int
    seconds: float


def label(
    frames: Sequence[Frame],
    settings: LabelSettings,
    ledger: Ledger,
    *,
    log_dir: Path,
    on_done: Callable[[Frame, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> LabelReport:
    """Compute the labels that the ledger does not have yet.

    However the program ends, a later call with the same frames and the same ledger computes what is missing and no
    label twice. Each label is in the ledger before `on_done` is called.

    Parameters
    ----------
    frames : sequence of Frame
        Frames to label; existing labels are ignored, and of equal frames only the first counts.
    settings : LabelSettings
        Calculator and executor.
    ledger : Ledger
        Database that keeps the labels.
    log_dir : Path
        Folder for ``KEY.log``, what the failed calculations of a frame printed.
    on_done : callable, optional
        Called with each frame and its outcome, ``"reused"``, ``"labelled"`` or ``"quarantined"``.
    should_stop : callable, optional
        Called several times a second; once it returns True, running calculations are stopped.

    Returns
    -------
    LabelReport
        Outcome of each frame.

    Raises
    ------
    InputError
        If the calculator or the executor cannot be used, or the ledger holds labels of another calculator.
    EKFError
        If the executor breaks down three times in a row, or the calculator fails as often as three frames may
        before the ledger has any label; no frame is quarantined then.
    """
    wanted: dict[str, Frame] = {}
    for frame in frames:
        validate_frame(frame, require=())
        wanted.setdefault(frame_key(frame), frame)
    notify = on_done or (lambda frame, outcome: None)
    with ledger.locked():
        ledger.claim(settings.calculator, settings.parameters)
        ledger.collect(wanted)
        reused = [key for key in wanted if key in ledger]
        for key in reused:
            notify(wanted[key], "reused")
        todo = {key: f for key, f in wanted.items() if key not in ledger and key not in ledger.quarantined}
        tasks = {key: _task(frame, settings, ledger.order(key)) for key, frame in todo.items()}
        outcomes = _Outcomes(settings.retries, ledger, Path(log_dir), notify)
        Dispatch(
            tasks,
            settings.executor,
            ledger.jobs,
            submit=_submit,
            record=outcomes.record,
            should_stop=should_stop or (lambda: False),
        ).run()
        outcomes.quarantine_failed()
        shutil.rmtree(ledger.jobs, ignore_errors=True)
    labelled = [key for key in wanted if key in ledger]
    rest = {key: frame for key, frame in wanted.items() if key not in ledger}
    return LabelReport(
        labelled=[ledger.get(key) for key in labelled],
        quarantined=[(f, ledger.quarantined[key]) for key, f in rest.items() if key in ledger.quarantined],
        unfinished=[f for key, f in rest.items() if key not in ledger.quarantined],
        reused=len(reused),
        seconds=sum(ledger.seconds[key] for key in labelled),
    )


def _task(frame: Frame, settings: LabelSettings, result_file: Path) -> Task:
    return Task(
        frame=frame,
        calculator=settings.calculator,
        parameters=settings.parameters,
        timeout=settings.timeout,
        threads=settings.executor.threads,
        result_file=result_file.absolute(),
        home=Path.cwd(),
        bounds=settings,
    )


def _submit(executor: Executor, task: Task) -> Future[Outcome]:
    if isinstance(executor, ProcessExecutor):  # its workers are local processes, which it can kill
        return executor.drive(run_in, task)
    # Executors that cache to files return the cached result of an equal call: a unique name makes each call differ.
    return executor.submit(run_alone, task, uuid4().hex)


class _Outcomes:
    """Turns each outcome into a label, another attempt, or quarantine.

    Failed frames are quarantined once the ledger has a label, or at the end: before, the settings may be at fault.
    """

    def __init__(self, retries: int, ledger: Ledger, log_dir: Path, notify: Callable[[Frame, str], None]) -> None:
        self._retries = retries
        self._ledger = ledger
        self._log_dir = log_dir
        self._notify = notify
        self._logs: dict[str, list[str]] = {}
        self._failed: list[tuple[Frame, str, str]] = []

    def record(self, task: Task, found: Outcome | Lost) -> bool:
        """Store a label or log a failure; return whether to try again."""
        outcome = Outcome(status="failed", reason=f"failed: {found.reason}") if isinstance(found, Lost) else found
        if outcome.status == "unusable":
            raise InputError(outcome.reason)
        if outcome.frame is not None:
            self._ledger.add(outcome.frame, seconds=outcome.seconds)
            self._notify(task.frame, "labelled")
            return False
        key = frame_key(task.frame)
        logs = self._logs.setdefault(key, [])
        logs.append(f"=== attempt {len(logs) + 1}, {outcome.seconds:.1f} s: {outcome.reason}\n{outcome.log}\n")
        path = self._log_dir / f"{key}.log"
        self._log_dir.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(logs), encoding="utf-8")
        failures = sum(map(len, self._logs.values()))
        if not len(self._ledger) and failures == _HOPELESS * (self._retries + 1):
            raise EKFError(
                f"label: the first {failures} calculations brought no label ({outcome.reason}); see {path}, correct "
                "the calculator, and run again"
            )
        if len(logs) <= self._retries:
            return True
        self._failed.append((task.frame, outcome.reason, "\n".join(logs)))
        if len(self._ledger):
            self.quarantine_failed()
        return False

    def quarantine_failed(self) -> None:
        """Quarantine the frames that failed."""
        for frame, reason, log in self._failed:
            self._ledger.quarantine(frame, reason, log)
            self._notify(frame, "quarantined")
        self._failed = []
