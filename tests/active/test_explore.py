"""Molecular dynamics: its ensembles, its limits, and what a restart finds."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import json
import multiprocessing
import os
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from ekfcore.atoms import Frame
from ekfcore.errors import InputError

for package in ("ase", "pydantic", "scipy", "vesin", "threadpoolctl"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')

from ase import Atoms, units  # noqa: E402
from ase.build import bulk  # noqa: E402
from ase.calculators.calculator import Calculator, all_changes  # noqa: E402
from ase.calculators.emt import EMT  # noqa: E402
from ase.io import read  # noqa: E402
from ase.stress import full_3x3_to_voigt_6_stress  # noqa: E402
from pydantic import ValidationError  # noqa: E402

from ekfcore.dynamics import ExploreSettings, Trajectory, explore  # noqa: E402
from ekfcore.dynamics._ensembles import draw_velocities, make_dynamics  # noqa: E402

EVERY = 5


def _copper(repeat: int = 1) -> Frame:
    return Frame.from_ase(bulk("Cu", cubic=True).repeat(repeat), "copper")


class Spring(Calculator):
    """Atoms tied to where they started; counts its calls in a file, and can fail in many ways."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012

    def __init__(self, constant: Any = 1.0, log: Path | None = None, *, fails: str = "") -> None:
        super().__init__()
        self.constant, self.log, self.fails, self.calls = constant, log, fails, 0
        self.home: Any = None

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = tuple(all_changes)
    ) -> None:
        """Fail after three steps, if at all."""
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.log is not None:
            with self.log.open("a") as file:
                file.write("called\n")
        if self.calls > 3 and self.fails == "interrupted":
            raise KeyboardInterrupt
        if self.calls > 3 and self.fails == "capacity":
            raise InputError("more neighbours than the capacity")
        if self.home is None:
            self.home = atoms.get_scaled_positions(wrap=False)
        shift = atoms.positions - self.home @ atoms.cell[:]
        energy = 0.5 * float(np.sum(self.constant * shift**2))
        forces = -self.constant * shift
        stress = -forces.T @ shift / atoms.get_volume()  # their homes move with the cell
        if self.calls > 3 and self.fails == "nan":
            forces = forces * np.nan
        self.results = {"energy": energy, "forces": forces, "stress": full_3x3_to_voigt_6_stress(stress)}


def _steps(trajectory: Trajectory) -> list[int]:
    """Return the steps at which frames were kept."""
    path = Path(trajectory.frames[0].source.rpartition(",")[0])
    images = read(path, index=":")
    assert isinstance(images, list)
    return [int(atoms.info["step"]) for atoms in images]


def test_keeps_one_frame_in_so_many_without_labels(tmp_path: Path) -> None:
    """Each structure is run at each temperature; predictions are not handed on as labels."""
    structures = [_copper(), _copper(2)]
    found = explore(
        EMT, structures, [300, 600.0], ExploreSettings(steps=3 * EVERY + 2, every=EVERY), seed=0, out=tmp_path
    )
    assert [(t.structure, t.temperature) for t in found] == [(0, 300), (0, 600), (1, 300), (1, 600)]
    for trajectory in found:
        assert (trajectory.outcome, trajectory.reason) == ("finished", "")
        assert trajectory.steps == 3 * EVERY + 2
        assert _steps(trajectory) == [EVERY, 2 * EVERY, 3 * EVERY]
        start = structures[trajectory.structure]
        for frame in trajectory.frames:
            assert frame.energy is None
            assert frame.forces is None
            np.testing.assert_array_equal(frame.numbers, start.numbers)
            np.testing.assert_allclose(frame.cell, start.cell)
            assert 0 < np.abs(frame.positions - start.positions).max() < 0.5
    # Nothing but the seed tells these apart at the first step.
    assert np.abs(found[2].frames[0].positions - found[3].frames[0].positions).max() > 1e-3


