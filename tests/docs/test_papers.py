"""The curves that the scripts of docs/experiments keep, and what these make of curves whose answers are known."""

import csv
import math
import re
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ekfcore.errors import FilterError, InputError
from ekfcore.files import locked

for _package in ("ase", "matplotlib", "pydantic", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[atoms]"')

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "docs" / "experiments"
BUILT_IN = ROOT / "ekfcore" / "demo"
Import = Callable[[str], ModuleType]


@pytest.fixture
def curves(script: Import) -> ModuleType:
    """Return docs/experiments/curves.py."""
    return script("curves")


def _run(curves: ModuleType, **changed: Any) -> Any:
    """Return a training of a second."""
    kind = {"set": "built-in", "settings": curves.TINY, "epochs": 2, "seed": 3, "frames": 4, "marks": ("2f", "1")}
    return curves.Run(**{**kind, **changed})


def test_fewer_frames_to_learn_from_and_to_judge_by(curves: ModuleType, tmp_path: Path) -> None:
    """Each part has its own limit; the first and the last frame stay, as the others are evenly spaced."""
    trainer = curves.trainer_of(_run(curves, frames=4, judged=3), Path(), tmp_path)
    assert (len(trainer.train), len(trainer.test)) == (4, 3)
    (tmp_path / "all").mkdir()
    whole = curves.trainer_of(_run(curves, frames=4), Path(), tmp_path / "all").test.frames
    assert [frame.energy for frame in trainer.test.frames][::2] == [whole[0].energy, whole[-1].energy]
    assert _run(curves, judged=3).path != _run(curves).path


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 5])
def test_curve_is_what_the_command_trains(batch: int, curves: ModuleType, tmp_path: Path) -> None:
    """The errors after whole epochs are those of `ekfcore train` to the digits that are kept; it trains only once."""
    from ekfcore.training import load_settings, prepare

    run = _run(curves, frames=None, settings=f"{curves.TINY} training.batch={batch}", epochs=2)
    rows = curves.curve(run, Path(), tmp_path / run.path)
    overrides = [f"model.{key}" for key in ("embedding=[4,8]", "axis=4", "fitting=[8]")]
    settings = load_settings(
        BUILT_IN / "demo.toml", [*overrides, f"training.batch={batch}", "training.epochs=2", "training.seed=3"]
    )
    trainer = prepare(settings, tmp_path / "run")
    trainer.run()
    whole = [row for row in rows if row.epoch == int(row.epoch)]
    assert [row.frames for row in rows] == [batch * -(-2 // batch), 96, 192]
    for row, record in zip(whole, trainer.records, strict=True):
        for column in row._fields[3:]:
            assert getattr(row, column) == pytest.approx(getattr(record, column), rel=1e-5)
    assert math.isnan(rows[0].force_rmse_train)
    assert [row.seconds for row in rows] == sorted(row.seconds for row in rows)
    written = (tmp_path / run.path).stat().st_mtime_ns
    np.testing.assert_array_equal(curves.curve(run, Path("no such folder"), tmp_path / run.path), rows)
    assert (tmp_path / run.path).stat().st_mtime_ns == written


def test_interrupted_run_starts_again(curves: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen so far can be read, but no curve is there before all of it is; then it is."""
    run, path = _run(curves), tmp_path / "curve.csv"
    rows = [curves.Row(0.5, 2, 1.0, 3.0, 4.0), curves.Row(1.0, 4, 2.0, 1.0, 2.0)]

    def stopped(run: object, data: Path) -> Iterator[Any]:
        yield rows[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(curves, "train", stopped)
    with pytest.raises(KeyboardInterrupt):
        curves.curve(run, Path(), path)
    assert [found.name for found in tmp_path.iterdir()] == ["curve.part"]
    np.testing.assert_array_equal(curves.read_curve(tmp_path / "curve.part"), rows[:1])
    monkeypatch.setattr(curves, "train", lambda run, data: iter(rows))
    np.testing.assert_array_equal(curves.curve(run, Path(), path), rows)
    assert [found.name for found in tmp_path.iterdir()] == ["curve.csv"]


def test_curve_of_another_run_is_refused(curves: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with other settings is not taken for this run, nor is it lost."""
    monkeypatch.setattr(curves, "train", lambda run, data: iter([curves.Row(1.0, 4, 1.0, 1.0, 1.0)]))
    run, path = _run(curves), tmp_path / "curve.csv"
    curves.curve(run, Path(), path)
    kept = path.read_bytes()
    for other in (replace(run, seed=4), replace(run, settings="rows=64"), replace(run, marks=())):
        with pytest.raises(InputError, match="is the curve of"):
            curves.curve(other, Path(), path)
    assert path.read_bytes() == kept


def test_run_of_another_process_is_left_alone(curves: ModuleType, tmp_path: Path) -> None:
    """Two processes may share the work."""
    with locked(tmp_path / "curve.csv", "trains"), pytest.raises(InputError, match="another process trains it"):
        curves.curve(_run(curves), Path(), tmp_path / "curve.csv")


def test_missing_data(curves: ModuleType, tmp_path: Path) -> None:
    """One line names the file."""
    with pytest.raises(InputError, match=r"nowhere/train.xyz.xz is not there"):
        curves.curve(_run(curves, set="nowhere"), tmp_path, tmp_path / "curve.csv")


def test_breakdown_ends_the_curve(curves: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a result like another: a last row without errors."""
    from ekfcore.training import KalmanOptimizer

    count = 0

    def step(self: object, *args: object, **options: object) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise FilterError("not finite")

    monkeypatch.setattr(KalmanOptimizer, "step", step)
    monkeypatch.setattr(curves, "_warm_up", lambda settings: None)
    rows = list(curves.train(_run(curves), Path()))
    assert [row.frames for row in rows] == [2, 3]
    assert not math.isnan(rows[0].force_rmse_test)
    assert math.isnan(rows[1].force_rmse_test)


def test_names_differ_where_runs_do(curves: ModuleType) -> None:
    """No two runs stand in one file, and a name can be read."""
    run = curves.Run(set="Cu", epochs=30, seed=0)
    assert run.path == Path("Cu/recommended-30-s0.csv")
    changes: list[dict[str, Any]] = [
        {"set": "Ni"},
        {"settings": "preset=rlekf"},
        {"settings": "preset=rlekf block_size=64"},
        {"epochs": 3},
        {"seed": 1},
        {"frames": 30},
        {"stop": 3},
        {"held_out": True},
    ]
    assert len({run.path, *(replace(run, **change).path for change in changes)}) == len(changes) + 1
    assert replace(run, **changes[2]).path.name == "rlekf,block_size=64-30-s0.csv"


def test_reached(curves: ModuleType) -> None:
    """The mean of three in a row counts: a lucky evaluation is none, and the last two cannot tell."""
    forces = [9.0, 1.0, 9.0, 9.0, 3.0, 2.0, 1.0, 0.5]
    rows = [curves.Row(k, k, k, 1.0, force) for k, force in enumerate(forces)]
    assert curves.reached(rows, force=5.0).epoch == 3  # (9 + 3 + 2) / 3
    assert curves.reached(rows, force=2.5).epoch == 4
    assert curves.reached(rows, force=1.1) is None
    assert curves.reached(rows, energy=0.9) is None


def test_curves_of_the_repository_are_read(curves: ModuleType) -> None:
    """Also those of others, which lack columns; numbers as in the file."""
    for path in sorted([*ROOT.glob("asv_bench/curves/*/*-s*.csv"), *ROOT.glob("docs/experiments/curves/*/*.csv")]):
        told = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        lines = list(csv.DictReader(told))
        rows = curves.read_curve(path)
        assert [row.force_rmse_test for row in rows] == [float(line["force_rmse_test"]) for line in lines]
        assert math.isnan(rows[0].seconds) == ("seconds" not in lines[0])


@pytest.mark.parametrize("epochs", [1, 2, 3, 10, 30, 300])
def test_marks(script: Import, epochs: int) -> None:
    """They rise from one to the next, end with two close to the end, and have the epochs that the pages tell of."""
    marks = [float(mark) for mark in script("papers").marks(epochs)]
    assert marks == sorted(set(marks))
    assert marks[-2:] == pytest.approx([0.9 * epochs, 0.95 * epochs])
    assert {mark for mark in (1, 3, 10) if mark < 0.8 * epochs} <= set(marks)
    assert len(marks) < 35


def _found(papers: ModuleType, ends: dict[str, tuple[float, float, float]]) -> Any:
    """Return curves of one seed that fall as powers of the time: final seconds, energy and force error of each."""
    curves = {}
    for method, (seconds, energy, force) in ends.items():
        times = [seconds / 2**k for k in range(8, -1, -1)]
        curves["X", method] = [[papers.Row(t, 1, t, energy * seconds / t, force * (seconds / t) ** 0.5) for t in times]]
    return papers.Found(curves)


def test_equal_time(script: Import) -> None:
    """All are judged when the first ends, and by what they have then, between two evaluations."""
    table1, papers = script("table1"), script("papers")
    found = _found(papers, {"recommended": (100.0, 1.0, 50.0), "rlekf": (900.0, 0.1, 9.0), "adam": (70.0, 1.3, 60.0)})
    one = table1.at_equal_time(found, "X", list(papers.METHODS))
    assert one.seconds == 70
    assert one.errors["recommended"] == pytest.approx((100 / 70, 50 * (100 / 70) ** 0.5))
    assert one.errors["rlekf"] == pytest.approx((90 / 70, 9 * (900 / 70) ** 0.5))
    # 59.76 is 85 % above 32.27 and within 5 % of 60; 1.43 is less than 0.2 above 1.29 and 1.3.
    assert one.complaint == "forces 85 % worse than `rlekf`"
    assert "in 1 of 1 systems: X (forces 85 % worse than `rlekf`)" in table1.equal_verdict({"X": one})
    found = _found(papers, {"recommended": (70.0, 1.6, 62.0), "adam": (70.0, 1.3, 60.0)})
    assert table1.at_equal_time(found, "X", list(papers.METHODS)).complaint == "energy 0.3 meV/atom worse than Adam"
    assert (
        table1.at_equal_time(_found(papers, {"recommended": (70.0, 1.6, 62.0)}), "X", ["recommended", "adam"]) is None
    )


def test_verdicts_count_wins(script: Import) -> None:
    """The lower median wins; a filter that broke down does not."""
    table1, papers = script("table1"), script("papers")
    found = _found(papers, {"recommended": (1.0, 1.0, 50.0), "rlekf": (1.0, 2.0, 40.0), "adam": (1.0, 3.0, 30.0)})
    broken = [papers.Row(1.0, 1, 1.0)]
    found.curves |= {
        ("Y", method): [broken if method == "rlekf" else rows[0]] for (_, method), rows in found.curves.items()
    }
    first, second, third = table1.verdicts(found, ["X", "Y", "Z"])
    assert "than `rlekf` of energy in 2 of 2 systems, of forces in 1 of 2 systems" in first
    assert "than Adam of energy in 2 of 2 systems, of forces in 0 of 2 systems" in second
    assert "of energy in 1 of 2 systems (paper's RLEKF: 11 of 13), of forces in 0 of 2" in third


def test_what_is_missing_is_said(script: Import, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is dropped in silence, neither what nobody trained nor what could not be."""
    papers = script("papers")
    args = Namespace(
        data=tmp_path,
        out=tmp_path,
        systems=["A", "B"],
        methods=["adam"],
        seeds=2,
        epochs=1,
        frames=None,
        set="",
        no_training=True,
    )
    assert "Not run yet: A, B." in papers.collect(args).footer()
    args.systems, args.no_training = ["A", "B"], False
    found = papers.collect(args)
    assert found.count() == "4 of 4 runs are missing."
    assert re.search(r"A, adam, 0: .*A/train.xyz.xz is not there", found.footer())
    assert "is not there" in capsys.readouterr().err
    assert papers.spread([]) == "…"


def test_what_another_process_trained_meanwhile_is_read(
    script: Import, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was left alone is no longer missing once the other process is done; one that was not is."""
    papers, curves = script("papers"), script("curves")
    args = Namespace(data=tmp_path, out=tmp_path, systems=["A"], methods=["adam"], seeds=2, epochs=1)
    vars(args).update(frames=None, set="", no_training=False)
    first = tmp_path / "experiments" / "curves" / "A" / "adam,final_learning_rate=1e-8-10-s0.csv"
    row = curves.Row(1.0, 4, 1.0, 1.0, 1.0)

    def train(run: Any, data: Path) -> Iterator[Any]:
        if run.seed == 0:
            yield row
        else:
            first.with_suffix(".aside").rename(first)  # the other process ends while this one trains something else
            raise InputError("not enough memory")

    monkeypatch.setattr(curves, "train", train)
    curves.curve(papers._run(args, "A", papers.METHODS["adam"], 0), tmp_path, first)
    first.rename(first.with_suffix(".aside"))
    with locked(first, "trains"):
        found = papers.collect(args)
    assert [rows[-1].force_rmse_test for rows in found.of("A", "adam")] == [1.0]
    assert found.missing == {("A", "adam"): [1]}
    assert found.failures == ["A, adam, 1: not enough memory"]


def test_times_to_the_limit(script: Import) -> None:
    """1.2 times the lower of two ends; a seed that never gets there takes for ever."""
    figure4, papers = script("figure4"), script("papers")
    found = _found(papers, {"recommended": (100.0, 1.0, 50.0), "adam": (80.0, 2.0, 40.0)})
    assert figure4.limit_of(found, "X", "energy") == pytest.approx(1.2)
    assert figure4.limit_of(found, "X", "force") == pytest.approx(48)
    assert figure4.limit_of(found, "Y", "force") is None
    row = papers.Row(2.0, 8, 30.0, 1.0, 1.0)
    assert figure4.time_of([row, None, row]) == (2.0, 30.0)
    assert figure4.time_of([row, None, None]) == (math.inf, math.inf)


def test_exponent(script: Import) -> None:
    """A power law has its exponent, and what was before the last decade does not count."""
    rates = script("rates")
    points = [rates.Point(t, 3 / t, 1.0, 2.0, t**-0.5) for t in (10, 30, 100, 200, 500, 1000)]
    points[0] = points[0]._replace(energy=99.0)
    assert [rates.exponent(points, quantity) for quantity in rates.LABELS] == pytest.approx([-1, 0, 0, -0.5])


def test_numbers_of_the_papers(script: Import, shared_data: Path) -> None:
    """What the scripts have copied is what stands beside the data."""
    table1, published = script("table1"), script("accuracy_time").PUBLISHED
    lines = (shared_data / "REFERENCES.md").read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    known = {row[0]: row for row in cells if len(row) == 12}
    for name, (frames, rlekf, adam) in table1.PAPER.items():
        row = known[name]
        assert frames.split()[-2] == row[3]
        assert rlekf == tuple(float(row[k]) for k in (4, 6, 8, 10))
        assert adam == tuple(float(row[k]) for k in (5, 7, 9, 11))
    for name, potentials in published.items():
        snap = {row[1]: row for row in cells if row[0] == name and len(row) == 6}
        for potential in ("SNAP", "qSNAP"):
            assert potentials[potential] == tuple(float(snap[potential][k].split(" / ")[0]) for k in (3, 5))
        released = next(row for row in cells if row[0] == name and len(row) == 5 and row[1].count(",") == 1)
        for potential, k in (("MTP", 1), ("NNP", 3)):
            assert potentials[potential] == tuple(map(float, released[k].split(", ")))


def test_make_runs_every_script() -> None:
    """None of those that share papers.py is forgotten."""
    makefile = ROOT / "Makefile"
    if not (SCRIPTS.is_dir() and makefile.is_file()):
        pytest.skip("Makefile and docs/experiments are not beside the tests")
    line = re.search(r"^PAPERS := (.*)$", makefile.read_text("utf-8"), re.MULTILINE)
    assert line
    users = {path.stem for path in SCRIPTS.glob("*.py") if "\nfrom papers import" in path.read_text("utf-8")}
    assert set(line[1].split()) == users
