"""``ekfcore kpu``: what it prints and writes, and what it refuses."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]

_COLUMNS = ["frame", "natoms", "kpu_energy", "kpu_force_mean", "kpu_force_max", "energy_error", "force_rmse"]


@pytest.fixture
def run(tmp_path: Path, config: Path, cli: Cli) -> Path:
    """Return the folder of a short training."""
    assert cli("train", config, "--out", tmp_path / "run")[0] == 0
    return tmp_path / "run"


def _table(folder: Path) -> list[dict[str, str]]:
    with (folder / "kpu.csv").open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-8), ("float32", 1e-2)])
def test_labelled_frames(tmp_path: Path, run: Path, cli: Cli, precision: str, tolerance: float) -> None:
    """The table has the numbers of the library, and errors are those of `ekfcore test`.

    In single precision a KPU that is far below the variance of the blocks alone keeps some digits.
    """
    from ekfcore.atoms import read_frames
    from ekfcore.potentials.kpu import KalmanUncertainty

    data, out = tmp_path / "copper.xyz", tmp_path / "kpu"
    words = ["--fraction", "0.75", "--seed", "3", "--threads", "1", "--precision", precision]
    code, text, err = cli("kpu", run, data, "--out", out, *words)
    assert (code, err) == (0, "")
    assert text.startswith("12 frames, forces on 72 atoms\n")
    assert sorted(path.name for path in out.iterdir()) == ["kpu.csv", "kpu.png", "model_devi.out"]
    rows = _table(out)
    assert list(rows[0]) == _COLUMNS
    uncertainty = KalmanUncertainty.load(run, fraction=0.75, seed=3)
    found = [uncertainty(frame) for frame in read_frames(data)]
    for name in ("energy", "force_mean", "force_max"):
        values = [float(row[f"kpu_{name}"]) for row in rows]
        assert values == pytest.approx([getattr(one, name) for one in found], rel=tolerance)
    report = json.loads(cli("test", run, data, "--json")[1])
    rms = {name: 1e3 * np.sqrt(np.mean([float(row[name]) ** 2 for row in rows])) for name in _COLUMNS[5:]}
    assert rms["force_rmse"] == pytest.approx(report["force_rmse_meV_per_A"], rel=1e-6)
    assert rms["energy_error"] == pytest.approx(report["energy_rmse_meV_per_atom"], rel=1e-6)


def test_json_and_dpgen(tmp_path: Path, run: Path, cli: Cli) -> None:
    """One object; the deviations are the roots of the variances, in DP-GEN's columns, whatever factor was found."""
    data, out = tmp_path / "copper.xyz", tmp_path / "kpu"
    code, text, _ = cli("kpu", run, data, "--calibrate", data, "--out", out, "--json")
    report = json.loads(text)
    assert code == 0
    names = {"frames", "atoms", "kpu_force_mean", "kpu_force_max", "rank_correlation_frames", "rank_correlation_atoms"}
    assert set(report) == names | {"factor", "within_one_sigma", "within_two_sigma"}
    header, *_ = (out / "model_devi.out").read_text(encoding="utf-8").splitlines()
    assert header.split() == ["#", "step", *(f"{k}_devi_{q}" for q in "vf" for k in ("max", "min", "avg"))]
    numbers = np.loadtxt(out / "model_devi.out")
    largest = [float(row["kpu_force_max"]) for row in _table(out)]
    np.testing.assert_allclose(numbers[:, 4], np.sqrt(largest), rtol=1e-5)
    assert np.all(numbers[:, 5] <= numbers[:, 6])
    assert np.all(numbers[:, 6] <= numbers[:, 4])


def test_frames_without_labels(tmp_path: Path, run: Path, cli: Cli) -> None:
    """Uncertainty needs none: the columns of errors are empty; held-out frames are still checked."""
    from ase.io import read, write

    frames = read(tmp_path / "copper.xyz", ":")
    for frame in frames:
        frame.calc = None
    bare, out = tmp_path / "bare.xyz", tmp_path / "kpu"
    write(bare, frames)
    assert cli("kpu", run, bare, "--out", out)[0] == 0
    assert {row["force_rmse"] + row["energy_error"] for row in _table(out)} == {""}
    report = json.loads(cli("kpu", run, bare, "--out", out, "--json")[1])
    assert "factor" not in report
    report = json.loads(cli("kpu", run, bare, "--out", out, "--json", "--calibrate", tmp_path / "copper.xyz")[1])
    assert report["factor"] > 0


def test_mistakes(tmp_path: Path, run: Path, config: Path, cli: Cli, refuse: Refuse) -> None:
    """One line each."""
    data = tmp_path / "copper.xyz"
    assert "`fraction` must be above 0 and at most 1, got 1.5" in refuse("kpu", run, data, "--fraction", "1.5")
    config.write_text(
        config.read_text(encoding="utf-8").replace("block_size = 40", 'preset = "adam"'), encoding="utf-8"
    )
    assert cli("train", config, "--out", tmp_path / "adam")[0] == 0
    assert "keeps no covariance" in refuse("kpu", tmp_path / "adam", data)
    assert cli("kpu", tmp_path / "adam", data, "--refresh", data, "--out", tmp_path / "kpu")[0] == 0
    assert "has no forces" in refuse("kpu", run, data, "--calibrate", _unlabelled(tmp_path))
    assert "cannot be written" in refuse("kpu", run, data, "--out", data)


def _unlabelled(folder: Path) -> Path:
    from ase.build import bulk
    from ase.io import write

    write(folder / "bulk.xyz", bulk("Cu"))
    return folder / "bulk.xyz"