def test_same_seed_same_trajectory_with_or_without_workers(tmp_path: Path) -> None:
    """Neither another process nor a second reading changes a digit; another seed does."""
    settings = ExploreSettings(steps=10, every=5)
    run = partial(explore, EMT, [_copper()], [300.0, 500.0], settings)
    here = run(seed=1, out=tmp_path / "here")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        there = run(seed=1, out=tmp_path / "there", executor=executor)
    other = run(seed=2, out=tmp_path / "other")
    for first, second, third in zip(here, there, other, strict=True):
        for a, b, c in zip(first.frames, second.frames, third.frames, strict=True):
            np.testing.assert_array_equal(a.positions, b.positions)
            assert np.abs(a.positions - c.positions).max() > 1e-3


@pytest.mark.parametrize(
    ("fails", "reason"), [("nan", "no longer finite"), ("capacity", "more neighbours than the capacity")]
)
def test_a_calculator_that_gives_up_stops_the_run(tmp_path: Path, fails: str, reason: str) -> None:
    """What came before is kept, with the last sound frame."""
    settings = ExploreSettings(ensemble="nve", steps=10, every=2)
    (found,) = explore(partial(Spring, fails=fails), [_copper()], [300.0], settings, seed=0, out=tmp_path)
    assert found.outcome == "stopped"
    assert reason in found.reason
    assert found.steps == 2
    assert _steps(found) == [2]
    assert json.loads((tmp_path / "000.json").read_text())["outcome"] == "stopped"


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_force": 2.0}, r"a force of \S+ eV/Å is above explore\.max_force = 2"),
        ({"max_temperature_factor": 1.5}, r"\d+ K are above explore\.max_temperature_factor = 1\.5 times 1000 K"),
        ({"min_distance": 2.3}, r"two atoms at 2\.\d+ Å are closer than explore\.min_distance"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_every_limit_stops_a_run(tmp_path: Path, limits: dict[str, float], reason: str) -> None:
    """Copper at 1000 K meets each of these limits within a picosecond; the last frame is sound."""
    settings = ExploreSettings(steps=500, every=100, time_step=2.0, **limits)  # type: ignore[arg-type]
    (found,) = explore(EMT, [_copper()], [1000.0], settings, seed=4, out=tmp_path)
    assert found.outcome == "stopped"
    assert re.fullmatch(reason, found.reason), found.reason
    assert 0 < found.steps < 500
    assert _steps(found)[-1] == found.steps


def test_uncertainty_stops_a_run(tmp_path: Path, trained: Path) -> None:
    """At the first kept frame with an atom above the bound, which is kept for a label; below it nothing changes."""
    from ekfcore.potentials.kpu import KalmanUncertainty

    uncertainty = KalmanUncertainty.load(trained, fraction=1.0)
    settings = ExploreSettings(steps=20, every=5)
    (free,) = explore(trained, [_copper()], [600.0], settings, seed=0, out=tmp_path / "free")
    bars = [np.sqrt(uncertainty(frame).force_max) for frame in free.frames]
    assert len(bars) == 4
    bound = sorted(bars)[1]  # two of the four frames lie above it
    stop = next(k for k, bar in enumerate(bars) if bar > bound * 1.001)
    bounded = settings.model_copy(update={"max_uncertainty": float(bound * 1.001)})
    (found,) = explore(trained, [_copper()], [600.0], bounded, seed=0, out=tmp_path / "bounded")
    assert (found.outcome, found.steps) == ("stopped", 5 * (stop + 1))
    assert re.fullmatch(r"an error bar of \S+ eV/Å is above explore\.max_uncertainty = \S+", found.reason)
    assert len(found.frames) == stop + 1
    for frame, same in zip(found.frames, free.frames, strict=False):
        np.testing.assert_array_equal(frame.positions, same.positions)


def test_uncertainty_needs_a_model_file(tmp_path: Path) -> None:
    """A calculator has no covariance."""
    settings = ExploreSettings(max_uncertainty=0.1)
    with pytest.raises(InputError, match=r"explore\.max_uncertainty needs the covariance in a model file, got 0\.1"):
        explore(EMT, [_copper()], [300.0], settings, seed=0, out=tmp_path)


def test_a_start_beyond_the_limits_gives_no_frames(tmp_path: Path) -> None:
    """Such a run ends before its first step, and the others go on."""
    hot = _copper()
    squeezed = Frame.from_ase(bulk("Cu", "fcc", a=2.0, cubic=True), "squeezed")
    settings = ExploreSettings(steps=4, every=2, min_distance=1.5)
    bad, good = explore(EMT, [squeezed, hot], [300.0], settings, seed=0, out=tmp_path)
    assert (bad.frames, bad.steps, bad.outcome) == ([], 0, "stopped")
    assert good.outcome == "finished"


def test_a_restart_repeats_nothing_and_finishes_the_rest(tmp_path: Path) -> None:
    """Interrupted in the second run, the first is read and the second done anew, to the same digits."""
    settings = ExploreSettings(ensemble="nve", steps=4, every=2)
    log = tmp_path / "log"
    run = partial(explore, structures=[_copper()], temperatures=[300.0, 400.0], settings=settings, seed=0)
    whole = run(Spring, out=tmp_path / "whole")
    calculators = iter([Spring(log=log), Spring(fails="interrupted")])
    with pytest.raises(KeyboardInterrupt):
        run(lambda: next(calculators), out=tmp_path / "out")
    first = log.read_text().count("called")
    found = run(partial(Spring, log=log), out=tmp_path / "out")
    assert log.read_text().count("called") == 2 * first
    assert run(partial(Spring, log=log), out=tmp_path / "out") is not None
    assert log.read_text().count("called") == 2 * first
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_array_equal(a.frames[-1].positions, b.frames[-1].positions)
    with pytest.raises(InputError, match="another model, structure, seed or settings"):
        explore(Spring, [_copper()], [300.0, 500.0], settings, seed=0, out=tmp_path / "out")


def test_workers_that_die_are_one_line(tmp_path: Path) -> None:
    """What they had finished is kept."""
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor,
        pytest.raises(InputError, match="the workers that explore died"),
    ):
        explore(
            partial(os._exit, 1),
            [_copper()],
            [300.0],
            ExploreSettings(steps=5, every=1),
            seed=0,
            out=tmp_path,
            executor=executor,
        )


