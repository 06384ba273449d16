"""Models of a user's own, by the import path of a factory."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.errors import InputError

pytest.importorskip("pydantic", reason="settings need ekfcore[atoms]")
pytest.importorskip("ase", reason="frames need ekfcore[atoms]")
torch = pytest.importorskip("torch", reason="modules of PyTorch need ekfcore[torch]")

from ase import Atoms  # noqa: E402 (needs the above)
from ase.build import bulk  # noqa: E402
from ase.calculators.emt import EMT  # noqa: E402
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress  # noqa: E402
from ase.io import write  # noqa: E402

import ekfcore as ek  # noqa: E402
from ekfcore.atoms import Frame, read_frames  # noqa: E402
from ekfcore.models.torch_module import TorchModule  # noqa: E402
from ekfcore.potentials import EKFCalculator, evaluate, load_model  # noqa: E402
from ekfcore.potentials.kpu import KalmanUncertainty  # noqa: E402
from ekfcore.potentials.sample import Sample  # noqa: E402
from ekfcore.training import KalmanOptimizer, Settings, load_settings, prepare  # noqa: E402
from ekfcore.training.schedule import measurements  # noqa: E402

MakeSettings = Callable[..., Settings]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with my_model.py and frames of copper and gold, with and without a cell; the current one."""
    shutil.copy(Path(__file__).with_name("my_model.py"), tmp_path)
    for name, periodic in (("crystal", True), ("cluster", False)):
        images = []
        for seed in range(8):
            atoms = bulk("Cu", cubic=True)
            atoms.symbols[0] = "Au"
            atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
            atoms.rattle(0.12, seed=seed)
            if not periodic:
                atoms = Atoms(atoms.symbols, atoms.positions)
            atoms.calc = EMT()
            atoms.get_forces()
            if periodic:
                atoms.get_stress()
            images.append(atoms)
        write(tmp_path / f"{name}.xyz", images, format="extxyz")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.fixture
def settings(folder: Path) -> MakeSettings:
    """Return a function that reads a CONFIG with these lines in [model]."""

    def make(*model: str, data: str = "crystal", epochs: int = 1, overrides: tuple[str, ...] = ()) -> Settings:
        path = folder / "config.toml"
        lines = ["[data]", f'train = ["{data}.xyz"]', "[model]", *model, "[training]", f"epochs = {epochs}"]
        path.write_text("\n".join(lines), encoding="utf-8")
        return load_settings(path, overrides)

    return make


@pytest.mark.parametrize("kind", ["Pairs", "springs"])
def test_derivatives(kind: str, settings: MakeSettings, folder: Path) -> None:
    """Forces, stress and weight gradients against finite differences, for a module and for a model in NumPy."""
    prepare(settings(f'type = "my_model:{kind}"'), folder / "run").run()
    loaded = load_model(folder / "run")
    frame = read_frames([str(folder / "crystal.xyz")])[0]
    atoms = frame.to_ase()
    atoms.calc = EKFCalculator(loaded)
    assert abs(atoms.get_forces()).max() > 1e-3
    assert abs(atoms.get_forces() - calculate_numerical_forces(atoms, eps=1e-4)).max() < 1e-6
    assert abs(atoms.get_stress() - calculate_numerical_stress(atoms, eps=1e-5)).max() < 1e-8
    model, w = loaded.model, loaded.weights
    array = torch.as_tensor if model.library == "torch" else np.asarray
    rng = np.random.default_rng(0)
    functional = {n: array(rng.normal(size=s)) for n, s in (("energy", ()), ("forces", (4, 3)), ("virial", (3, 3)))}

    def value(v: Any) -> float:
        return float(model.linearize(array(v), model.environment(frame, like=array(v)))[1]([functional])[0][0])

    _, H = model.linearize(array(w), model.environment(frame, like=array(w)))[1]([functional])
    steps = 1e-5 * np.eye(len(w))
    slopes = [(value(w + d) - value(w - d)) / 2e-5 for d in steps]
    np.testing.assert_allclose(np.asarray(H)[0], slopes, rtol=1e-6, atol=1e-6)


def test_forces_alone_from_positions(settings: MakeSettings, folder: Path) -> None:
    """A module that asks for positions and nothing else trains on clusters."""
    trainer = prepare(settings('type = "my_model:Cluster"', data="cluster", epochs=3), folder / "run")
    trainer.run()
    assert trainer.records[-1].force_rmse_train < trainer.records[0].force_rmse_train * 1.01
    assert trainer.model.cutoff == 0


def test_a_file_restores_the_model(settings: MakeSettings, folder: Path) -> None:
    """Weights, buffers that were drawn, energies of atoms: predictions are the same to the bit, and so is KPU."""
    trainer = prepare(settings('type = "my_model:Pairs"', "width = 5"), folder / "run")
    trainer.run()
    frames = read_frames([str(folder / "crystal.xyz")])
    before = list(evaluate(trainer.model, trainer.weights, frames))
    torch.manual_seed(99)
    loaded = load_model(folder / "run")
    for old, new in zip(before, evaluate(loaded.model, loaded.weights, frames), strict=True):
        np.testing.assert_array_equal(new["forces"], old["forces"])
        assert new["energy"] == old["energy"]
    assert KalmanUncertainty.load(loaded)(frames[0]).force_mean > 0
    assert loaded.model.header()["width"] == 5


@pytest.mark.parametrize("kind", ["Pairs", "springs"])
def test_resume_is_the_run_that_never_stopped(kind: str, settings: MakeSettings, folder: Path) -> None:
    """To the last bit."""
    wanted = settings(f'type = "my_model:{kind}"', epochs=2)
    prepare(wanted, folder / "whole").run()
    trainer = prepare(wanted, folder / "parts")
    assert not trainer.run(should_stop=lambda: trainer.position.step >= 3)
    prepare(wanted, folder / "parts", resume=True).run()
    np.testing.assert_array_equal(load_model(folder / "parts").weights, load_model(folder / "whole").weights)


