"""Labels from any ASE calculator, each in a process that may fail, hang or be killed without harm to the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import EKFError, InputError

from ._bounds import Bounds
from ._calculation import Outcome, Task
from ._dispatch import Dispatch
from .executors import ExecutorSettings
from .ledger import Ledger, frame_key

__all__ = ["LabelReport", "LabelSettings", "label"]


_HOPELESS = 3  # as many frames, with their retries, fail before anything is labelled: it is not the frames


class LabelSettings(Bounds):
    """``[label]``: what computes the labels and where, see `make_calculator` and `ExecutorSettings`.

    A calculation that fails, does not converge or takes longer than `timeout` [s] is repeated `retries` times; so is
    one whose label lies beyond `min_energy`, `max_energy` [eV/atom], `max_force` [eV/Å] or `max_stress` [GPa].
    """

    calculator: str
    parameters: dict[str, Any] = {}
    retries: Annotated[int, Field(ge=0)] = 1
    timeout: Annotated[float | None, Field(gt=0)] = None
    executor: ExecutorSettings = ExecutorSettings()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LabelReport:
    """What came of the frames, each in the order in which they were given.

    Parameters
    ----------
    labelled : list of Frame
        Those with labels, as they stand in the ledger.
    quarantined : list of (Frame, str)
        Those that cannot be labelled, and why.
    unfinished : list of Frame
        Those that were left when `should_stop` said so.
    reused : int
        How many of the labels were there before.
    seconds : float
        What all labels took to compute, those that were there before included [s].
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

    Whatever ends the program, a later call with the same frames and the same ledger computes what is missing and no
    label twice. Each is in the ledger before `on_done` hears of it.

    Parameters
    ----------
    frames : sequence of Frame
        What to label; labels that they have do not count, and of equal frames only the first does.
    settings : LabelSettings
        What computes, and where.
    ledger : Ledger
        Where the labels are kept.
    log_dir : Path
        Folder for ``KEY.log``, what the failed calculations of a frame printed.
    on_done : callable, optional
        Called with each frame and ``"reused"``, ``"labelled"`` or ``"quarantined"`` as soon as it is so.
    should_stop : callable, optional
        Asked several times a second; when it says yes, what runs is stopped.

    Returns
    -------
    LabelReport
        What came of each frame.

    Raises
    ------
    InputError
        If the calculator or the executor cannot be used, or the ledger holds labels of another calculator.
    EKFError
        If the executor breaks down again and again, or the calculator has never labelled anything and fails as
        often as three frames may; no frame is quarantined then.
    """
    wanted: dict[str, Frame] = {}
    for frame in frames:
        validate_frame(frame, require=())
        wanted.setdefault(frame_key(frame), frame)
    notify = on_done or (lambda frame, outcome: None)
    with ledger.locked():
        ledger.claim(settings.calculator, settings.parameters)
        ledger.collect(wanted)
        there = [key for key in wanted if key in ledger]
        for key in there:
            notify(wanted[key], "reused")
        todo = {key: f for key, f in wanted.items() if key not in ledger and key not in ledger.quarantined}
        tasks = {key: _task(frame, settings, ledger.receipt(key)) for key, frame in todo.items()}
        judge = _Judge(settings.retries, ledger, Path(log_dir), notify)
        Dispatch(tasks, settings.executor, judge.settle, should_stop or (lambda: False)).run()
        judge.sentence()
    labelled = [key for key in wanted if key in ledger]
    rest = {key: frame for key, frame in wanted.items() if key not in ledger}
    return LabelReport(
        labelled=[ledger.get(key) for key in labelled],
        quarantined=[(f, ledger.quarantined[key]) for key, f in rest.items() if key in ledger.quarantined],
        unfinished=[f for key, f in rest.items() if key not in ledger.quarantined],
        reused=len(there),
        seconds=sum(ledger.seconds[key] for key in labelled),
    )


def _task(frame: Frame, settings: LabelSettings, receipt: Path) -> Task:
    return Task(
        frame=frame,
        calculator=settings.calculator,
        parameters=settings.parameters,
        timeout=settings.timeout,
        threads=settings.executor.threads,
        receipt=receipt.absolute(),
        bounds=settings,
    )


class _Judge:
    """Decides what an outcome means: a label, another attempt, or quarantine.

    As long as the calculator has not labelled anything, what fails may be its settings: frames wait for the verdict.
    """

    def __init__(self, retries: int, ledger: Ledger, log_dir: Path, notify: Callable[[Frame, str], None]) -> None:
        self._retries = retries
        self._ledger = ledger
        self._log_dir = log_dir
        self._notify = notify
        self._logs: dict[str, list[str]] = {}
        self._accused: list[tuple[Frame, str, str]] = []

    def settle(self, task: Task, outcome: Outcome) -> bool:
        """Keep a label or a failure, and say whether to try again."""
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
        self._accused.append((task.frame, outcome.reason, "\n".join(logs)))
        if len(self._ledger):
            self.sentence()
        return False

    def sentence(self) -> None:
        """Put into quarantine the frames that failed."""
        for frame, reason, log in self._accused:
            self._ledger.quarantine(frame, reason, log)
            self._notify(frame, "quarantined")
        self._accused = []
