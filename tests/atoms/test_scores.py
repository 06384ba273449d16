"""Errors of predictions against numbers worked out by hand."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Errors, Frame, errors
from ekfcore.errors import InputError

MakeFrame = Callable[..., Frame]


@pytest.fixture
def two_frames(make_frame: MakeFrame) -> list[Frame]:
    """Return frames of three and of one atom; only the first has a virial."""
    single = make_frame(numbers=np.array([2]), positions=np.zeros((1, 3)), energy=5.0, forces=np.zeros((1, 3)))
    return [make_frame(virial=np.zeros((3, 3))), single]


def _perfect(frame: Frame) -> dict[str, Any]:
    return {"energy": frame.energy, "forces": frame.forces, "virial": np.zeros((3, 3))}


def test_perfect_predictions_have_no_error(two_frames: list[Frame]) -> None:
    """Zero, and the right counts."""
    zeros = dict.fromkeys(["energy_rmse", "energy_mae", "force_rmse", "force_mae", "virial_rmse", "virial_mae"], 0.0)
    assert errors(map(_perfect, two_frames), two_frames) == Errors(
        frames=2, atoms=4, with_energy=2, with_forces=2, **zeros
    )


def test_numbers_by_hand(two_frames: list[Frame]) -> None:
    """Energies count per atom and per frame, forces per component over all frames, virials per atom and component."""
    predictions = [_perfect(frame) for frame in two_frames]
    predictions[0]["energy"] = np.array(-14.0 + 0.03)  # 10 meV/atom
    predictions[1]["energy"] = 5.0 - 0.02  # 20 meV/atom
    predictions[0]["forces"] = predictions[0]["forces"] + np.array([[0.3, 0, 0], [0, -0.4, 0], [0, 0, 0]])
    predictions[1]["forces"] = predictions[1]["forces"] + np.array([[0, 0, 0.5]])
    predictions[0]["virial"] = np.diag([0.03, 0.0, -0.06])  # 10 and 20 meV/atom in two of nine components
    predictions[1]["virial"] = np.full((3, 3), 99.0)  # nothing to compare with
    scores = errors(predictions, two_frames)
    assert scores.energy_rmse == pytest.approx(math.sqrt((10**2 + 20**2) / 2))
    assert scores.energy_mae == pytest.approx(15.0)
    assert scores.force_rmse == pytest.approx(math.sqrt((300**2 + 400**2 + 500**2) / 12))
    assert scores.force_mae == pytest.approx(1200 / 12)
    assert scores.virial_rmse == pytest.approx(math.sqrt((10**2 + 20**2) / 9))
    assert scores.virial_mae == pytest.approx(30 / 9)


KEYS = ["frames", "atoms", "energy_rmse_meV_per_atom", "energy_mae_meV_per_atom", "force_rmse_meV_per_A"]
KEYS += ["force_mae_meV_per_A"]


def test_json_without_virial(two_frames: list[Frame]) -> None:
    """The documented keys and no others, in plain numbers."""
    scores = errors([_perfect(two_frames[1])], two_frames[1:])
    assert (scores.virial_rmse, scores.virial_mae) == (None, None)
    assert list(json.loads(json.dumps(scores.as_json()))) == KEYS


def test_json_with_virial(two_frames: list[Frame]) -> None:
    """Two more keys."""
    scores = errors(map(_perfect, two_frames), two_frames)
    report = json.loads(json.dumps(scores.as_json()))
    assert list(report) == [*KEYS, "virial_rmse_meV_per_atom", "virial_mae_meV_per_atom"]
    assert (report["frames"], report["atoms"]) == (2, 4)


def test_model_without_virial(two_frames: list[Frame]) -> None:
    """A virial that is not predicted is not compared."""
    predictions = [{"energy": frame.energy, "forces": frame.forces} for frame in two_frames]
    assert errors(predictions, two_frames).virial_rmse is None


def test_large_energies_keep_their_digits(make_frame: MakeFrame) -> None:
    """0.1 meV on top of -358000 eV, which single precision cannot hold."""
    frame = make_frame(energy=-358000.0)
    scores = errors([{"energy": -358000.0 + 1e-4, "forces": frame.forces}], [frame])
    assert scores.energy_mae == pytest.approx(0.1 / 3, rel=1e-5)


def test_prediction_that_is_not_finite_shows(two_frames: list[Frame]) -> None:
    """It must not hide in an average."""
    predictions = [{**_perfect(frame), "energy": math.nan} for frame in two_frames]
    assert math.isnan(errors(predictions, two_frames).energy_rmse)


def test_nothing_to_compare(make_frame: MakeFrame) -> None:
    """No frames, or frames without labels."""
    with pytest.raises(InputError, match="no frames to compare predictions with"):
        errors([], [])
    with pytest.raises(InputError, match=r"water\.xyz, frame 3: has no energy, forces or virial"):
        errors([{"energy": 0.0, "forces": np.zeros((3, 3))}], [make_frame(energy=None, forces=None, virial=None)])


def test_missing_labels(two_frames: Any) -> None:
    """Each error is over the frames that have the label, and nan over none."""
    predictions = [{**_perfect(frame), "energy": frame.energy + 0.5 * frame.n_atoms} for frame in two_frames]
    found = errors(predictions, [replace(two_frames[0], forces=None), replace(two_frames[1], energy=None)])
    assert (found.with_energy, found.with_forces) == (1, 1)
    assert found.energy_rmse == pytest.approx(500.0)
    assert found.force_rmse == 0.0
    assert {"frames_with_energy", "frames_with_forces"} <= set(found.as_json())
    bare = errors(predictions, [replace(frame, forces=None) for frame in two_frames])
    assert math.isnan(bare.force_rmse)
    assert "force_rmse_meV_per_A" not in bare.as_json()
