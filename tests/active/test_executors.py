"""Every kind of executor: it computes, it reports errors, it loses a worker, it stops at once."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from ekfcore.errors import EKFError, InputError
from ekfcore.labelling._worker import Worker, WorkerError
from ekfcore.labelling.executors import ExecutorSettings, ProcessExecutor, open_executor

CLUSTERS = [
    pytest.param("executorlib", marks=pytest.mark.filterwarnings("default")),
    pytest.param("dask", marks=pytest.mark.filterwarnings("default")),  # both leave sockets to the garbage collector
]


@pytest.mark.parametrize("kind", ["processes", *CLUSTERS])
def test_each_kind_computes(kind: Any) -> None:
    """In another process; errors come back as what they are."""
    if kind != "processes":
        pytest.importorskip({"dask": "distributed"}.get(kind, kind), reason=f"{kind} is not installed")
    with open_executor(ExecutorSettings(kind=kind, workers=2)) as executor:
        futures = [executor.submit(pow, 2, exponent) for exponent in range(4)]
        assert [future.result(timeout=300) for future in futures] == [1, 2, 4, 8]
        assert executor.submit(os.getpid).result(timeout=300) != os.getpid()
        with pytest.raises(ZeroDivisionError):
            executor.submit(divmod, 1, 0).result(timeout=300)


@pytest.mark.filterwarnings("default")  # executorlib leaves sockets to the garbage collector
def test_options_stay_as_they_were() -> None:
    """executorlib writes into the table that it is given; a run compares and keeps its settings afterwards."""
    pytest.importorskip("executorlib", reason='executorlib is not installed: pip install "ekfcore[cluster]"')
    options = {"resource_dict": {"threads_per_core": 1}}
    settings = ExecutorSettings(kind="executorlib", workers=1, options=options)
    with open_executor(settings) as executor:
        assert executor.submit(abs, -3).result(timeout=300) == 3
    assert settings.model_dump(mode="json")["options"] == {"resource_dict": {"threads_per_core": 1}}


def test_a_dead_process_takes_nothing_with_it() -> None:
    """Its call fails and says how; calls beside and after it do not notice."""
    with open_executor(ExecutorSettings(workers=2)) as executor:
        beside = executor.submit(time.sleep, 1.0)
        with pytest.raises(WorkerError, match=r"killed by signal 9 \(SIGKILL\)"):
            executor.submit(signal.raise_signal, signal.SIGKILL).result()
        with pytest.raises(WorkerError, match="ended with code 7"):
            executor.submit(os._exit, 7).result()
        assert [executor.submit(abs, -3).result() for _ in range(3)] == [3, 3, 3]
        beside.result()


def test_processes_are_used_again() -> None:
    """A process starts once, not for each call, and one that died while it was idle is replaced."""
    with open_executor(ExecutorSettings(workers=1)) as executor:
        first = {executor.submit(os.getpid).result() for _ in range(3)}
        assert len(first) == 1
        os.kill(first.pop(), signal.SIGKILL)
        time.sleep(0.2)
        assert executor.submit(abs, -3).result() == 3


def test_threads_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries that compute in it are told how many they may use."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with open_executor(ExecutorSettings(workers=1, threads=3)) as executor:
        assert executor.submit(os.getenv, "OMP_NUM_THREADS").result() == "3"


def test_leaving_the_block_stops_what_runs() -> None:
    """Even a program that a process has started, and calls that still wait."""
    with open_executor(ExecutorSettings(workers=1)) as executor:
        pid = executor.submit(os.getpid).result()
        running = executor.submit(time.sleep, 1000)
        waiting = executor.submit(time.sleep, 1000)
        time.sleep(0.2)
    assert waiting.cancelled()
    with pytest.raises(WorkerError):
        running.result(timeout=5)
    assert not _exists(pid)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_shutdown_waits_as_the_standard_says() -> None:
    """A ProcessExecutor of one's own is used like any other executor."""
    with ProcessExecutor(2) as executor:
        futures = [executor.submit(pow, base, 2) for base in range(5)]
        assert list(executor.map(abs, [-1, -2])) == [1, 2]
    assert [future.result() for future in futures] == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    """However the parent dies, in the middle of a calculation that ignores the world."""
    code = f"""
import os, time
from ekfcore.labelling.executors import ExecutorSettings, open_executor
with open_executor(ExecutorSettings(workers=2)) as executor:
    pids = [executor.submit(os.getpid).result() for _ in range(2)]
    futures = [executor.submit(time.sleep, 1000) for _ in range(2)]
    time.sleep(1)
    open({str(tmp_path / "pids")!r}, "w").write(" ".join(map(str, pids)))
    os.rename({str(tmp_path / "pids")!r}, {str(tmp_path / "ready")!r})
    time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        _wait_for((tmp_path / "ready").exists)
        pids = [int(pid) for pid in (tmp_path / "ready").read_text().split()]
        assert all(_exists(pid) for pid in pids)
        parent.send_signal(how)
    _wait_for(lambda: not any(_exists(pid) for pid in pids))


def test_time_limit_kills_programs_too(tmp_path: Path) -> None:
    """A program that a call waits for does not go on when the call is over."""
    with Worker() as worker:
        command = f"echo $$ > {tmp_path}/pid; echo started; sleep 1000"
        start = time.monotonic()
        with pytest.raises(TimeoutError):
            worker.call(os.system, command, timeout=1.0)
        assert time.monotonic() - start < 120
        assert worker.output() == "started"
        assert not worker.alive
        _wait_for(lambda: not _exists(int((tmp_path / "pid").read_text())))
        with pytest.raises(WorkerError):
            worker.call(abs, 1)


def test_what_cannot_travel() -> None:
    """Results and errors that cannot be pickled are told as such; the process goes on."""
    with Worker() as worker:
        with pytest.raises(EKFError, match="cannot be pickled"):
            worker.call(threading.Lock)
        with pytest.raises(EKFError, match="SystemExit: 3"):
            worker.call(sys.exit, 3)
        assert worker.call(abs, -2) == 2


def test_a_process_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is not there any more, or one that ends at once."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerError, match=r"does not start .*ended with code 1"):
        Worker()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WorkerError, match=r"cannot be started .*No such file"):
        Worker()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "processes", "options": {"queue": "long"}}, "takes no options, got queue; remove them"),
        (
            {"kind": "executorlib", "options": {"class": "PbsExecutor"}},
            "must be one of .*SlurmClusterExecutor.*, got Pbs",
        ),
        ({"kind": "executorlib", "options": {"class": 3}}, "must be one of"),
        (
            {"kind": "executorlib", "options": {"class": "SlurmClusterExecutor"}},
            r"resource_dict\.partition is missing; name the partition",
        ),
        (
            {"kind": "executorlib", "options": {"colour": 1}},
            "executorlib cannot be opened .*colour.*correct its options",
        ),
        ({"kind": "dask", "options": {"address": "tcp://127.0.0.1:1", "timeout": 0.5}}, "dask cannot be opened"),
        ({"kind": "dask", "options": {"address": "nonsense"}}, "dask cannot be opened"),
    ],
)
@pytest.mark.filterwarnings("default")
def test_options_that_are_wrong(settings: dict[str, Any], message: str) -> None:
    """One line that says what to do."""
    kind = settings["kind"]
    if kind != "processes":
        pytest.importorskip({"dask": "distributed"}.get(kind, kind), reason=f"{kind} is not installed")
    with pytest.raises(InputError, match=message) as caught, open_executor(ExecutorSettings(**settings)):
        pass
    assert "\n" not in str(caught.value)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message holds the pip command."""
    monkeypatch.setitem(sys.modules, "executorlib", None)
    with (
        pytest.raises(InputError, match=r'pip install "ekfcore\[cluster\]"'),
        open_executor(ExecutorSettings(kind="executorlib")),
    ):
        pass


