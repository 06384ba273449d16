"""The scripts of docs/examples run, with less of everything."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"
NEEDED: dict[str, dict[str, str]] = {
    "sine.py": {},
    "tabular.py": {"torch": "torch", "sklearn": "scikit-learn"},
    "torchani_clusters.py": {"torch": "torch", "ase": "ase", "pydantic": "pydantic", "torchani": "--no-deps torchani"},
    "se_atten.py": {"deepmd": '"ekfcore[atoms,deepmd]"'},
}


def _run(name: str, *arguments: str) -> str:
    """Return what an example prints."""
    for module, package in NEEDED[name].items():
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"the example needs {module}: pip install {package}")
    command = [sys.executable, "-P", str(EXAMPLES / name), "--quick", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "DEVICE": "cpu", "PYTHONWARNINGS": "ignore"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_every_example_is_tested_and_shown() -> None:
    """None is forgotten here or on the page."""
    names = {path.name for path in EXAMPLES.glob("*.py")}
    page = (EXAMPLES.parent / "tutorials" / "examples.md").read_text(encoding="utf-8")
    assert names == set(NEEDED)
    assert not [name for name in names if f"../examples/{name}" not in page]


@pytest.mark.slow
def test_sine_in_every_library(tmp_path: Path) -> None:
    """Those that are here agree, those that are not are named; and a picture."""
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    lines = _run("sine.py", "--plot", str(tmp_path / "sine.png")).splitlines()
    assert [line.split()[0] for line in lines[:5]] == ["numpy", "torch", "jax.numpy", "cupy", "array_api_strict"]
    assert float(lines[-1].split()[-3]) < 1e-10
    assert (tmp_path / "sine.png").stat().st_size > 10_000


@pytest.mark.slow
def test_tables() -> None:
    """Every optimizer has its line for both tables."""
    lines = _run("tabular.py").splitlines()
    assert [line.split()[0] for line in lines if line.startswith(" ")] == ["filter", "not", "Adam", "Adam", "Adam"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchani_clusters.py", pytest.param("se_atten.py", marks=pytest.mark.deepmd)])
def test_potentials(name: str) -> None:
    """One epoch lowers both errors."""
    before, after = (line.split() for line in _run(name).splitlines() if line.startswith("epoch"))
    assert float(after[2]) < float(before[2])
    assert float(after[4]) < float(before[4])
