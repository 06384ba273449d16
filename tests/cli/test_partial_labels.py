"""Frames with energies alone, with forces alone, and single atoms."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytestmark = pytest.mark.usefixtures("no_plots", "copper_text")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]

_CONFIG = """\
[data]
train = {train}
test = "test.xyz"
[model]
{model}
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[optimizer]
preset = "{preset}"
[training]
epochs = 2
batch = {batch}
"""


def _crystal(rng: Any, *names: str) -> Any:
    """Return copper with only these labels."""
    from ase.build import bulk
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True)
    atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
    atoms.calc = EMT()
    return _label(atoms, *names)


def _label(atoms: Any, *names: str) -> Any:
    from ase.calculators.singlepoint import SinglePointCalculator

    found = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **{name: found[name] for name in names})
    return atoms


def _lonely(cell: float | None) -> Any:
    from ase import Atoms
    from ase.calculators.emt import EMT

    atoms = Atoms("Cu") if cell is None else Atoms("Cu", cell=[cell] * 3, pbc=True)
    atoms.calc = EMT()
    atoms.info["config_type"] = "IsolatedAtom"
    return _label(atoms, "energy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write files of each kind."""
    from ase.io import write

    rng = np.random.default_rng(0)
    write(tmp_path / "full.xyz", [_crystal(rng, "energy", "forces") for _ in range(3)])
    write(tmp_path / "energies.xyz", [_crystal(rng, "energy") for _ in range(4)])
    write(tmp_path / "forces.xyz", [_crystal(rng, "forces") for _ in range(2)])
    write(tmp_path / "lonely.xyz", [_lonely(None), _lonely(20.0)])
    write(tmp_path / "bare.xyz", [_crystal(rng)])
    test = [_crystal(rng, *names) for names in (("energy",), ("forces",), ("energy", "forces"), ("energy",))]
    write(tmp_path / "test.xyz", test)
    return tmp_path


def _config(folder: Path, *names: str, preset: str = "recommended", batch: int = 1, model: str = "") -> Path:
    train = json.dumps([f"{name}.xyz" for name in names])
    (folder / "config.toml").write_text(_CONFIG.format(train=train, preset=preset, batch=batch, model=model))
    return folder / "config.toml"


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("preset", ["recommended", "rlekf", "deepmd-lkf", "matpl-lkf", "n2p2", "adam"])
def test_everything_at_once(folder: Path, cli: Cli, preset: str, batch: int) -> None:
    """Each frame gives what it has, and what it lacks is counted."""
    from ekfcore.training import load_model, read_metrics

    path = _config(folder, "lonely", "full", "energies", "forces", preset=preset, batch=batch)
    code, out, err = cli("train", path, "--out", folder / "run")
    assert code == 0, err
    assert "of the 11 frames to train on, 2 have no energy and 6 no forces: what they have is learned" in out
    assert "of the 4 frames to test on, 1 has no energy and 2 no forces" in out
    assert np.isfinite(load_model(folder / "run").weights).all()
    for record in read_metrics(folder / "run" / "metrics.csv"):
        assert np.isfinite([record.energy_rmse_train, record.force_rmse_train, record.energy_rmse_test]).all()


def test_errors(folder: Path, cli: Cli) -> None:
    """Over the labels that there are."""
    from ekfcore.atoms import read_frames
    from ekfcore.training import evaluate, load_model

    assert cli("train", _config(folder, "full"), "--out", folder / "run")[0] == 0
    code, out, err = cli("test", folder / "run", folder / "test.xyz", "--json")
    assert code == 0, err
    report = json.loads(out)
    loaded, frames = load_model(folder / "run"), read_frames([str(folder / "test.xyz")], require=())
    found = list(evaluate(loaded.model, loaded.weights, frames))
    energies = [(float(p["energy"]) - f.energy) / 4 for p, f in zip(found, frames, strict=True) if f.energy is not None]
    forces = [p["forces"] - f.forces for p, f in zip(found, frames, strict=True) if f.forces is not None]
    assert (len(energies), len(forces)) == (3, 2)
    assert report["energy_rmse_meV_per_atom"] == pytest.approx(1e3 * np.sqrt(np.mean(np.square(energies))), rel=1e-10)
    assert report["force_rmse_meV_per_A"] == pytest.approx(1e3 * np.sqrt(np.mean(np.square(forces))), rel=1e-10)
    assert (report["frames"], report["frames_with_energy"], report["frames_with_forces"]) == (4, 3, 2)
    assert "energies of 3 of them, forces of 2" in cli("test", folder / "run", folder / "test.xyz")[1]


