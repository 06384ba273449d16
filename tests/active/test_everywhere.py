"""One run of ``ekfcore learn`` on processes of this machine, on Dask and on SLURM: the same in every respect.

On SLURM, its calls are jobs, or steps of the job in which it runs itself.
"""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from active.conftest import Faulty

for _package in ("ase", "matplotlib", "psutil", "pydantic", "rich", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

# Dask and executorlib leave sockets to the garbage collector.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

_CONFIG = """\
[data]
structures = ["copper.xyz"]
rattled = 4
[[stages]]
temperatures = [300, 600]
[explore]
steps = 8
every = 4
[select]
low = 0.0
high = 1e6
maximum = 2
[label]
calculator = "emt"
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[training]
epochs = 1
"""

_PROCESSES = """\
[label.executor]
workers = 2
"""

_OFFLOAD = """\
[offload]
explore = true
judge = true
"""

_DASK = f"""\
[label.executor]
kind = "dask"
[label.executor.options]
address = "{{address}}"
{_OFFLOAD}"""


def _executorlib(name: str, resources: str) -> str:
    """Return the tables for an executor of executorlib."""
    return f"""\
[label.executor]
kind = "executorlib"
workers = 2
[label.executor.options]
class = "{name}"
resource_dict = {resources}
{_OFFLOAD}"""


_SLURM = _executorlib("SlurmClusterExecutor", '{partition = "short", threads_per_core = 1, run_time_max = 600}')
_STEPS = _executorlib("SlurmJobExecutor", '{slurm_cmd_args = ["--quiet"]}')
# srun counts the steps of a job: the one after all others tells how many there were.
_JOB = ["salloc", "--quiet", "--ntasks=2", "sh", "-c", '"$@" && srun --ntasks=1 printenv SLURM_STEP_ID >steps', "sh"]

_MAIN = "import sys; from ekfcore.cli import main; sys.exit(main())"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faulty: "Faulty", without_torch: dict[str, str]) -> Start:
    """Return a function that starts ``ekfcore learn`` with the tables of an executor, in a process of its own."""
    from ase.build import bulk
    from ase.io import write

    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True))
    for name, value in without_torch.items():  # beside the folder of the faulty calculator
        monkeypatch.setenv(name, value, prepend=os.pathsep)

    def run(
        out: str, executor: str, *words: str, calculator: str = 'calculator = "emt"', before: Sequence[str] = ()
    ) -> "subprocess.Popen[str]":
        config = tmp_path / f"{out}.toml"
        config.write_text(_CONFIG.replace('calculator = "emt"', calculator) + executor)
        command = [*before, sys.executable, "-c", _MAIN, "learn", str(config), "--out", out, *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True)

    return run


def _finish(process: "subprocess.Popen[str]") -> None:
    err = process.communicate(timeout=600)[1]
    assert (process.returncode, err) == (0, "")


def _everything(run: Path) -> dict[str, Any]:
    """Return labels, report and final model of a run, without the times."""
    from ekfcore.labelling.ledger import Ledger
    from ekfcore.training import load_model

    ledger = Ledger(run / "labels.db")
    frames = {key: ledger.get(key) for key in sorted(ledger)}
    labels = {key: (frame.energy, np.asarray(frame.forces).tolist()) for key, frame in frames.items()}
    assert len(labels) == 6
    rows = csv.DictReader((run / "report.csv").read_text().splitlines())
    report = [{name: cell for name, cell in row.items() if not name.endswith("_s")} for row in rows]
    assert not (run / "labels.inbox").exists() or not list((run / "labels.inbox").iterdir())
    return {"labels": labels, "report": report, "model": load_model(run / "final/model").weights.tobytes()}


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and two workers of Dask with three threads each; return the address."""
    pytest.importorskip("distributed", reason='distributed is not installed: pip install "ekfcore[cluster]"')
    file, log = tmp_path / "scheduler.json", (tmp_path / "dask.log").open("w")
    dask = [sys.executable, "-m", "dask"]
    place = ["--scheduler-file", str(file)]
    with ExitStack() as stack:
        stack.enter_context(log)
        for words in (["scheduler", "--port", "0", "--no-dashboard"], *(["worker", "--nthreads", "3"],) * 2):
            process = subprocess.Popen([*dask, *words, *place], stdout=log, stderr=log, cwd=tmp_path)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            _wait_for(lambda: file.exists() and file.read_text().endswith("}"))  # it is not written in one step
        yield json.loads(file.read_text())["address"]


@pytest.fixture(params=["dask", pytest.param("slurm", marks=pytest.mark.slurm)])
def cluster(request: pytest.FixtureRequest) -> str:
    """Return the tables of CONFIG for each cluster in turn."""
    if request.param == "slurm":
        return _SLURM
    return _DASK.format(address=request.getfixturevalue("dask"))


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "waited for minutes"
        time.sleep(0.05)


def test_clusters_give_the_same(tmp_path: Path, start: Start, cluster: str) -> None:
    """Each label, each run of molecular dynamics and each share of the judging is a call of the cluster's."""
    runs = [start("here", _PROCESSES), start("there", cluster)]
    for run in runs:
        _finish(run)
    assert _everything(tmp_path / "there") == _everything(tmp_path / "here")


@pytest.mark.slurm
def test_steps_of_a_job_give_the_same(tmp_path: Path, start: Start) -> None:
    """Each call is a step of the job that the run is in, whether it is a label, dynamics or a share of the judging."""
    runs = [start("here", _PROCESSES), start("there", _STEPS, before=_JOB)]
    for run in runs:
        _finish(run)
    assert _everything(tmp_path / "there") == _everything(tmp_path / "here")
    assert int((tmp_path / "steps").read_text()) == 6 + 2 + 2  # labels, dynamics, shares


def test_a_run_that_is_killed_on_a_cluster(tmp_path: Path, start: Start, faulty: "Faulty", cluster: str) -> None:
    """First it loses a worker, then itself, while calculations go on; none of them is begun or ended once more."""
    calculator = f'calculator = "faulty:Faulty"\nparameters = {{calls = "{faulty.calls}", seconds = 20.0}}'
    # Fewer than the cluster has places for, so that another one for the same label could begin beside each.
    at_once = 2 if cluster == _SLURM else 4
    run = start("run", cluster, calculator=calculator)
    _wait_for(lambda: len(faulty.lines("start")) == at_once)
    worker = _parent(faulty.lines("start")[0][2])
    victims = [words for words in faulty.lines("start") if _parent(words[2]) == worker]
    os.kill(worker, signal.SIGKILL)  # the worker, or the program of the job
    _wait_for(lambda: len(faulty.lines("start")) == at_once + len(victims))
    run.kill()
    run.communicate()
    _finish(start("run", cluster, "--resume", calculator=calculator))
    assert len(_everything(tmp_path / "run")["labels"]) == 6
    assert set(faulty.count("end").values()) == {1}
    assert faulty.count("start") == faulty.count("end") + Counter(words[1] + words[3] for words in victims)


def _parent(pid: str) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
