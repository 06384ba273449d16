"""Executors for calculations: processes of this machine, jobs of a cluster, workers of Dask."""

import math
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from ekfcore.errors import InputError, one_line
from ekfcore.settings.table import Table
from ekfcore.threads import usable_cores

from ._jobs import JobExecutor, check_scheduler
from ._worker import Worker, WorkerError

__all__ = ["ExecutorSettings", "ProcessExecutor", "open_executor"]


_JOBS = "executorlib_cache"
_SLURM = {"SlurmClusterExecutor": "sbatch", "SlurmJobExecutor": "srun"}
"""Command by which each class starts a job."""


class ExecutorSettings(Table):
    """``executor``: the executor, its number of workers and the threads of each.

    `workers` is by default the number of cores of this machine; for classes of executorlib that submit a job for each
    calculation, it is the number of jobs at a time. `options` are the keywords of the class of executorlib that
    ``class`` names, or of `distributed.Client`, which starts a cluster on this machine if ``address`` is missing.
    """

    kind: Literal["processes", "executorlib", "dask"] = "processes"
    workers: Annotated[int | None, Field(ge=1)] = None
    threads: Annotated[int, Field(ge=1)] = 1
    options: dict[str, Any] = {}

    @property
    def worker_count(self) -> int:
        """Number of calculations at a time."""
        if self.workers is not None:
            return self.workers
        return usable_cores()

    @property
    def queues(self) -> bool:
        """Whether each calculation is a job that waits in the queue of a batch system."""
        return self.kind == "executorlib" and str(self.options.get("class", "")).endswith("ClusterExecutor")

    @property
    def isolates(self) -> bool:
        """Whether each calculation has a process or job of its own, which no other one takes with it."""
        return self.kind == "executorlib" and not self.options.get("block_allocation", False)

    @property
    def in_flight(self) -> float:
        """Number of calculations to submit at a time: executorlib keeps a core busy while calculations wait in it."""
        return self.worker_count if self.kind == "executorlib" else math.inf


