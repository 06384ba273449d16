"""What a frame is judged by, with an uncertainty that is known."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

judge = pytest.importorskip("ekfcore.active.acquisition", reason="active learning needs ekfcore[active]")
from ekfcore.active.selection import SelectSettings  # noqa: E402
from ekfcore.potentials.kpu import FrameUncertainty  # noqa: E402 (needs pydantic, as the above)
from ekfcore.training.optimizer_settings import OptimizerSettings  # noqa: E402

FRAMES = [SimpleNamespace(n_atoms=2, bar=bar) for bar in (0.01, 0.1, 0.15, 0.5)]  # [eV/Å]


class Known:
    """Says of a frame the error bar that it carries; no two frames resemble each other."""

    def many(self, frames: list[Any]) -> list[FrameUncertainty]:
        return [FrameUncertainty(energy=0.0, forces=np.full(2, frame.bar**2), atoms=np.arange(2)) for frame in frames]

    def probes(self, frames: list[Any], count: int, rng: np.random.Generator) -> Any:
        Y = np.zeros((len(frames), count + 1, len(FRAMES)))
        for rows, frame in zip(Y, frames, strict=True):
            rows[:, FRAMES.index(frame)] = frame.bar
        return Y


@pytest.mark.parametrize("order", ["greedy", "highest"])
@pytest.mark.parametrize("saved", [True, False])
def test_thresholds_in_electronvolts(monkeypatch: pytest.MonkeyPatch, order: str, saved: bool) -> None:
    """They bound the root of the variance, whichever way frames are taken, and with a model of an older version."""
    monkeypatch.setattr(judge.KalmanUncertainty, "load", lambda *args, **kwargs: Known())
    model = SimpleNamespace(arrays={"noise": np.asarray([0.01, 100.0])} if saved else {})
    settings = SelectSettings.model_validate({"thresholds": "absolute", "low": 0.05, "high": 0.2, "batch": order})
    found = judge.choose(FRAMES, FRAMES, [model], settings, OptimizerSettings(), epochs=3, maximum=4, seed=[0])
    np.testing.assert_allclose(found.values, [0.01, 0.1, 0.15, 0.5])
    assert (found.low, found.high) == (0.05, 0.2)
    assert sorted(found.chosen) == [1, 2]
    assert found.chosen[0] == 2
