"""Model files of earlier versions load, predict what they predicted, and go on to the same weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.errors import CheckpointError

pytest.importorskip("pydantic", reason="a model file needs ekfcore[atoms]")
pytest.importorskip("ase", reason="frames need ekfcore[atoms]")

from ekfcore.atoms import read_frames
from ekfcore.potentials import evaluate, load_model
from ekfcore.potentials.upgrades import FORM, upgraded
from ekfcore.training import Settings, Trainer, prepare
from ekfcore.training.kalman import KalmanOptimizer

FILES = Path(__file__).resolve().parents[1] / "files"
NAMES = sorted(path.stem for path in FILES.glob("*.npz"))
ROUNDING = 1e-11  # of another processor; on the machine that made the files, the bits are the same


def _settings(preset: str) -> Settings:
    data = {"train": [str(FILES / "frames.xyz")], "test": [str(FILES / "test.xyz")]}
    form: dict[str, Any] = {"cutoff": 4.5, "cutoff_smooth": 1.0, "embedding": [2, 4], "axis": 2, "fitting": [4]}
    return Settings.from_json({"data": data, "model": form, "optimizer": {"preset": preset}, "training": {"epochs": 3}})


@pytest.mark.parametrize("name", NAMES)
def test_predicts_what_it_predicted(name: str) -> None:
    """Energy and forces of a frame that it had not seen."""
    loaded, told = load_model(FILES / f"{name}.npz"), json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))
    (found,) = evaluate(loaded.model, loaded.weights, read_frames([str(FILES / "test.xyz")])[:1])
    np.testing.assert_allclose(found["energy"], told["energy"], rtol=1e-12)
    np.testing.assert_allclose(found["forces"], told["forces"], rtol=1e-9, atol=1e-12)


def _resumed(name: str, run: Path) -> Trainer:
    run.mkdir()
    shutil.copy(FILES / f"{name}.npz", run / "model.npz")
    return prepare(_settings(name.partition("-")[0]), run, resume=True)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("recommended")])
def test_goes_on_to_the_same_weights(name: str, tmp_path: Path) -> None:
    """A third epoch ends where that version ended, with the presets that never change."""
    _resumed(name, tmp_path / "run").run()
    told = json.loads((FILES / f"{name}.json").read_text(encoding="utf-8"))
    weights = load_model(tmp_path / "run").weights
    np.testing.assert_allclose(weights, told["resumed"], rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("recommended")])
def test_the_default_goes_on_from_what_it_knew(name: str, tmp_path: Path) -> None:
    """Its noise is another one today, so that it ends elsewhere; nothing of its state is lost."""
    trainer = _resumed(name, tmp_path / "run")
    optimizer, saved = trainer.optimizer, np.load(FILES / f"{name}.npz")
    assert isinstance(optimizer, KalmanOptimizer)
    state = optimizer.state
    np.testing.assert_array_equal(state.average, saved["average"])
    np.testing.assert_array_equal(state.covariance.traces, saved["traces"])
    np.testing.assert_array_equal([state.noise.mean, state.noise.weight], saved["noise"])
    assert state.noise.first == state.noise.mean  # which that version did not keep
    trainer.run()
    assert np.all(np.isfinite(load_model(tmp_path / "run").weights))


def test_there_is_a_file_of_every_form() -> None:
    """Those before the present one have a file each, and each step of the chain is taken by one."""
    assert NAMES
    assert FORM == 2


def test_a_file_of_a_later_version() -> None:
    """It is refused by name, not for what it lacks."""
    with pytest.raises(CheckpointError, match="was written by a later version of ekfcore"):
        upgraded({"form": FORM + 1})
