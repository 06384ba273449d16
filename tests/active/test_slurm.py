"""Labels and active learning on a real SLURM: jobs that end in every way that there is, runs that are killed."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pysqa", reason='pysqa is not installed: pip install "ekfcore[cluster]"')

from ekfcore.labelling.executors import ExecutorSettings
from ekfcore.labelling.label import LabelSettings, label
from ekfcore.labelling.ledger import Ledger

if TYPE_CHECKING:
    from active.conftest import Faulty

    from ekfcore.atoms import Frame

    MakeFrames = Callable[..., list[Frame]]

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.filterwarnings("default")]

RESOURCES = {"partition": "short", "threads_per_core": 1, "run_time_max": 60}
EXECUTOR = {
    "kind": "executorlib",
    "workers": 4,
    "options": {"class": "SlurmClusterExecutor", "resource_dict": RESOURCES},
}


@pytest.fixture(autouse=True)
def no_job_is_left() -> Iterator[None]:
    """Begin and end with an empty queue."""
    yield
    _run("scancel", "--user=root")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _job_of(faulty: "Faulty", symbol: str) -> str:
    """Return the job in which the calculation of a frame runs, or an empty text."""
    for words in faulty.lines("start"):
        if words[1] == symbol:
            environment = Path(f"/proc/{words[2]}/environ")
            if environment.exists():
                variables = dict(v.split("=", 1) for v in environment.read_text().split("\0") if "=" in v)
                return variables["SLURM_JOB_ID"]
    return ""


def test_jobs_that_do_not_end_well(tmp_path: Path, rattled: "MakeFrames", faulty: "Faulty") -> None:
    """One fails, one is cancelled, one runs out of its time, one is requeued; all others are labelled, once each."""
    frames = rattled(["Cu", "Ag", "Au", "Pt", "Ni", "Cu", "Cu"])
    done: set[str] = set()

    def meddle() -> bool:
        for symbol, command in (("Pt", ["scancel"]), ("Ni", ["scontrol", "requeue"])):
            if symbol not in done and (job := _job_of(faulty, symbol)):
                _run(*command, job)
                done.add(symbol)
        return False

    settings = LabelSettings(
        calculator="faulty:Faulty",
        parameters=faulty.parameters(Ag="raise", Au="hang", Pt="hang", Ni="later"),
        executor=ExecutorSettings.model_validate(EXECUTOR),
        retries=0,
    )
    report = label(frames, settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path / "log", should_stop=meddle)
    assert done == {"Pt", "Ni"}
    assert [frame.source for frame in report.labelled] == ["frame 0", "frame 4", "frame 5", "frame 6"]
    reasons = {frame.symbols[0]: reason for frame, reason in report.quarantined}
    print(reasons)
    assert reasons["Ag"].startswith("failed: RuntimeError: the program stopped")
    assert "CANCELLED" in reasons["Pt"]
    assert "DUE TO TIME LIMIT" in reasons["Au"]
    assert set(faulty.count("end").values()) == {1}
    assert list((tmp_path / "labels.inbox").iterdir()) == []
