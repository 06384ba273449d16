"""A process that runs one function at a time and can be killed, with all its children, without harm to others.

The process has a session of its own, so that Ctrl-C does not reach it and one signal also ends the programs it started.
It ends by itself, even during a calculation, as soon as its parent process is gone, however the parent died.
"""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from ekfcore.errors import EKFError

__all__ = ["Worker", "WorkerError", "finishing", "scratch", "serve"]

_LOG_LIMIT = 200_000  # [bytes] kept from the end of a calculation's output, where the error is
_START = 60.0  # [s] to start Python on a busy file system

# Held while a folder is made or a finished result written; the thread that ends this process with its parent waits.
finishing = threading.Lock()
# Folders of the present call; this process removes them if the parent, which otherwise would, is gone.
scratch: list[Path] = []


class WorkerError(EKFError):
    """The process ended during a call: it was killed, crashed, or called ``os._exit``."""


class Worker:
    """A Python process for one call after another; it is not restarted if it dies.

    Functions and arguments are pickled, so a function must be defined in an importable module.

    Parameters
    ----------
    threads : int
        Threads of each library in the process (OpenMP, OpenBLAS, MKL).
    """

    def __init__(self, threads: int = 1) -> None:
        self._connection, child_end = Pipe()
        lifeline, self._lifeline = os.pipe()  # the child reads until this process, the only writer, is gone
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        descriptors = (child_end.fileno(), lifeline)
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve{descriptors}"
        count = str(threads)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", code],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                pass_fds=descriptors,
                start_new_session=True,
                env=os.environ | {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            )
        except OSError as error:
            self._release()
            raise WorkerError(f"a worker process cannot be started ({error})") from None
        finally:
            child_end.close()
            os.close(lifeline)
        try:
            self._receive(_START)  # so that the time limit of a call excludes the start of Python
        except (WorkerError, TimeoutError) as error:
            last = self.output().rpartition("\n")[2] or "no output"
            self.close()
            raise WorkerError(f"a worker process does not start ({error}): {last}") from None

    @property
    def alive(self) -> bool:
        """Whether the process can take another call."""
        return self._process.poll() is None

    def call(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None) -> Any:
        """Return ``function(*args)``, computed in the process.

        Raises
        ------
        WorkerError
            If the process ended.
        TimeoutError
            If the call took more than `timeout` [s]; the process is killed.
        Exception
            The exception that the function raised, if it can be pickled.
        """
        self._output.seek(0)
        self._output.truncate()
        try:
            self._connection.send((function, args))
        except OSError:  # the process died since the last call
            raise WorkerError(self._end()) from None
        try:
            returned, value = self._receive(timeout)
        except TimeoutError:
            self.interrupt()
            self._process.wait()
            raise
        if returned:
            return value
        raise value

    def output(self) -> str:
        """Return the output of the process and its programs since the last call began."""
        size = self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, size - _LOG_LIMIT))
        return self._output.read().decode(errors="replace").strip()

    def interrupt(self) -> None:
        """End the process and all its children; a call that another thread waits for raises `WorkerError`."""
        if self._process.poll() is None:
            _kill_group(self._process.pid)

    def close(self) -> None:
        """End the process and all its children, wait for it, and free its resources in this process."""
        self.interrupt()
        self._process.wait()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _release(self) -> None:
        if not self._connection.closed:
            self._connection.close()
            self._output.close()
            os.close(self._lifeline)

    def _receive(self, timeout: float | None) -> Any:
        try:
            if not self._connection.poll(timeout):
                raise TimeoutError(f"no answer after {timeout:g} s")
            return self._connection.recv()
        except (EOFError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            raise WorkerError(self._end()) from None

    def _end(self) -> str:
        """Wait for the end of the process and return its cause."""
        _kill_group(self._process.pid)  # its children may still run; the pid cannot be reused before wait()
        code = self._process.wait()
        if code >= 0:
            return f"the process ended with code {code}"
        return f"the process was killed by signal {-code} ({signal.Signals(-code).name})"


def serve(connection: int, lifeline: int) -> None:
    """Answer calls until the other side is gone.

    Parameters
    ----------
    connection, lifeline : int
        File descriptors of the pipe for calls, and of a pipe that closes with the parent.
    """
    for descriptor in (connection, lifeline):  # programs that outlive this process must not keep them open
        os.set_inheritable(descriptor, False)
    end = threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True)
    end.start()
    pipe = Connection(connection)
    pipe.send(None)  # ready
    while True:
        try:
            function, args = pipe.recv()
            answer: tuple[bool, Any] = (True, function(*args))
        except EOFError:
            break
        except BaseException as error:  # uncaught, it would end the process without an answer
            traceback.print_exc()
            answer = (False, _portable(error))
        sys.stdout.flush()
        try:
            _send(pipe, answer)
        except OSError:
            break
    end.join()


def _send(pipe: "Connection[Any, Any]", answer: tuple[bool, Any]) -> None:
    try:
        pipe.send(answer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        pipe.send((False, EKFError(f"the result cannot be pickled: {error}")))


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # nobody writes, so it returns when the parent is gone
    with finishing:
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # all gone; macOS raises the latter for a group of zombies
        return


def _portable(error: BaseException) -> BaseException:
    """Return the error, or an `EKFError` with its text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return EKFError(f"{type(error).__name__}: {error}")
    return error if isinstance(error, Exception) else EKFError(f"{type(error).__name__}: {error}")
