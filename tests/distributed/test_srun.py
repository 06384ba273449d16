"""``ekfcore train`` in a job of a real SLURM: the tasks of srun are ranks, and the script of the job is none."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunRanks = Callable[..., list[tuple[int, str, str]]]
AssertSame = Callable[[Path, Path], None]

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# The script sees the number of tasks, too: where it counted as one of them, it would wait for the other.
_JOB = """\
#!/bin/bash
#SBATCH --ntasks=2
set -e
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 EKFCORE_TIMEOUT=60
{train} --out script
srun {train} --out tasks
"""


def test_tasks_are_ranks(tmp_path: Path, config: Path, run_ranks: RunRanks, assert_same_model: AssertSame) -> None:
    """Two tasks train as one rank that another launcher starts, and the script trains as a process outside any job."""
    train = [sys.executable, "-m", "ekfcore", "train", str(config)]
    (tmp_path / "job.sh").write_text(_JOB.format(train=" ".join(train)))
    done = _run(tmp_path, "sbatch", "--wait", "--output=job.out", "job.sh")
    told = (tmp_path / "job.out").read_text()
    assert done.returncode == 0, told + done.stderr
    assert told.count("Model, metrics and plots are in") == 2
    # Two ranks share four frames a batch, where one would take one.
    (rank,) = run_ranks([*train[1:], "--set", "training.batch=4", "--out", tmp_path / "rank"], 1)
    assert rank[0] == 0, rank
    assert_same_model(tmp_path / "tasks", tmp_path / "rank")
    alone = _run(tmp_path, "env", "OMP_NUM_THREADS=1", "OPENBLAS_NUM_THREADS=1", *train, "--out", "alone")
    assert alone.returncode == 0, alone.stderr
    assert_same_model(tmp_path / "script", tmp_path / "alone")


def _run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=900)