def test_the_same_weights_as_by_hand(settings: MakeSettings, folder: Path) -> None:
    """`type = "torch"` does what a program does that wraps the module itself and runs the filter over its frames."""
    wanted = settings(
        'type = "torch"', 'module = "my_model:Cluster"', data="cluster", overrides=("data.test_fraction=0",)
    )
    prepare(wanted, folder / "run").run()
    found = load_model(folder / "run")
    cluster: Any = importlib.import_module("my_model").Cluster(("Au", "Cu"))

    model = TorchModule(cluster.double(), forces="positions")
    frames = read_frames([str(folder / "cluster.xyz")])
    elements, bias = found.model.elements, found.model.energy_bias
    samples = [
        Sample(
            environment={"positions": torch.as_tensor(frame.positions)},
            energy=torch.as_tensor((frame.energy or 0.0) - bias[[elements.index(s) for s in frame.symbols]].sum()),
            forces=torch.as_tensor(frame.forces),
            virial=None,
            n_atoms=frame.n_atoms,
        )
        for frame in frames
    ]
    recipe = wanted.optimizer.recipe(measurements(wanted.optimizer.recipe(1), frames, batch=1))
    layout = ek.partition(model.layer_sizes, block_size=recipe.block_size, strategy=recipe.strategy)
    optimizer = KalmanOptimizer(model, recipe, ek.init(model.weights, layout, recipe.config))
    for index, k in enumerate(np.random.default_rng([0, 0]).permutation(len(samples))):
        optimizer.step([samples[k]], np.random.default_rng([0, 0, index]))
    np.testing.assert_allclose(found.weights, optimizer.weights.numpy(), rtol=1e-9)


def test_shifted_energies(settings: MakeSettings, folder: Path) -> None:
    """Labels of another zero: --shift-energies finds it for any kind of model."""
    prepare(settings('type = "my_model:Pairs"'), folder / "run").run()
    frames = read_frames([str(folder / "crystal.xyz")])
    shifted = [replace(frame, energy=(frame.energy or 0.0) + 3.0 * frame.symbols.count("Cu") - 1.0) for frame in frames]
    write(folder / "crystal.xyz", [frame.to_ase() for frame in shifted], format="extxyz")
    wanted = settings('type = "my_model:Pairs"')
    trainer = prepare(wanted, folder / "more", start=load_model(folder / "run"), shift_energies=True)
    old = load_model(folder / "run").model.energy_bias
    assert (trainer.model.energy_bias - old).sum() == pytest.approx(
        np.linalg.lstsq([[1.0, 3.0]], [8.0])[0].sum(), abs=0.5
    )


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (['type = "my_model:Pairs"', "widht = 3"], r"unknown key model.widht; did you mean model.width\?"),
        (['type = "my_model:Pairs"', 'width = "a"'], 'model.width must be an integer, got "a"'),
        (['type = "my_model:numbered"'], r"model.depth is missing; add depth = ... to \[model\]"),
        (['type = "my_model:absent"'], "model my_model:absent: cannot be imported"),
        (['type = "no_such_module:Net"'], "model no_such_module:Net: cannot be imported"),
        (['type = "my_model:foreign"'], "model my_model:foreign: must take a keyword `elements`"),
        (['type = "os:system"'], "model os:system: must take a keyword `elements`"),
        (['type = "torch"'], "model.module must be the import path of a torch.nn.Module"),
        (['type = "dpa9"'], "model.type must be one of deep_potential, deepmd, torch or the import path"),
    ],
)
def test_tables_that_are_wrong(lines: list[str], told: str, settings: MakeSettings) -> None:
    """One line each, as for the tables that ekfcore has itself."""
    with pytest.raises(InputError, match=told):
        settings(*lines)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nothing", "must make a torch.nn.Module, or an object with layer_sizes, environment"),
        ("broken", r"cannot be made \(RuntimeError: no luck\)"),
        ("Strange", "Strange.forward may ask for positions, .*, got charges"),
        ("Blind", "Blind asks for pairs of atoms, so it must have a positive `cutoff`"),
    ],
)
def test_factories_that_are_wrong(kind: str, told: str, settings: MakeSettings, folder: Path) -> None:
    """Nothing is written before they are found out."""
    with pytest.raises(InputError, match=told):
        prepare(settings(f'type = "my_model:{kind}"'), folder / "run")
    assert not (folder / "run").exists()


def test_another_model_than_before(settings: MakeSettings, folder: Path) -> None:
    """A table that has changed, another backend and unknown elements are refused."""
    prepare(settings('type = "my_model:Pairs"'), folder / "run").run()
    with pytest.raises(InputError, match=r"model.width = 7 differs from 6 of the model to go on from"):
        prepare(settings('type = "my_model:Pairs"', "width = 7", epochs=2), folder / "run", resume=True)
    with pytest.raises(InputError, match=r'model.type = "deep_potential" differs from "my_model:Pairs"'):
        prepare(settings(epochs=2), folder / "run", resume=True)
    with pytest.raises(InputError, match="this model is computed by torch, which backend 'numpy' is not"):
        prepare(settings('type = "my_model:Pairs"', overrides=("run.backend=numpy",)), folder / "other")
    loaded = load_model(folder / "run")
    silver = Frame.from_ase(bulk("Ag", cubic=True), "silver")
    with pytest.raises(InputError, match="silver holds Ag, which the model does not know; its elements are Au, Cu"):
        list(evaluate(loaded.model, loaded.weights, [silver]))
