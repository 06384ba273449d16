"""The pictures: that they are there, and say the right numbers."""

import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "ekfcore[atoms]"')

import matplotlib as mpl

from ekfcore.atoms import Frame
from ekfcore.errors import InputError
from ekfcore.plots.training import plot_learning_curve, plot_parity
from ekfcore.training import EpochRecord


def _records(count: int) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch,
            step=epoch,
            wall_s=1.0,
            lam=0.99,
            energy_rmse_train=10.0 / epoch,
            energy_rmse_test=12.0 / epoch,
            force_rmse_train=100.0 / epoch,
            force_rmse_test=float("nan") if epoch == 2 else 120.0 / epoch,
        )
        for epoch in range(1, count + 1)
    ]


def _frames(count: int, n_atoms: int) -> list[Frame]:
    rng = np.random.default_rng(0)
    return [
        Frame(
            numbers=np.full(n_atoms, 29),
            positions=np.zeros((n_atoms, 3)),
            cell=np.eye(3),
            pbc=np.ones(3, dtype=np.bool_),
            energy=-3.0 * n_atoms + index,
            forces=rng.normal(size=(n_atoms, 3)),
            source=f"frame {index}",
        )
        for index in range(count)
    ]


def _shifted(frame: Frame, energy: float, force: float) -> dict[str, object]:
    assert frame.energy is not None
    assert frame.forces is not None
    return {"energy": np.asarray(frame.energy + energy), "forces": frame.forces + force}


@pytest.mark.parametrize("count", [1, 2, 40])
def test_learning_curve_is_a_picture(tmp_path: Path, count: int) -> None:
    """Any number of epochs, a NaN among them."""
    plot_learning_curve(_records(count), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_learning_curve_names_quantities_and_units(tmp_path: Path) -> None:
    """In an SVG, matplotlib writes each text as a comment beside its outline."""
    plot_learning_curve(_records(3), tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text(encoding="utf-8")
    for text in ("Energy RMSE [meV/atom]", "Force RMSE [meV/Å]", "Epoch", "train", "test"):
        assert f"<!-- {text} -->" in drawn


def test_learning_curve_needs_an_epoch(tmp_path: Path) -> None:
    """No empty picture."""
    with pytest.raises(InputError, match="at least one epoch"):
        plot_learning_curve([], tmp_path / "curve.png")


@pytest.mark.parametrize(("count", "n_atoms"), [(1, 1), (20, 4), (20, 100)])
def test_parity_tells_the_errors(tmp_path: Path, count: int, n_atoms: int) -> None:
    """Predictions that are off by a constant have that constant for their RMSE; few points and many."""
    frames = _frames(count, n_atoms)
    predictions = [_shifted(frame, energy=0.002 * n_atoms, force=0.03) for frame in frames]
    plot_parity(frames, predictions, tmp_path / "parity.svg")
    drawn = (tmp_path / "parity.svg").read_text(encoding="utf-8")
    for text in ("RMSE 2 meV/atom", "RMSE 30 meV/Å", "Label [meV/atom]", "Prediction [eV/Å]"):
        assert f"<!-- {text} -->" in drawn


def test_parity_survives_a_model_that_went_astray(tmp_path: Path) -> None:
    """NaN is left out, not raised."""
    frames = _frames(12, 2)
    predictions = [_shifted(frame, energy=float("nan"), force=0.1) for frame in frames]
    plot_parity(frames, predictions, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").read_bytes().startswith(b"\x89PNG")


def test_plots_leave_matplotlib_alone(tmp_path: Path) -> None:
    """A program that draws its own pictures finds its settings as they were, and no open figures."""
    before = dict(mpl.rcParams)
    had_pyplot = "matplotlib.pyplot" in sys.modules
    plot_learning_curve(_records(2), tmp_path / "curve.png")
    plot_parity(_frames(2, 2), [_shifted(frame, 0.0, 0.0) for frame in _frames(2, 2)], tmp_path / "parity.png")
    assert dict(mpl.rcParams) == before
    assert ("matplotlib.pyplot" in sys.modules) == had_pyplot
