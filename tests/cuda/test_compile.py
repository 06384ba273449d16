"""CUDA C compiles for the GPUs that people have, in both precisions."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("options", [["-DREAL=double", "-DROWS=8"], ["-DREAL=float", "-DROWS=1"]], ids="".join)
def test_compiles(kernel_file: Path, architecture: str, options: list[str], tmp_path: Path) -> None:
    """Without a warning, and with all local arrays in registers."""
    if shutil.which("nvcc") is None:
        pytest.skip("needs nvcc, the compiler of the CUDA toolkit")
    command = ["nvcc", "-cubin", f"-arch={architecture}", "-Werror", "all-warnings", "-Xptxas", "-v", *options]
    run = subprocess.run(
        [*command, "-o", str(tmp_path / "kernels.cubin"), str(kernel_file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores", run.stderr)
    assert frames
    assert set(frames) == {("0", "0")}
