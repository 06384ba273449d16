"""Executors of executorlib, where each call has a process or a job of its own."""

import math
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import BrokenExecutor, Executor, Future, InvalidStateError
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import uuid4

from ekfcore.errors import one_line

__all__ = ["JobExecutor", "check_scheduler"]

_ANSWER = 120.0  # [s] for a batch system to answer a question, or to cancel jobs
_POLL = 0.2  # [s] between two looks at what is ending
_OUTPUT = "time.out"  # of a job, in the template of pysqa


class JobExecutor(Executor):
    """An executor of executorlib whose calls end: with a result, or with an error that says why there is none.

    executorlib asks the batch system for its jobs in a thread. When the batch system does not answer, that thread dies
    and the calls would never end; here they fail then, as do later ones.

    Parameters
    ----------
    executor : concurrent.futures.Executor
        Executor of executorlib.
    folder : Path, optional
        Where it keeps the files of each job; they are removed with the end of the call.
    """

    def __init__(self, executor: Any, folder: Path | None) -> None:
        _notice_early_ends()
        self._executor, self._folder = executor, folder
        self._calls: dict[Future[Any], Future[Any]] = {}
        self._broken = ""
        self._hook_before = threading.excepthook
        self._hook = threading.excepthook = self._note  # the same object, to be recognised

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function that an importable module defines in a process or job of its own."""
        if self._broken:
            raise BrokenExecutor(self._broken)
        name, call = uuid4().hex, Future[Any]()
        if self._folder is not None:
            kwargs["resource_dict"] = {"cache_key": name}
        inner = self._executor.submit(function, *args, **kwargs)
        self._calls[inner] = call
        inner.add_done_callback(partial(self._settle, name))
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Close the executor; `cancel_futures` also ends programs and jobs that are at work."""
        # executorlib waits here for its thread, for ever if that has died or dies of the question which jobs to cancel;
        # it does the same when it is collected, which a thread that waits prevents.
        how = {"wait": wait, "cancel_futures": cancel_futures}
        closing = threading.Thread(target=self._executor.shutdown, kwargs=how, daemon=True)
        closing.start()
        end = time.monotonic() + (_ANSWER if cancel_futures else math.inf)
        while not self._broken and (closing.is_alive() or (self._calls and cancel_futures)) and time.monotonic() < end:
            if cancel_futures and self._calls:  # those whose calls have ended are about to end
                _end_programs()
            closing.join(_POLL)
            futures.wait(list(self._calls.values()), timeout=_POLL)
        if threading.excepthook is self._hook:
            threading.excepthook = self._hook_before

    def _settle(self, name: str, inner: Future[Any]) -> None:
        """Hand on what a call has brought, and remove its files."""
        call = self._calls.pop(inner)
        error = None if inner.cancelled() else inner.exception()
        with suppress(InvalidStateError):  # the executor broke down before
            if inner.cancelled():
                call.cancel()
            elif error is None:
                call.set_result(inner.result())
            else:
                call.set_exception(error if self._folder is None else self._explained(error, name))
        if self._folder is not None:
            shutil.rmtree(self._folder / name, ignore_errors=True)
            for path in self._folder.glob(f"{name}_*.h5"):
                path.unlink(missing_ok=True)

    def _explained(self, error: BaseException, name: str) -> BaseException:
        """Return the error with the last line that the batch system wrote about it, if there is one."""
        assert self._folder is not None
        said = error.output if isinstance(error, subprocess.CalledProcessError) else ""  # of sbatch
        if isinstance(error, RuntimeError):  # of a job that has ended without an answer
            with suppress(OSError):
                said = (self._folder / name / _OUTPUT).read_text(errors="replace")
        lines = (said or "").strip().splitlines()
        return RuntimeError(f"{lines[-1]} ({one_line(error)})") if lines else error

    def _note(self, failure: threading.ExceptHookArgs) -> None:
        """Fail all calls if a thread of executorlib has died; other threads are no concern of this class."""
        if not _is_of_executorlib(failure.exc_traceback):
            self._hook_before(failure)
            return
        error = failure.exc_value or RuntimeError("a thread of executorlib died")
        said = (error.output or "").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        self._broken = said[-1] if said else one_line(error)
        for call in list(self._calls.values()):
            with suppress(InvalidStateError):
                call.set_exception(BrokenExecutor(self._broken))


@cache
def _notice_early_ends() -> None:
    """Let a call fail whose program ends before it has connected, as srun does where it gets no step.

    executorlib would wait for its connection for ever, in a thread that keeps Python from ending.
    """
    from executorlib.standalone.interactive import communication

    send, writable = communication.SocketInterface.send_dict, communication.zmq.POLLOUT

    def send_to_program(self: Any, input_dict: dict[str, Any]) -> None:
        while self._socket is None or not self._socket.poll(round(1000 * _POLL), writable):
            if not self._spawner.poll():
                raise communication.ExecutorlibSocketError(
                    "the program of the call ended before it could be told what to compute"
                )
        send(self, input_dict)

    communication.SocketInterface.send_dict = send_to_program


def _end_programs() -> None:
    """End the programs that executorlib has started here, srun among them, which it waits for otherwise."""
    import psutil

    for program in psutil.Process().children():
        with suppress(psutil.Error):
            if any(os.path.join("executorlib", "backend", "") in word for word in program.cmdline()):
                program.terminate()


def _is_of_executorlib(trace: TracebackType | None) -> bool:
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__")).startswith("executorlib."):
            return True
        trace = trace.tb_next
    return False


def check_scheduler(submit: str) -> str:
    """Return in one line why SLURM does not take jobs from here with the command `submit`, or an empty text."""
    for program in (submit, "sinfo"):
        if shutil.which(program) is None:
            return f"there is no command {program} here"
    try:
        subprocess.run(["sinfo", "--noheader"], capture_output=True, text=True, check=True, timeout=_ANSWER)
    except subprocess.TimeoutExpired:
        return f"sinfo does not answer within {_ANSWER:g} s"
    except subprocess.CalledProcessError as error:
        return str((error.stderr.strip().splitlines() or [f"sinfo ends with code {error.returncode}"])[-1])
    return ""
