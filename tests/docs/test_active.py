"""What the comparison of active learning makes of rounds whose outcome is known, and the settings of its runs."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

for _package in ("ase", "matplotlib", "pydantic", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[atoms]"')

SCRIPTS = Path(__file__).resolve().parents[2] / "docs" / "experiments"


@pytest.fixture
def active(script: Callable[[str], ModuleType]) -> ModuleType:
    """Return docs/experiments/active_learning.py, which stands outside every package."""
    return script("active_learning")


def _rows(system: Any, errors: list[float], *, done: bool = True) -> list[dict[str, float]]:
    """Return rounds of four labels each, whose every step takes a second."""
    key = f"force_rmse {system.validation[-1]} K"
    rows = [
        {"stage": 1.0, "trained_on": 10.0 + 4 * k, "quarantined": float(k == 1), key: error}
        | {f"{step}_cpu_s": 1.0 for step in ("train", "explore", "judge", "label")}
        for k, error in enumerate(errors)
    ]
    rows[-1]["stage"] = float(not done)
    return rows


@pytest.mark.parametrize(("name", "steps"), [("copper", 3), ("aluminium", 4)])
def test_reach(active: ModuleType, name: str, steps: int) -> None:
    """The error must stay below; labels cost processor seconds only where they are from first principles."""
    system = active.SYSTEMS[name]
    rows = _rows(system, [90.0, 40.0, 60.0, 45.0, 30.0])
    assert active.reach(rows, 100, system) == (10, 1)
    assert active.reach(rows, 50, system) == (22, 3 * steps + 1)
    assert active.reach(rows, 30, system) == (26, 4 * steps + 1)
    assert active.reach(rows, 29, system) is None


def test_what_is_missing_is_said(active: ModuleType) -> None:
    """A run that goes on, and frames in quarantine."""
    system = active.SYSTEMS["aluminium"]
    runs = {
        "kpu": {"1": _rows(system, [90.0, 40.0]), "2": _rows(system, [90.0, 40.0, 30.0], done=False)},
        "random": {"1": _rows(system, [90.0])},
    }
    assert active.missing(runs, system) == [
        "Not finished: ALKPU, seed 2, after 3 of 12 rounds.",
        "Frames that could not be labelled: 2.",
    ]


def test_spread(active: ModuleType) -> None:
    """One seed has none."""
    assert [active.spread(values) for values in ([], [2.0], [3.0, 1.0, 2.0])] == ["", "2.0", "2.0 (1.0 to 3.0)"]


def test_rows_are_those_that_learn_writes(active: ModuleType, tmp_path: Path) -> None:
    """Finished or not; numbers come back as they were."""
    from ekfcore.active.report import RoundReport, write_table

    first = RoundReport(
        round=1, stage=1, temperatures=[300.0], trained_on=10, validation={"1000 K": {"force_rmse": 1 / 3}}
    )
    last = RoundReport(round=2, stage=0, temperatures=[], trained_on=14, validation={"1000 K": {"force_rmse": 0.25}})
    for name, reports in {"kpu-1": [first], "random-2": [first, last]}.items():
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "report.csv", reports)
    runs = active.read_runs(tmp_path)
    assert {method: {seed: len(rows) for seed, rows in several.items()} for method, several in runs.items()} == {
        "kpu": {"1": 1},
        "random": {"2": 2},
    }
    assert runs["random"]["2"][0]["force_rmse 1000 K"] == 1 / 3
    assert not active.is_finished(runs["kpu"]["1"])
    assert active.is_finished(runs["random"]["2"])


@pytest.mark.parametrize("name", ["copper", "aluminium"])
def test_settings(active: ModuleType, name: str, tmp_path: Path) -> None:
    """They are CONFIG of `ekfcore learn`, their calculators can be made, and the cell is as wide as the model looks."""
    from ekfcore.labelling.calculators import make_calculator

    system = active.SYSTEMS[name]
    for select in active.SELECT.values():
        config = active.settings_of(system, select, 1, tmp_path)
    assert [stage.temperatures for stage in config.stages] == [[t] for t in system.temperatures]
    make_calculator(config.label.calculator, config.label.parameters)
    crystal = system.crystal
    assert len(crystal) == 32
    assert crystal.cell.lengths().min() > config.model.cutoff


# What ASE advises against stays: with other velocities, the sets would not be those of the tables.
@pytest.mark.filterwarnings("ignore:Use thermalize_momenta", "ignore:The implementation of `fixcm=True`")
def test_test_set_is_labelled(active: ModuleType, tmp_path: Path) -> None:
    """By what labels the runs, here EMT; it is made once."""
    from ase.calculators.emt import EMT
    from ase.io import read

    system = replace(active.SYSTEMS["copper"], frames=2, apart=1)
    active.write_test_set(system, 1200, tmp_path)
    frames: Any = read(tmp_path / "md-1200.xyz", ":")
    assert len(frames) == 2
    for frame in frames:
        forces = frame.get_forces()
        frame.calc = EMT()
        assert abs(forces - frame.get_forces()).max() < 1e-6
    (tmp_path / "md-1200.db").unlink()
    active.write_test_set(system, 1200, tmp_path)
    assert not (tmp_path / "md-1200.db").exists()


def test_espresso_writes_what_is_asked(active: ModuleType, tmp_path: Path) -> None:
    """The input that pw.x would get has the forces, the mesh and the cutoff; pw.x itself is not needed."""
    from ekfcore.labelling.calculators import make_calculator

    espresso = importlib.import_module("active_systems").espresso
    calculator: Any = make_calculator("espresso", espresso(cutoff=17, mesh=3) | {"directory": tmp_path})
    calculator.write_inputfiles(active.SYSTEMS["aluminium"].crystal, ["energy"])
    written = [" ".join(line.split()) for line in (tmp_path / "espresso.pwi").read_text("utf-8").splitlines()]
    assert {"tprnfor = .true.", "tstress = .false.", "ecutwfc = 17", "3 3 3 1 1 1", "nat = 32"} <= set(written)


def test_test_sets_are_kept(active: ModuleType, tmp_path: Path) -> None:
    """In a folder that is made where it is not there."""
    from ase.build import bulk
    from ase.io import read, write

    write(tmp_path / "md-1000.xyz", bulk("Al"))
    active._keep(tmp_path, tmp_path / "kept")
    assert len(read(tmp_path / "kept/md-1000.xyz.xz", ":")) == 1


def test_labels_of_the_repository(active: ModuleType) -> None:
    """Each run has kept as many labels as its last model was trained on, or more, with the round of each."""
    from ase.io import read

    kept = SCRIPTS / "dft"
    if not kept.is_dir():
        pytest.skip("no run was kept in docs/experiments/dft yet")
    runs = active.read_runs(kept)
    assert runs
    for method, several in runs.items():
        for seed, rows in several.items():
            frames: Any = read(kept / f"{method}-{seed}" / "labels.xyz.xz", ":")
            rounds = [frame.info["round"] for frame in frames]
            assert rounds.count(0) == active.START
            assert len(frames) >= rows[-1]["trained_on"]
            assert max(rounds.count(k) for k in set(rounds) - {0}) <= active.MAXIMUM
            assert all(frame.get_forces().shape == (32, 3) for frame in frames)