def _exists(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def _wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "waited for minutes"
        time.sleep(0.02)


_QUEUE = '''
"""A batch system that starts each job at once on this machine."""
import subprocess
import types

submitted = []
running = {}


class QueueAdapter:
    def __init__(self, directory=None, queue_type=None, execute_command=None):
        assert queue_type == "slurm"

    def submit_job(self, command, working_directory, **options):
        submitted.append(options)
        process = subprocess.Popen("exec " + command, shell=True, cwd=working_directory)
        running[process.pid] = process
        return process.pid

    def get_status_of_job(self, process_id):
        return "running" if running[process_id].poll() is None else None

    def delete_job(self, process_id):
        running[process_id].kill()
'''


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a stand-in for pysqa, which talks to the batch system, in its place; return it."""
    pytest.importorskip("executorlib", reason='executorlib is not installed: pip install "ekfcore[cluster]"')
    pytest.importorskip("h5py", reason='h5py is not installed: pip install "ekfcore[atoms]"')
    for name in list(sys.modules):  # all that has taken a name out of pysqa
        if name.startswith("executorlib") and ("pysqa" in name or ".file" in name):
            monkeypatch.delitem(sys.modules, name)
    pandas: Any = types.ModuleType("pandas")
    pandas.DataFrame = object
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    found: Any = types.ModuleType("pysqa")
    exec(_QUEUE, found.__dict__)
    monkeypatch.setitem(sys.modules, "pysqa", found)
    (tmp_path / "bin").mkdir()
    for program in ("sbatch", "sinfo"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.filterwarnings("default")
def test_jobs_of_a_batch_system(queue: Any) -> None:
    """The table of the documentation, whose jobs a stand-in starts here."""
    import tomllib

    page = Path(__file__).parents[2] / "docs/how-to/labelling.md"
    (table,) = (t for t in page.read_text(encoding="utf-8").split("```toml\n") if "SlurmClusterExecutor" in t[:400])
    settings = ExecutorSettings(**tomllib.loads(table.partition("```")[0])["label"]["executor"])
    assert settings.in_flight == 16
    with open_executor(settings) as executor:
        assert executor.submit(pow, 2, 5).result(timeout=300) == 32
    assert queue.submitted[0]["cores"] == 8
    assert queue.submitted[0]["run_time_max"] == 7200


@pytest.mark.filterwarnings("default")
def test_a_batch_system_that_stops_answering(queue: Any) -> None:
    """The thread of executorlib that asks it dies: calls fail with what was said, and no traceback is printed."""
    asked = subprocess.CalledProcessError(1, ["squeue"], "squeue: error: Unable to contact slurm controller\n")

    def fail(self: Any, process_id: int) -> None:
        raise asked

    queue.QueueAdapter.get_status_of_job = fail
    with open_executor(_on_slurm()) as executor:
        running = executor.submit(signal.pause)
        with pytest.raises(BrokenExecutor, match="squeue: error: Unable to contact slurm controller"):
            running.result(timeout=300)
        with pytest.raises(BrokenExecutor, match="Unable to contact"):
            executor.submit(abs, -1)
    for process in queue.running.values():  # nobody cancels them where the batch system does not answer
        process.kill()
        process.wait()


@pytest.mark.filterwarnings("default")
def test_a_job_that_is_not_taken(queue: Any) -> None:
    """The reason is that of the program that submits."""
    refused = subprocess.CalledProcessError(1, ["sbatch", "run_queue.sh"], "sbatch: error: Invalid account\n")

    def refuse(self: Any, **options: Any) -> None:
        raise refused

    queue.QueueAdapter.submit_job = refuse
    with open_executor(_on_slurm()) as executor, pytest.raises(RuntimeError, match=r"^sbatch: error: Invalid account"):
        executor.submit(abs, -1).result(timeout=300)


@pytest.mark.filterwarnings("default")
def test_the_files_of_jobs_stay_in_one_folder(queue: Any, tmp_path: Path) -> None:
    """Nothing is left of them when the calls have ended, nor anything where the run was started."""
    folder = tmp_path / "jobs"
    before = sorted(tmp_path.iterdir())
    with open_executor(_on_slurm(), folder) as executor:
        assert executor.submit(pow, 2, 5).result(timeout=300) == 32
    assert list(folder.iterdir()) == []
    assert [path for path in sorted(tmp_path.iterdir()) if path != folder] == before


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (None, "finds no SLURM (there is no command sinfo here); start ekfcore where sinfo answers"),
        (
            "echo 'Unable to contact slurm controller' >&2; exit 1",
            "finds no SLURM (Unable to contact slurm controller)",
        ),
        ("exit 3", "finds no SLURM (sinfo ends with code 3)"),
    ],
)
def test_no_slurm(
    queue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, message: str
) -> None:
    """One line, before anything is submitted."""
    sinfo = tmp_path / "bin/sinfo"
    sinfo.unlink()
    if script is not None:
        sinfo.write_text(f"#!/bin/sh\n{script}\n")
        sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(InputError, match=re.escape(message)), open_executor(_on_slurm()):
        pass


def _on_slurm() -> ExecutorSettings:
    options = {"class": "SlurmClusterExecutor", "resource_dict": {"partition": "short"}}
    return ExecutorSettings(kind="executorlib", options=options)


@pytest.mark.filterwarnings("default")
def test_leaving_the_block_ends_programs_of_executorlib() -> None:
    """Not only its processes on this machine: srun is such a program, too."""
    pytest.importorskip("executorlib", reason='executorlib is not installed: pip install "ekfcore[cluster]"')
    with open_executor(ExecutorSettings(kind="executorlib", workers=1)) as executor:
        pid = executor.submit(os.getpid).result(timeout=300)
        running = executor.submit(signal.pause)
        time.sleep(0.5)
    assert running.done()
    assert not _exists(pid)


@pytest.mark.filterwarnings("default")
def test_a_program_that_ends_before_it_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    """As srun does where it gets no step: its call fails, the next one is computed, and no thread is left behind."""
    pytest.importorskip("executorlib", reason='executorlib is not installed: pip install "ekfcore[cluster]"')
    before = threading.active_count()
    with open_executor(ExecutorSettings(kind="executorlib", workers=1)) as executor:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/bin/false")
            with pytest.raises(RuntimeError, match="ended before it could be told"):
                executor.submit(abs, -3).result(timeout=60)
        assert executor.submit(abs, -3).result(timeout=300) == 3
    _wait_for(lambda: threading.active_count() <= before)


def test_what_a_batch_system_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pysqa, and with cores that would compute each label several times."""
    pytest.importorskip("executorlib", reason='executorlib is not installed: pip install "ekfcore[cluster]"')
    options: dict[str, Any] = {"class": "SlurmClusterExecutor", "resource_dict": {"cores": 8}}
    with (
        pytest.raises(InputError, match=r"cores must be 1, got 8.*threads_per_core"),
        open_executor(ExecutorSettings(kind="executorlib", options=options)),
    ):
        pass
    for name in list(sys.modules):
        if name.startswith("executorlib") and "pysqa" in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pysqa", None)
    del options["resource_dict"]
    with (
        pytest.raises(InputError, match=r'pysqa is not installed; run: pip install "ekfcore\[cluster\]"'),
        open_executor(ExecutorSettings(kind="executorlib", options=options)),
    ):
        pass