@pytest.mark.parametrize(
    ("structures", "temperatures", "message"),
    [
        ([], [300.0], "got 0 and 1"),
        ([_copper()], [], "got 1 and 0"),
        ([_copper()], [300.0, -1.0], r"`temperatures` must be positive \[K\], got -1"),
        ([_copper()], [np.nan], "must be positive"),
    ],
)
def test_refuses_what_cannot_be_run(
    tmp_path: Path, structures: list[Frame], temperatures: list[float], message: str
) -> None:
    """Before anything is written."""
    with pytest.raises(InputError, match=message):
        explore(EMT, structures, temperatures, ExploreSettings(), seed=0, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pressure_needs_a_cell(tmp_path: Path) -> None:
    """A molecule has no volume."""
    molecule = Frame.from_ase(Atoms("Cu2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]]), "molecule")
    with pytest.raises(InputError, match="molecule: pressure needs a cell"):
        explore(EMT, [molecule], [300.0], ExploreSettings(ensemble="npt"), seed=0, out=tmp_path)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"every": 20, "steps": 10}, "`every` must be at most steps, got 20 of 10"),
        ({"ensemble": "nve", "thermostat": "langevin"}, '`thermostat` belongs to ensemble = "nvt"'),
        ({"ensemble": "npt", "thermostat": "langevin"}, '`thermostat` belongs to ensemble = "nvt"'),
        ({"pressure": 1.0}, '`pressure` belongs to ensemble = "npt", got 1.0 beside ensemble = "nvt"'),
        ({"ensemble": "NVT"}, "ensemble"),
        ({"time_step": 0.0}, "time_step"),
        ({"max_temperature_factor": 1.0}, "max_temperature_factor"),
    ],
)
def test_settings_refuse_what_makes_no_sense(table: dict[str, Any], message: str) -> None:
    """Also what would be ignored."""
    with pytest.raises((InputError, ValidationError), match=message):
        ExploreSettings(**table)


