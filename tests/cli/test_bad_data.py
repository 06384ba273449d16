"""Data that cannot be trained on: one line that names the file, the frame and what is wrong with it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Refuse = Callable[..., str]


def _without(pattern: str) -> Callable[[str], str]:
    return lambda text: re.sub(pattern, "", text)


def _last_force_is_nan(text: str) -> str:
    lines = text.splitlines()
    lines[2] = f"{lines[2].rsplit(maxsplit=1)[0]} nan"
    return "\n".join(lines) + "\n"


def _overlap(text: str) -> str:
    lines = text.splitlines()
    lines[3] = lines[2]
    return "\n".join(lines) + "\n"


def _two_force_components(text: str) -> str:
    lines = [line.rsplit(maxsplit=1)[0] if line.startswith("Cu") else line for line in text.splitlines()]
    return "\n".join(lines).replace("forces:R:3", "forces:R:2") + "\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda text: "", ["copper.xyz", "empty"], id="empty file"),
        pytest.param(
            lambda text: _without(r" energy=\S+| free_energy=\S+| stress=\"[^\"]*\"")(text).replace(
                "forces:R:3", "velocities:R:3"
            ),
            ["copper.xyz, frame 0", "no energy, forces or virial"],
            id="no labels",
        ),
        pytest.param(
            lambda text: re.sub(r"energy=\S+", "energy=nan", text),
            ["frame 0", "energy", "finite", "nan"],
            id="NaN energy",
        ),
        pytest.param(_last_force_is_nan, ["frame 0", "forces of atom 0", "finite", "nan"], id="NaN force"),
        pytest.param(_two_force_components, ["copper.xyz, frame 0", "(8, 3)", "(8, 2)"], id="wrong shape"),
        pytest.param(lambda text: text[:-100], ["copper.xyz", "cannot be read"], id="cut off"),
        pytest.param(_overlap, ["copper.xyz, frame 0", "atom 0", "atom 1", "at least 0.1"], id="overlapping atoms"),
        pytest.param(
            lambda text: re.sub(r'Lattice="[^"]*"', 'Lattice="3.6 0 0 3.6 0 0 0 0 3.6"', text),
            ["copper.xyz, frame 0", "volume"],
            id="cell without volume",
        ),
    ],
)
@pytest.mark.parametrize("command", ["train", "test"])
def test_bad_frames(
    tmp_path: Path,
    config: Path,
    copper_text: str,
    cli: Callable[..., tuple[int, str, str]],
    refuse: Refuse,
    command: str,
    change: Callable[[str], str],
    words: list[str],
) -> None:
    """Both commands that read labelled frames refuse them."""
    out, data = tmp_path / "run", tmp_path / "copper.xyz"
    if command == "test":
        assert cli("train", config, "--out", out, "--set", "training.epochs=1")[0] == 0
    data.write_text(change(copper_text), encoding="utf-8")
    line = refuse("train", config, "--out", out) if command == "train" else refuse("test", out, data)
    assert not [word for word in words if word not in line], line


def test_missing_file(config: Path, tmp_path: Path, refuse: Refuse) -> None:
    """The path is told, and nothing was made."""
    line = refuse("train", config, "--out", tmp_path / "run", "--set", 'data.train=["none.xyz"]')
    assert f"{tmp_path / 'none.xyz'}: no such file" in line
    assert not (tmp_path / "run").exists()


def test_unknown_element(
    config: Path, tmp_path: Path, copper_text: str, cli: Callable[..., tuple[int, str, str]], refuse: Refuse
) -> None:
    """A model of copper knows no silver, and a model of silver cannot be trained on copper."""
    assert cli("train", config, "--out", tmp_path / "run", "--set", "training.epochs=1")[0] == 0
    (tmp_path / "silver.xyz").write_text(copper_text.replace("Cu ", "Ag "), encoding="utf-8")
    line = refuse("test", tmp_path / "run", tmp_path / "silver.xyz")
    assert "silver.xyz, frame 0 holds Ag" in line
    assert "its elements are Cu" in line
    assert "Cu" in refuse("train", config, "--out", tmp_path / "run-2", "--set", 'model.elements=["Ag"]')


def test_too_few_frames_to_test_on(config: Path, tmp_path: Path, refuse: Refuse) -> None:
    """A fraction that leaves nothing."""
    line = refuse("train", config, "--out", tmp_path / "run", "--set", "data.test_fraction=0.01")
    assert "test_fraction = 0.01" in line


def test_no_neighbours(config: Path, tmp_path: Path, refuse: Refuse) -> None:
    """A cutoff that no pair of atoms is within is a mistake in it or in the data."""
    line = refuse("train", config, "--out", tmp_path / "run", "--set", "model.cutoff=0.6")
    assert "model.cutoff = 0.6 Å" in line
