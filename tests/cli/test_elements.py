"""Elements that no frame to train on has."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytestmark = pytest.mark.usefixtures("no_plots", "copper_text")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]

_CONFIG = """\
[data]
train = "train.xyz"
{test}
[model]
{elements}
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[optimizer]
block_size = 60
[training]
epochs = 1
"""


def _write(path: Path, *symbols: str) -> None:
    """Write a frame of each of these elements or pairs of them."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    rng, frames = np.random.default_rng(0), []
    for pair in symbols:
        first, _, second = pair.partition(" ")
        atoms = bulk(first, "fcc", a=3.9, cubic=True)
        atoms.symbols[0] = second or first
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(path, frames)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write frames of copper and silver to train on, and others to test on."""
    _write(tmp_path / "train.xyz", "Cu", "Ag", "Cu", "Ag")
    _write(tmp_path / "test.xyz", "Cu", "Cu Au", "Au", "Ag")
    return tmp_path


def _config(folder: Path, *, test: str = 'test = "test.xyz"', elements: str = "") -> Path:
    (folder / "config.toml").write_text(_CONFIG.format(test=test, elements=elements))
    return folder / "config.toml"


def test_only_to_test_on(folder: Path, cli: Cli, refuse: Refuse) -> None:
    """They are named, judge nothing, and the model refuses them from then on."""
    from ekfcore.training import load_model

    code, out, err = cli("train", _config(folder), "--out", folder / "run")
    assert code == 0, err
    assert "no frame to train on holds Au; the model refuses it" in out
    assert "2 of the 4 frames to test on hold it and are left out" in out
    assert load_model(folder / "run").model.unknown == ("Au",)
    line = refuse("test", folder / "run", folder / "test.xyz")
    assert "test.xyz, frame 1 holds Au, of which the model has seen no atom in its training" in line
    assert "Au" in refuse("kpu", folder / "run", folder / "test.xyz", "--out", folder / "kpu")
    _write(folder / "known.xyz", "Cu", "Ag")
    assert cli("test", folder / "run", folder / "known.xyz")[0] == 0


def test_nothing_left_to_test_on(folder: Path, refuse: Refuse) -> None:
    """A test of unknown elements alone is a mistake."""
    _write(folder / "test.xyz", "Au")
    line = refuse("train", _config(folder), "--out", folder / "run")
    assert "all 1 frames to test on hold Au, which no frame to train on has" in line


def test_listed_and_nowhere(folder: Path, cli: Cli) -> None:
    """An element that only CONFIG names; older files, which say nothing of it, know all their elements."""
    from ekfcore.errors import InputError
    from ekfcore.potentials import EKFCalculator

    _write(folder / "test.xyz", "Cu", "Ag")
    path = _config(folder, elements='elements = ["Ag", "Au", "Cu"]')
    code, out, err = cli("train", path, "--out", folder / "run")
    assert code == 0, err
    assert "no frame to train on holds Au" in out
    from ase.build import bulk

    gold: Any = bulk("Au", cubic=True)
    gold.calc = EKFCalculator(folder / "run")
    with pytest.raises(InputError, match="Au4 holds Au, of which the model has seen no atom"):
        gold.get_potential_energy()


def test_learned_later(folder: Path, cli: Cli) -> None:
    """A training that begins with the model and has frames of the element makes it known, normalisation included."""
    from ekfcore.training import load_model

    assert cli("train", _config(folder), "--out", folder / "run")[0] == 0
    old = load_model(folder / "run").model.statistics  # type: ignore[attr-defined]
    _write(folder / "train.xyz", "Cu", "Au", "Ag Au")
    code, out, err = cli("train", _config(folder), "--start", folder / "run", "--out", folder / "more")
    assert code == 0, err
    assert "no frame to train on holds" not in out
    new = load_model(folder / "more").model.statistics  # type: ignore[attr-defined]
    assert new.unknown == ()
    gold = 1  # Ag, Au, Cu
    assert old.energy_bias[gold] == pytest.approx(0.0, abs=1e-9)
    assert new.energy_bias[gold] != pytest.approx(0.0, abs=1e-3)
    assert new.std[gold, 0] > 0.01
    for known in (0, 2):
        np.testing.assert_array_equal(new.mean[known], old.mean[known])
        assert new.energy_bias[known] == old.energy_bias[known]


@pytest.mark.parametrize("seed", range(6))
def test_random_part_to_test_on(folder: Path, seed: int) -> None:
    """A frame of each element stays among those to train on, and no frame is lost."""
    from ekfcore.atoms import read_frames, split_frames

    _write(folder / "train.xyz", *["Cu"] * 8, "Ag", "Cu Au")
    frames = read_frames([str(folder / "train.xyz")])
    train, test = split_frames(frames, 0.5, seed)
    assert {symbol for frame in train for symbol in frame.symbols} == {"Ag", "Au", "Cu"}
    assert len(train) + len(test) == 10
    assert len({id(frame) for frame in [*train, *test]}) == 10


def test_pairs_that_never_meet(folder: Path, cli: Cli) -> None:
    """Elements that are never within the cutoff of each other are named: nothing is known of them together."""
    _write(folder / "test.xyz", "Cu", "Ag")
    out = cli("train", _config(folder), "--out", folder / "run")[1]
    assert "no frame to train on has Ag and Cu within the cutoff of each other" in out
