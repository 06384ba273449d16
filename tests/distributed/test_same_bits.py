"""The number of ranks changes no bit of a training."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RunRanks = Callable[..., list[tuple[int, str, str]]]

TRAININGS = Path(__file__).parent / "trainings.py"
EPOCHS = 2  # of trainings.py


def _train(run_ranks: RunRanks, data: Path, out: Path, size: int, word: str = "whole") -> Path:
    for code, _, err in run_ranks([TRAININGS, data, out, word], size):
        assert code == 0, err
    return out


def _assert_same(one: Path, other: Path) -> None:
    """Compare weights, P and everything else that is saved of each training, and the errors of all epochs."""
    from ekfcore.training import load_model

    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert names
    for name in names:
        first, second = load_model(one / name), load_model(other / name)
        assert set(first.arrays) == set(second.arrays)
        for array in first.arrays:
            assert np.array_equal(first.arrays[array], second.arrays[array]), (name, array)
        assert dict(first.optimizer) == dict(second.optimizer)
        records = [_timeless(record) for record in first.position.records]
        assert records == [_timeless(record) for record in second.position.records]
        assert len(records) == EPOCHS


def _timeless(record: Any) -> list[str]:
    # As text, for a number that is not there equals itself.
    return [repr(getattr(record, name)) for name in record.__slots__ if name != "wall_s"]


@pytest.fixture(scope="module")
def of_four(run_ranks: RunRanks, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what four ranks have trained."""
    return _train(run_ranks, data, tmp_path_factory.mktemp("four"), 4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
def test_fewer_ranks(run_ranks: RunRanks, data: Path, of_four: Path, tmp_path: Path, size: int) -> None:
    """Presets with rows that join the blocks and without, virials, one element and three, each kind of kernels."""
    _assert_same(_train(run_ranks, data, tmp_path / "run", size), of_four)


@pytest.mark.slow
def test_restart_with_other_ranks(run_ranks: RunRanks, data: Path, of_four: Path, tmp_path: Path) -> None:
    """Four ranks write the files that one writes: one, and three, go on as if nothing had happened."""
    begun = _train(run_ranks, data, tmp_path / "four", 4, "begin")
    for size in (1, 3):
        parts = shutil.copytree(begun, tmp_path / f"then{size}")
        _assert_same(_train(run_ranks, data, parts, size, "resume"), of_four)


@pytest.mark.slow
def test_ranks_learn_what_one_process_learns(data: Path, of_four: Path, tmp_path: Path) -> None:
    """Without ranks, the same mathematics; sums across blocks are rounded in another order."""
    import runpy

    from ekfcore.training import load_model, prepare

    trainings = runpy.run_path(str(TRAININGS))
    for case in trainings["CASES"]:
        name, settings = trainings["describe"](data, *case)
        assert prepare(settings, tmp_path / name).run()
        alone, together = load_model(tmp_path / name), load_model(of_four / name)
        assert dict(alone.optimizer) == dict(together.optimizer)
        np.testing.assert_allclose(together.weights, alone.weights, rtol=0, atol=1e-7)