@pytest.mark.parametrize(("kind", "missing"), [("energies", "forces"), ("forces", "energy")])
@pytest.mark.parametrize("preset", ["recommended", "n2p2", "adam"])
def test_one_kind_alone(folder: Path, cli: Cli, preset: str, kind: str, missing: str) -> None:
    """It is learned, and a line says that nothing is known of the other."""
    from ekfcore.training import load_model, read_metrics

    path = _config(folder, kind, preset=preset)
    code, out, err = cli("train", path, "--out", folder / "run", "--set", "training.epochs=8")
    assert code == 0, err
    assert f"none of the {4 if kind == 'energies' else 2} frames to train on has {missing}" in out.replace("an e", "e")
    assert np.isfinite(load_model(folder / "run").weights).all()
    first, *_, last = read_metrics(folder / "run" / "metrics.csv")
    name = "energy_rmse_train" if kind == "energies" else "force_rmse_train"
    assert getattr(last, name) < getattr(first, name)
    assert np.isnan(last.force_rmse_train if kind == "energies" else last.energy_rmse_train)


def test_no_labels(folder: Path, refuse: Refuse) -> None:
    """A frame without any is a mistake."""
    line = refuse("train", _config(folder, "full", "bare"), "--out", folder / "run")
    assert "bare.xyz, frame 0: has no energy, forces or virial" in line


def test_pictures_without_labels(folder: Path) -> None:
    """A panel for what there is."""
    from ekfcore.atoms import read_frames
    from ekfcore.plots.training import plot_parity

    for kind in ("energies", "forces"):
        frames = read_frames([str(folder / f"{kind}.xyz")], require=())
        found = [{"energy": np.asarray(0.1), "forces": np.zeros((4, 3))} for _ in frames]
        plot_parity(frames, found, folder / f"{kind}.png")
        assert (folder / f"{kind}.png").stat().st_size > 0


def test_lonely_atoms_choose_no_nodes(folder: Path) -> None:
    """They have no neighbours to compare the nodes on, wherever they stand."""
    from ekfcore.training import load_settings, prepare

    spacings = []
    for run, names in (("a", ["full"]), ("b", ["lonely", "full", "lonely"])):
        spacings.append(prepare(load_settings(_config(folder, *names)), folder / run).model.spacing)  # type: ignore[attr-defined]
    assert spacings[1] == pytest.approx(spacings[0])


def test_lonely_atom_measures_no_forces(folder: Path) -> None:
    """Its force is zero whatever the weights, which must not lower the noise."""
    from ekfcore.training import load_settings, prepare

    trainer = prepare(load_settings(_config(folder, "full")), folder / "run")
    assert trainer.optimizer._groups(trainer.train[0], np.random.default_rng(0))  # type: ignore[attr-defined]
    trainer = prepare(load_settings(_config(folder, "lonely", "full")), folder / "more")
    assert trainer.optimizer._groups(trainer.train[0], np.random.default_rng(0)) == []  # type: ignore[attr-defined]


def test_energies_of_atoms(folder: Path, cli: Cli, refuse: Refuse) -> None:
    """Given ones are not fitted; they stay with the model, and others are refused later."""
    from ekfcore.training import load_model

    path = _config(folder, "full", model="atom_energies = { Cu = -3.7 }")
    code, _, err = cli("train", path, "--out", folder / "run")
    assert code == 0, err
    assert load_model(folder / "run").model.energy_bias.tolist() == [-3.7]
    other = ["--set", "model.atom_energies={Cu = -3.5}"]
    line = refuse("train", path, "--out", folder / "run", "--resume", *other)
    assert "model.atom_energies" in line
    assert "Cu = -3.5 differs from -3.7" in line
    line = refuse("train", path, "--out", folder / "new", "--set", "model.atom_energies={Au = 1.0}")
    assert "model.atom_energies names Au" in line
    line = refuse("train", path, "--out", folder / "new", "--start", folder / "run", "--shift-energies")
    assert "--shift-energies" in line
    assert "atom_energies" in line