class ProcessExecutor(Executor):
    """Processes that each run one function at a time; if one dies, only the function that it was running is lost.

    The standard `ProcessPoolExecutor` breaks as a whole when one of its processes dies, imports the main program
    again in each process, and cannot stop running functions.

    Parameters
    ----------
    workers : int
        Number of processes, started when they are needed.
    threads : int
        Threads of each library that computes in a process.
    """

    def __init__(self, workers: int, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ekfcore-worker")
        self._n_threads = threads
        self._lock = threading.Lock()  # guards the attributes below
        self._idle: list[Worker] = []
        self._busy: set[Worker] = set()
        self._stopped = False

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a function that an importable module defines in one of the processes."""
        return self.drive(Worker.call, _apply, function, args, kwargs)

    def drive(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Run ``function(worker, *args)`` in a thread of this process that owns one of the workers."""
        return self._pool.submit(self._run, function, args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once they are idle."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def kill(self) -> None:
        """End the processes at once, running functions included."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._stopped = True
            busy = list(self._busy)
        for worker in busy:
            worker.interrupt()
        self.shutdown()

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        worker = self._acquire()
        try:
            return function(worker, *args)
        finally:
            self._release(worker)

    def _acquire(self) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        if worker is not None and not worker.alive:  # killed while it was idle
            worker.close()
            worker = None
        worker = worker or Worker(self._n_threads)
        with self._lock:
            self._busy.add(worker)
            stopped = self._stopped
        if stopped:
            self._release(worker)
            raise WorkerError("the executor was stopped")
        return worker

    def _release(self, worker: Worker) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = worker.alive and not self._stopped
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.close()


def _apply(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


@contextmanager
def open_executor(settings: ExecutorSettings, folder: Path | None = None) -> Iterator[Executor]:
    """Open an executor; leaving the block cancels what still waits, and on this machine also stops what runs.

    Parameters
    ----------
    settings : ExecutorSettings
        Executor to open.
    folder : Path, optional
        Folder that all nodes see, for the files of jobs in a batch system; by default ``executorlib_cache`` here.

    Yields
    ------
    concurrent.futures.Executor
        It runs functions that an importable module defines.

    Raises
    ------
    InputError
        If a package is missing, the scheduler does not answer, or the executor does not take the options.

    Examples
    --------
    >>> with open_executor(ExecutorSettings(workers=1)) as executor:
    ...     executor.submit(pow, 2, 5).result()
    32
    """
    match settings.kind:
        case "processes":
            executor, close = _processes(settings)
        case "executorlib":
            executor, close = _executorlib(settings, folder or Path(_JOBS))
        case "dask":
            executor, close = _dask(settings)
    try:
        yield executor
    finally:
        close()


def _processes(settings: ExecutorSettings) -> tuple[Executor, Callable[[], None]]:
    if settings.options:
        raise InputError(f"executor: kind processes takes no options, got {', '.join(settings.options)}; remove them")
    executor = ProcessExecutor(settings.worker_count, settings.threads)
    return executor, executor.kill


def _executorlib(settings: ExecutorSettings, folder: Path) -> tuple[Executor, Callable[[], None]]:
    options = deepcopy(settings.options)  # executorlib writes into its resource_dict, what no file of settings can hold
    name = str(options.pop("class", "SingleNodeExecutor"))
    library = _load("executorlib")
    if name not in library.__all__ or not name.endswith("Executor"):
        known = ", ".join(found for found in library.__all__ if found.endswith("Executor"))
        raise InputError(f"executor: options.class must be one of {known}, got {name}")
    resources = options.get("resource_dict", {})
    if (cores := resources.get("cores", 1)) != 1:
        raise InputError(
            f"executor: options.resource_dict.cores must be 1, got {cores}: executorlib would start each calculation "
            "that many times, as one program of MPI; give them to the calculation as threads_per_core"
        )
    if settings.queues:
        _load("pysqa")
    if name in _SLURM and "pysqa_config_directory" not in options:
        _check_slurm(name, resources)
    # Classes that submit jobs refuse a number of workers; `in_flight` limits their jobs instead.
    own = {"cache_directory": str(folder.absolute())} if settings.queues else {"max_workers": settings.worker_count}
    if settings.queues and "cache_directory" in options:
        folder = Path(options["cache_directory"])
    with warnings.catch_warnings():  # of keys that it hands on to the batch system, such as the partition
        warnings.filterwarnings("ignore", message="The following keys are not recognized", category=UserWarning)
        executor = JobExecutor(
            _construct(settings, getattr(library, name), own | options), folder if settings.queues else None
        )
    return executor, lambda: executor.shutdown(wait=False, cancel_futures=True)


def _check_slurm(name: str, resources: dict[str, Any]) -> None:
    """Refuse what every job would fail of."""
    # pysqa writes an empty name into its script for a job, which SLURM does not take for the default.
    if name == "SlurmClusterExecutor" and not {"partition", "submission_template"} & set(resources):
        raise InputError(
            "executor: options.resource_dict.partition is missing; name the partition for the jobs (sinfo lists them)"
        )
    if reason := check_scheduler(_SLURM[name]):
        raise InputError(f"executor: {name} finds no SLURM ({reason}); start ekfcore where sinfo answers")


def _dask(settings: ExecutorSettings) -> tuple[Executor, Callable[[], None]]:
    local = {"n_workers": settings.worker_count, "threads_per_worker": 1, "dashboard_address": None}
    remote = {"address", "scheduler_file"} & set(settings.options)
    client = _construct(settings, _load("distributed").Client, ({} if remote else local) | settings.options)
    executor = client.get_executor(pure=False)

    def close() -> None:
        executor.shutdown(wait=False)
        client.close()  # and the cluster, if it was started here

    return executor, close


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise InputError(f'executor: {name} is not installed; run: pip install "ekfcore[cluster]"') from None


def _construct(settings: ExecutorSettings, constructor: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        return constructor(**options)
    except ImportError as error:  # of the package that submits to the batch system
        raise InputError(
            f'executor: {settings.kind} needs {error.name or error}; run: pip install "ekfcore[cluster]"'
        ) from None
    except Exception as error:  # such as a scheduler that does not answer, or an unknown keyword
        reason = one_line(error)
        raise InputError(f"executor: {settings.kind} cannot be opened ({reason}); correct its options") from None
