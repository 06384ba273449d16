"""``ekfcore inspect``, and what ``ekfcore train`` says of its data."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., tuple[int, str, str]]


def _with_zero_forces(text: str, index: int) -> str:
    """Return extended XYZ with the forces of one frame, of eight atoms, set to zero."""
    lines = text.splitlines()
    first = 10 * index + 2
    lines[first : first + 8] = [" ".join([*line.split()[:-3], "0 0 0"]) for line in lines[first : first + 8]]
    return "\n".join(lines) + "\n"


@pytest.fixture
def broken(tmp_path: Path, copper_text: str) -> Path:
    """Write copper whose frame 3 has no forces to speak of."""
    path = tmp_path / "broken.xyz"
    path.write_text(_with_zero_forces(copper_text, 3), encoding="utf-8")
    return path


def test_clean_data(config: Path, cli: Cli) -> None:
    """One screen, of 80 columns, with nothing to look at."""
    code, out, err = cli("inspect", config.parent / "copper.xyz")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) <= 30
    assert all(len(line) <= 80 or str(config.parent) in line for line in lines)
    assert "12 of 8 atoms, 96 atoms in all" in out
    assert "12 periodic; 11.76 Å^3/atom, 8.972 g/cm^3" in out
    assert lines[-1].split() == ["to", "look", "at", "nothing"]


def test_fault_and_picture(broken: Path, tmp_path: Path, cli: Cli) -> None:
    """The frame is named, the picture drawn, and the exit code is that of success."""
    code, out, _ = cli("inspect", broken, "--plot", tmp_path / "data.png")
    assert code == 0
    assert "frame 3: all forces are exactly 0" in " ".join(out.split())
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")


def test_config(config: Path, copper_text: str, cli: Cli) -> None:
    """Train and test of CONFIG are compared."""
    half = copper_text.splitlines()
    (config.parent / "copper.xyz").write_text("\n".join(half[:60]) + "\n", encoding="utf-8")
    (config.parent / "test.xyz").write_text("\n".join(half[40:]) + "\n", encoding="utf-8")
    config.write_text(config.read_text().replace("[model]", 'test = "test.xyz"\n[model]'), encoding="utf-8")
    code, out, _ = cli("inspect", config)
    assert code == 0
    assert "14 (6 to train on, 8 to test on) of 8 atoms" in out
    assert "test.xyz, frames 0, 1: to test on, and the same as frames to train on" in " ".join(out.split())


def test_config_stands_alone(config: Path, refuse: Callable[..., str]) -> None:
    """A CONFIG among files is a mistake; so is one that is not there."""
    assert "give it alone" in refuse("inspect", config, config.parent / "copper.xyz")
    assert "missing.toml" in refuse("inspect", config.parent / "missing.toml")
    assert "no such file" in refuse("inspect", config.parent / "missing.xyz")


def test_unlabelled_data(tmp_path: Path, cli: Cli) -> None:
    """Frames need no labels to be looked at; JSON that is no input is data."""
    pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
    path = tmp_path / "water.xyz"
    path.write_text("3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n", encoding="utf-8")
    code, out, _ = cli("inspect", path)
    assert code == 0
    assert "1 isolated" in out
    assert out.count("none") == 3
    (tmp_path / "data.json").write_text(json.dumps([1]), encoding="utf-8")
    code, _, err = cli("inspect", tmp_path / "data.json")
    assert code == 2
    assert "cannot be read" in err or "holds no frames" in err


@pytest.mark.usefixtures("no_plots")
def test_train_warns_and_goes_on(config: Path, copper_text: str, cli: Cli, tmp_path: Path) -> None:
    """One line names the file and the frame; the training is made all the same."""
    (config.parent / "copper.xyz").write_text(_with_zero_forces(copper_text, 3), encoding="utf-8")
    code, out, err = cli("train", config, "--out", tmp_path / "run", "--set", "training.epochs=1")
    assert code == 0, err
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "copper.xyz, frame 3: all forces are exactly 0" in warnings[0]
    assert "Model, metrics and plots are in" in out
