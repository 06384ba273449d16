"""The script that starts the SLURM of the tests."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm.sh")


@pytest.mark.parametrize(
    ("stubs", "reason"),
    [
        ({"uname": "echo Plan9"}, "SLURM needs Linux"),
        ({"munged": "exit 3", "slurmctld": "", "slurmd": ""}, "munged does not start: "),
        ({"munged": "", "slurmctld": "exit 3", "slurmd": ""}, "slurmctld does not start: "),
    ],
)
def test_where_slurm_does_not_start(tmp_path: Path, stubs: dict[str, str], reason: str) -> None:
    """A line says why, the command does not run, and make learns of it."""
    if "uname" not in stubs and os.geteuid():
        pytest.skip("only root comes as far as to start the programs of SLURM")
    for name, body in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    variables = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(SCRIPT), "touch", str(tmp_path / "ran")]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"slurm: not run: {reason}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists()
