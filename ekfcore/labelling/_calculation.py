"""One label: a calculation that may fail, hang or crash, and its outcome."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import re
import shutil
import subprocess
import tempfile
import time
import traceback
from collections.abc import Mapping
from contextlib import chdir, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from ase.calculators.calculator import SCFError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import EKFError, InputError, one_line

from ._bounds import Bounds, check_atoms
from ._order import order_of, taken
from ._result_file import read_result, write_result
from ._worker import Worker, WorkerError, finishing, scratch
from .calculators import make_calculator

__all__ = ["Outcome", "Task", "run_alone", "run_in"]

_TAIL = 20_000  # [bytes] kept from the end of each file of a failed calculation
_COMPLAINT = re.compile(r"\berror\b|convergence not|not converge", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Task:
    """One calculation, with its time limit `timeout` [s] and the `result_file` that gets a copy of the result.

    The calculator is made in the folder `home` if that is there.
    """

    frame: Frame
    calculator: str
    parameters: Mapping[str, Any]
    timeout: float | None
    threads: int
    result_file: Path
    home: Path
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcome:
    """Result of a task: the labelled frame, or in one line the reason why there is none; `seconds` it took [s]."""

    status: Literal["done", "failed", "not converged", "timed out", "unusable"]
    frame: Frame | None = None
    reason: str = ""
    log: str = field(default="", repr=False)
    seconds: float = 0.0


def run_alone(task: Task, attempt: str) -> Outcome:
    """Compute in a new process on the machine where this runs; each `attempt` has a name of its own."""
    with Worker(task.threads) as worker:
        return run_in(worker, task)


def run_in(worker: Worker, task: Task) -> Outcome:
    """Compute in the process of a worker, which is killed when the time is up."""
    with taken(order_of(task.result_file), lambda: worker.alive) as wanted:
        if task.result_file.exists():  # computed by a worker that was lost before it answered
            try:
                frame, seconds = read_result(task.result_file, task.frame)
            except InputError as error:
                return Outcome(status="unusable", reason=str(error))
            return Outcome(status="done", frame=frame, seconds=seconds)
        if not wanted:  # of a run that has ended: nobody waits for the answer
            raise WorkerError("the label is no longer wanted")
        return _compute(worker, task)


def _compute(worker: Worker, task: Task) -> Outcome:
    start = time.monotonic()
    folder = Path(tempfile.gettempdir(), f"ekfcore-label-{uuid4().hex}")  # the worker removes it if orphaned
    try:
        outcome = _outcome(worker, task, folder)
        log = worker.output()
        if outcome.status != "done":
            log += _tails(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # Time only the calculation if it ended: the cost of a label must not depend on how its process was started.
    return replace(outcome, log=log, seconds=outcome.seconds or time.monotonic() - start)


def _outcome(worker: Worker, task: Task, folder: Path) -> Outcome:
    try:
        outcome: Outcome = worker.call(_calculate, task, folder, timeout=task.timeout)
    except TimeoutError:
        return Outcome(status="timed out", reason=f"timed out after {task.timeout:g} s")
    except WorkerError as error:
        return Outcome(status="failed", reason=f"failed: {error}")
    return outcome


def _calculate(task: Task, folder: Path) -> Outcome:
    """Compute in this process; a new `folder` is the working directory of the calculator."""
    with finishing:
        scratch[:] = [folder]
        folder.mkdir(mode=0o700)
    try:
        with chdir(task.home) if task.home.is_dir() else nullcontext():
            calculator = make_calculator(task.calculator, task.parameters)
    except InputError as error:
        return Outcome(status="unusable", reason=str(error))
    atoms = replace(task.frame, energy=None, forces=None, virial=None).to_ase()
    atoms.calc = None
    properties = ["energy", "forces"]
    if atoms.cell.rank == 3 and "stress" in calculator.implemented_properties:
        properties.append("stress")
    start = time.monotonic()
    try:
        with chdir(folder):
            # All properties at once: one after the other, some programs would run several times.
            calculator.calculate(atoms, properties, list(all_changes))
            with finishing:
                for computed in (atoms, getattr(calculator, "atoms", None)):
                    check_atoms(task.frame, computed)
                return _finish(task, calculator, time.monotonic() - start)
    except Exception as error:  # a calculator may raise anything
        traceback.print_exc()
        text = one_line(error, 200)
        if isinstance(error, subprocess.CalledProcessError):  # it tells the exit code and not the reason
            text += _complaint(folder)
        if isinstance(error, SCFError) or "converge" in f"{error} {text}".lower():
            return Outcome(status="not converged", reason=f"did not converge: {text}")
        return Outcome(status="failed", reason=f"failed: {text}")


def _finish(task: Task, calculator: Any, seconds: float) -> Outcome:
    """Check the results and write them to the result file."""
    results = calculator.results
    for flag in (results.get("converged"), getattr(calculator, "converged", None)):
        converged = flag() if callable(flag) else flag
        if converged is not None and not converged:
            return Outcome(status="not converged", reason="did not converge: the calculator says so")
    frame = _labelled(task.frame, results)
    task.bounds.check(frame)
    # The folder is missing on a machine without a shared file system; the result then returns only as the answer.
    if task.result_file.parent.is_dir():
        with suppress(InputError):
            write_result(task.result_file, frame, seconds)
    return Outcome(status="done", frame=frame, seconds=seconds)


def _labelled(frame: Frame, results: Mapping[str, Any]) -> Frame:
    """Return the frame with the results as its labels; raise an error if they are missing or not finite."""
    atoms = frame.to_ase()
    names = ("energy", "free_energy", "forces", "stress")
    atoms.calc = SinglePointCalculator(atoms, **{name: results.get(name) for name in names})
    found = Frame.from_ase(atoms, "the result")
    if missing := [name for name in ("energy", "forces") if getattr(found, name) is None]:
        raise EKFError(f"the calculator gives no {' and no '.join(missing)}; ask it for them in label.parameters")
    validate_frame(found)
    return replace(frame, energy=found.energy, forces=found.forces, virial=found.virial)


def _complaint(folder: Path) -> str:
    """Return the last line of a program's files that tells of an error, and the next one where it ends with a colon."""
    lines = [line.strip() for line in _tails(folder).splitlines()]
    last = max((k for k, line in enumerate(lines) if _COMPLAINT.search(line)), default=None)
    if last is None:
        return ""
    return f" {' '.join(lines[last : last + 1 + lines[last].endswith(':')])[:200]}"


def _tails(folder: Path) -> str:
    """Return the end of each text file in a folder."""
    text = ""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(OSError, UnicodeDecodeError), path.open("rb") as handle:
            handle.seek(max(0, path.stat().st_size - _TAIL))
            text += f"\n--- {path.relative_to(folder)}\n{handle.read().decode()}"
    return text
