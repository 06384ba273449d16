"""Uncertainties on several ranks: each takes its share of the frames, and all have what one process finds."""

import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.ranks import ALONE, Ranks

RunRanks = Callable[..., list[tuple[int, str, str]]]
Together = Callable[[int, Callable[[Any], Any]], list[Any]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training of one epoch."""
    from ekfcore.training import Settings, prepare

    folder = tmp_path_factory.mktemp("model")
    settings = {
        "data": {"train": [str(data / "three.xyz")]},
        "model": {"cutoff": 4.0, "embedding": [4], "axis": 2, "fitting": [6]},
        "optimizer": {"block_size": 40},
        "training": {"epochs": 1, "batch": 4},
    }
    assert prepare(Settings.from_json(settings), folder).run()
    return folder


def _words(model: Path, data: Path, out: Path, *words: object) -> list[object]:
    return ["-m", "ekfcore", "kpu", model, data / "three.xyz", "--out", out, *words]


@pytest.mark.parametrize(("backend", "fresh"), [("numpy", False), ("torch", True)])
def test_files_of_one_process(
    model: Path, data: Path, run_ranks: RunRanks, tmp_path: Path, backend: str, fresh: bool
) -> None:
    """The same bytes from any number of ranks, of which rank 0 alone talks; with P of the training, or a fresh one."""
    words = ["--backend", backend, *(["--refresh", data / "three.xyz", "--calibrate", data / "one.xyz"] * fresh)]
    told = {}
    for size in (1, 2, 3):
        (code, out, err), *others = run_ranks(_words(model, data, tmp_path / str(size), *words), size)
        assert (code, err) == (0, "")
        assert others == [(0, "", "")] * (size - 1)
        told[size] = out.replace(str(tmp_path / str(size)), "DIR")
    assert told[1] == told[2] == told[3]
    for path in (tmp_path / "1").iterdir():
        for size in (2, 3):
            assert (tmp_path / str(size) / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("covariance", ["filter", "fresh"])
def test_choice_of_one_process(
    model: Path, data: Path, together: Together, monkeypatch: pytest.MonkeyPatch, covariance: str
) -> None:
    """The same frames, uncertainties to the bit, and every gradient found by one rank."""
    from ekfcore.active.acquisition import choose
    from ekfcore.active.selection import SelectSettings
    from ekfcore.atoms import read_frames
    from ekfcore.potentials.gradients import frame_gradients
    from ekfcore.training import load_model
    from ekfcore.training.optimizer_settings import OptimizerSettings

    frames, trained = read_frames([data / "three.xyz"]), load_model(model)
    settings = SelectSettings.model_validate({"low": 0.5, "high": 1e3, "covariance": covariance})
    calls, lock = Counter[int](), threading.Lock()

    def counted(*args: Any) -> Any:
        with lock:
            calls[len(args[3])] += 1
        return frame_gradients(*args)

    monkeypatch.setattr("ekfcore.potentials.kpu.frame_gradients", counted)
    monkeypatch.setattr("ekfcore.potentials.refresh.frame_gradients", counted)

    def work(ranks: Ranks) -> Any:
        return choose(
            frames, frames[:5], [trained], settings, OptimizerSettings(), epochs=3, maximum=4, seed=[0], ranks=ranks
        )

    alone = work(ALONE)
    assert alone.chosen
    once = calls.copy()
    for size in (2, 3):
        calls.clear()
        for found in together(size, work):
            assert found.chosen == alone.chosen
            assert found.outcomes == alone.outcomes
            np.testing.assert_array_equal(found.values, alone.values)
        assert calls == once


_CHANGED = """\
import os, runpy, sys
import ekfcore.atoms
if os.environ["RANK"] == "1":
    read = ekfcore.atoms.read_frames
    ekfcore.atoms.read_frames = lambda *args, **options: read(*args, **options)[:-1]
sys.argv[0] = "ekfcore"
runpy.run_module("ekfcore", run_name="__main__")
"""


def test_other_data_on_one_rank(model: Path, data: Path, run_ranks: RunRanks, tmp_path: Path) -> None:
    """One line from rank 0, and nothing written."""
    (code, out, err), other = run_ranks(["-c", _CHANGED, *_words(model, data, tmp_path / "kpu")[2:]], 2)
    assert (code, out) == (2, "")
    assert err.startswith("ekfcore: error: rank 1 has other data than rank 0: 8 frames, digest ")
    assert err.count("\n") == 1
    assert other == (2, "", "")
    assert not (tmp_path / "kpu").exists()


_KILLED = """\
import os, runpy, signal, sys
from ekfcore.potentials.kpu import KalmanUncertainty
if os.environ["RANK"] == "1":
    KalmanUncertainty.many = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
sys.argv[0] = "ekfcore"
runpy.run_module("ekfcore", run_name="__main__")
"""


def test_a_rank_dies(model: Path, data: Path, run_ranks: RunRanks, tmp_path: Path) -> None:
    """The other ends with a line."""
    (code, _, err), other = run_ranks(["-c", _KILLED, *_words(model, data, tmp_path / "kpu")[2:]], 2)
    assert (code, other[0]) == (2, -signal.SIGKILL)
    assert err.count("\n") == 1
    assert "rank 0 has lost the others" in err


_TERMINATED = """\
import os, runpy, signal, sys, time
from ekfcore.errors import InputError
from ekfcore.potentials.kpu import KalmanUncertainty
def many(*args):
    if {fails} and os.environ["RANK"] == "1":
        raise InputError("what went wrong")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3000)
KalmanUncertainty.many = many
sys.argv[0] = "ekfcore"
runpy.run_module("ekfcore", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("fails", "told"), [(False, "rank 0 was told to end, by SIGTERM"), (True, "rank 1: what went wrong")]
)
def test_sigterm(model: Path, data: Path, run_ranks: RunRanks, tmp_path: Path, fails: bool, told: str) -> None:
    """From a queue system it ends all; from a launcher, which sends it when a rank has failed, the reason is told."""
    code = _TERMINATED.format(fails=fails)
    (code0, _, err), other = run_ranks(["-c", code, *_words(model, data, tmp_path / "kpu")[2:]], 2)
    assert (code0, err.count("\n")) == (2, 1)
    assert err.startswith(f"ekfcore: error: {told}")
    assert other == (2, "", "")


@pytest.mark.parametrize("words", [["learn", "config.toml"], ["test", "run", "x.xyz"], ["info"]])
def test_commands_of_one_process(run_ranks: RunRanks, words: list[str]) -> None:
    """They say so in one line, whatever else is wrong."""
    (code, out, err), other = run_ranks(["-m", "ekfcore", *words], 2)
    assert (code, out) == (2, "")
    assert f"`ekfcore {words[0]}` runs in one process, got 2 ranks; start it without torchrun and srun" in err
    assert err.count("\n") == 1
    assert other == (2, "", "")
