"""One run of ``ekfcore learn`` on processes of this machine, on Dask and on SLURM: the same in every respect."""

import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

for _package in ("ase", "matplotlib", "psutil", "pydantic", "rich", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

pytestmark = pytest.mark.filterwarnings("default")  # Dask and executorlib leave sockets to the garbage collector

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

_DASK = """\
[label.executor]
kind = "dask"
[label.executor.options]
address = "{address}"
[offload]
explore = true
judge = true
"""

_SLURM = """\
[label.executor]
kind = "executorlib"
workers = 2
[label.executor.options]
class = "SlurmClusterExecutor"
resource_dict = {partition = "short", threads_per_core = 1, run_time_max = 600}
[offload]
explore = true
judge = true
"""


Learn = Callable[[str, str], dict[str, Any]]


@pytest.fixture
def learn(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    without_torch: dict[str, str],
) -> Learn:
    """Return a function that runs ``ekfcore learn`` with an executor and returns all that came of it."""
    from ase.build import bulk
    from ase.io import write

    from ekfcore.cli import main

    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True))
    for name, value in without_torch.items():
        monkeypatch.setenv(name, value)

    def run(name: str, executor: str) -> dict[str, Any]:
        (tmp_path / "learn.toml").write_text(_CONFIG + executor)
        code = main(["learn", str(tmp_path / "learn.toml"), "--out", str(tmp_path / name)])
        assert (code, capfd.readouterr().err) == (0, "")
        return _everything(tmp_path / name)

    return run


def _everything(run: Path) -> dict[str, Any]:
    """Return labels, report and final model of a run, without the times."""
    from ekfcore.labelling.ledger import Ledger
    from ekfcore.training import load_model

    ledger = Ledger(run / "labels.db")
    labels = {key: (ledger.get(key).energy, ledger.get(key).forces.tolist()) for key in sorted(ledger)}
    assert len(labels) == 6
    rows = csv.DictReader((run / "report.csv").read_text().splitlines())
    report = [{name: cell for name, cell in row.items() if not name.endswith("_s")} for row in rows]
    assert not (run / "labels.inbox").exists() or not list((run / "labels.inbox").iterdir())
    return {"labels": labels, "report": report, "model": load_model(run / "final/model").weights.tobytes()}


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[str]:
    """Start a scheduler and two workers of Dask, each a process of its own; return the address."""
    pytest.importorskip("distributed", reason='distributed is not installed: pip install "ekfcore[cluster]"')
    file, log = tmp_path / "scheduler.json", (tmp_path / "dask.log").open("w")
    dask = [sys.executable, "-m", "dask"]
    place = ["--scheduler-file", str(file)]
    with ExitStack() as stack:
        stack.enter_context(log)
        for words in (["scheduler", "--port", "0", "--no-dashboard"], *(["worker", "--nthreads", "1"],) * 2):
            process = subprocess.Popen([*dask, *words, *place], stdout=log, stderr=log, cwd=tmp_path)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            _wait_for(file.exists)
        yield json.loads(file.read_text())["address"]


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "waited for minutes"
        time.sleep(0.05)


def test_dask_gives_the_same(learn: "Learn", dask: str) -> None:
    """Its scheduler and its workers are processes of their own, which the run finds by an address."""
    here = learn("here", _PROCESSES)
    assert learn("dask", _DASK.format(address=dask)) == here


@pytest.mark.slurm
def test_slurm_gives_the_same(learn: "Learn") -> None:
    """Each label, each run of molecular dynamics and each share of the judging is a job."""
    here = learn("here", _PROCESSES)
    assert learn("slurm", _SLURM) == here