@pytest.mark.parametrize(
    "settings",
    [{"ensemble": "nve"}, {}, {"thermostat": "nose-hoover"}, {"ensemble": "npt", "pressure": 2.0}],
    ids=["nve", "langevin", "nose-hoover", "npt"],
)
def test_ensembles_hold_what_they_say(settings: dict[str, Any]) -> None:
    """NVE keeps the energy, the thermostats the temperature, and the barostat compresses a gas as the gas law says."""
    rng = np.random.default_rng(0)
    atoms = bulk("Cu", cubic=True).repeat(2)
    # Springs of one frequency would never share their energy.
    atoms.calc = Spring(np.zeros((32, 1)) if "pressure" in settings else rng.uniform(0.3, 3.0, (32, 1)))
    draw_velocities(atoms, 1000.0, rng)
    dynamics = make_dynamics(atoms, 500.0, ExploreSettings(time_step=5.0, **settings), rng)
    temperatures, energies, volumes = [], [], []
    for _ in dynamics.irun(1500):
        temperatures.append(atoms.get_temperature())
        energies.append(atoms.get_total_energy())
        volumes.append(atoms.get_volume())
    if settings.get("ensemble") == "nve":
        # That of the integrator, (omega dt)^2 / 8 of the energy.
        assert np.ptp(energies) < 0.05 * np.mean(energies)
        return
    # Seven picoseconds are some 35 independent samples; five standard deviations of their mean.
    assert np.mean(temperatures[100:]) == pytest.approx(500.0, rel=5 * np.sqrt(2 / (3 * len(atoms)) / 35))
    if "pressure" in settings:
        expected = len(atoms) * units.kB * 500.0 / (settings["pressure"] * units.GPa)
        assert np.mean(volumes[500:]) == pytest.approx(expected, rel=0.1)
        assert volumes[0] > 2 * expected


def test_velocities_are_those_of_the_temperature() -> None:
    """The centre of mass rests, and heavy atoms are slower."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(5)
    draw_velocities(atoms, 400.0, np.random.default_rng(0))
    np.testing.assert_allclose(atoms.get_momenta().sum(axis=0), 0.0, atol=1e-10)
    assert atoms.get_temperature() == pytest.approx(400.0, rel=5 * np.sqrt(2 / (3 * len(atoms))))
    squares = np.sum(atoms.get_velocities() ** 2, axis=1)
    ratio = squares[atoms.symbols == "Na"].mean() / squares[atoms.symbols == "Cl"].mean()
    assert ratio == pytest.approx(35.45 / 22.99, rel=0.15)
    lonely = Atoms("Cu")
    draw_velocities(lonely, 400.0, np.random.default_rng(0))
    assert lonely.get_kinetic_energy() > 0


def test_explores_with_a_model_from_its_file(tmp_path: Path, trained: Path) -> None:
    """A path is enough, and a structure that the model does not know is a mistake, no explosion."""
    settings = ExploreSettings(steps=4, every=2)
    (found,) = explore(trained, [_copper(2)], [300.0], settings, seed=0, out=tmp_path / "out")
    assert found.outcome == "finished"
    silicon = Frame.from_ase(bulk("Si"), "silicon")
    with pytest.raises(InputError, match="holds Si, which the model does not know"):
        explore(trained, [silicon], [300.0], settings, seed=0, out=tmp_path / "silicon")
    with pytest.raises(InputError, match="nowhere"):
        explore(tmp_path / "nowhere", [_copper()], [300.0], settings, seed=0, out=tmp_path / "none")


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_an_explosion_raises_no_warning(tmp_path: Path, ensemble: Literal["nve", "nvt", "npt"]) -> None:
    """Steps far too long for the springs that tie the atoms; nothing but the outcome tells."""
    settings = ExploreSettings(
        ensemble=ensemble,
        steps=400,
        every=100,
        time_step=100.0,
        max_force=1e300,
        max_temperature_factor=1e300,
        min_distance=0.01,
    )
    (found,) = explore(partial(Spring, 10.0), [_copper()], [500.0], settings, seed=0, out=tmp_path)
    assert found.outcome == "stopped"
    assert found.reason
