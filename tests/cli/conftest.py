"""A small data set, a small CONFIG, and a way to run commands."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_CONFIG = """\
[data]
train = "copper.xyz"
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[optimizer]
block_size = 40
[training]
epochs = 2
"""


@pytest.fixture(scope="session")
def copper_text() -> str:
    """Return a dozen frames of 8 atoms of copper as extended XYZ, labelled with ASE's EMT."""
    pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
    for package in ("scipy", "vesin", "pydantic", "rich", "matplotlib", "psutil"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')
    from io import StringIO

    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    rng = np.random.default_rng(0)
    frames = []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    text = StringIO()
    write(text, frames, format="extxyz")
    return text.getvalue()


@pytest.fixture
def config(tmp_path: Path, copper_text: str) -> Path:
    """Write the data and a CONFIG that trains on it; return its path."""
    (tmp_path / "copper.xyz").write_text(copper_text, encoding="utf-8")
    (tmp_path / "config.toml").write_text(_CONFIG, encoding="utf-8")
    return tmp_path / "config.toml"


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Return a function that runs a command here and returns its exit code, stdout and stderr."""
    from ekfcore.cli import main

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refuse(cli: Callable[..., tuple[int, str, str]]) -> Callable[..., str]:
    """Return a function that runs a command which must fail as a user's mistake, and returns the one line."""

    def run(*words: object) -> str:
        code, _, err = cli(*words)
        assert code == 2, err
        assert err.startswith("ekfcore: error: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        assert "Traceback" not in err
        return err

    return run


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the plots out, which take longer than these trainings."""
    pytest.importorskip("ekfcore.cli._training", reason="training needs ekfcore[atoms]")
    monkeypatch.setattr("ekfcore.cli._training.write_plots", lambda trainer, folder: None)


@pytest.fixture
def start(tmp_path: Path, without_torch: dict[str, str]) -> Callable[..., "subprocess.Popen[str]"]:
    """Return a function that starts a command as a process of its own."""

    def run(*words: object, before: str = "") -> "subprocess.Popen[str]":
        code = f"import sys\n{before}\nfrom ekfcore.cli import main; sys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *map(str, words)],
            cwd=tmp_path,
            env=os.environ | without_torch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run
