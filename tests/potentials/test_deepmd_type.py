"""``[model] type = "deepmd"``: DeePMD-kit's own models in a training, a file, and back in DeePMD-kit."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.errors import InputError

pytestmark = pytest.mark.deepmd
pytest.importorskip("deepmd", reason="the comparison needs deepmd-kit: make test-deepmd")
pytest.importorskip("ase", reason="frames need ekfcore[atoms]")

from importlib.resources import files  # noqa: E402 (needs the above)

from ekfcore.atoms import read_frames  # noqa: E402
from ekfcore.deepmd import export_model  # noqa: E402
from ekfcore.potentials import evaluate, load_model  # noqa: E402
from ekfcore.potentials.kpu import KalmanUncertainty  # noqa: E402
from ekfcore.potentials.sample import prepare_sample  # noqa: E402
from ekfcore.training import KalmanOptimizer, Settings, prepare  # noqa: E402
from ekfcore.training.schedule import measurements  # noqa: E402

DESCRIPTOR: dict[str, Any] = {
    "type": "se_atten",
    "sel": 20,
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "neuron": [4, 8],
    "axis_neuron": 2,
    "attn": 4,
    "attn_layer": 1,
    "smooth_type_embedding": True,
}


def _settings(folder: Path, **changes: Any) -> Settings:
    from ase.io import write

    silicon = read_frames([Path(str(files("ekfcore.demo"))) / "silicon_train.xyz.xz"])[:4]
    write(folder / "silicon.xyz", [frame.to_ase() for frame in silicon], format="extxyz")
    model = {"type": "deepmd", "descriptor": DESCRIPTOR, "fitting_net": {"neuron": [8]}, **changes}
    return Settings.from_json(
        {
            "data": {"train": [str(folder / "silicon.xyz")], "test_fraction": 0.0},
            "model": model,
            "training": {"epochs": 1},
        }
    )


def test_the_same_weights_as_by_hand(tmp_path: Path) -> None:
    """A program that makes the model and runs the filter over its frames ends where the training ends."""
    from ekfcore.deepmd.kit_model import DeepmdModel

    settings = _settings(tmp_path)
    prepare(settings, tmp_path / "run").run()
    frames = read_frames([tmp_path / "silicon.xyz"])
    section = {"type_map": ["Si"], "descriptor": DESCRIPTOR, "fitting_net": {"neuron": [8]}}
    model = DeepmdModel.from_settings(section, frames, seed=0)
    recipe = settings.optimizer.recipe(measurements(settings.optimizer.recipe(1), frames, batch=1))
    layout = ek.partition(model.layer_sizes, block_size=recipe.block_size, strategy=recipe.strategy)
    optimizer = KalmanOptimizer(model, recipe, ek.init(model.weights, layout, recipe.config))
    for index, k in enumerate(np.random.default_rng([0, 0]).permutation(len(frames))):
        sample = prepare_sample(model, frames[k], like=model.weights)  # type: ignore[arg-type] # it has what is needed
        optimizer.step([sample], np.random.default_rng([0, 0, index]))
    np.testing.assert_allclose(load_model(tmp_path / "run").weights, optimizer.weights.numpy(), rtol=1e-9)


def test_file_uncertainty_and_export(tmp_path: Path) -> None:
    """What is loaded predicts the same to the bit, tells its uncertainty, and DeePMD-kit computes the same forces."""
    from deepmd.infer import DeepPot

    trainer = prepare(_settings(tmp_path), tmp_path / "run")
    trainer.run()
    frames = read_frames([tmp_path / "silicon.xyz"])[:1]
    (before,) = evaluate(trainer.model, trainer.weights, frames)
    loaded = load_model(tmp_path / "run")
    (after,) = evaluate(loaded.model, loaded.weights, frames)
    np.testing.assert_array_equal(after["forces"], before["forces"])
    assert after["energy"] == before["energy"]
    assert KalmanUncertainty.load(loaded)(frames[0]).force_mean > 0
    assert export_model(loaded, tmp_path / "silicon.pth") == []
    frame = frames[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit, which DeePMD-kit uses
        energy, forces, _ = DeepPot(str(tmp_path / "silicon.pth")).eval(
            frame.positions.reshape(1, -1), frame.cell.reshape(1, 9), [0] * frame.n_atoms
        )
    np.testing.assert_allclose(forces[0], after["forces"], atol=1e-10)
    np.testing.assert_allclose(energy[0, 0], after["energy"], rtol=1e-12)


def test_energies_of_another_zero(tmp_path: Path) -> None:
    """The shift goes into DeePMD-kit's own energies of atoms."""
    prepare(_settings(tmp_path), tmp_path / "run").run()
    loaded = load_model(tmp_path / "run")
    frames = read_frames([tmp_path / "silicon.xyz"])[:1]
    (before,) = evaluate(loaded.model, loaded.weights, frames)
    (after,) = evaluate(loaded.model.with_bias(loaded.model.energy_bias + 1.5), loaded.weights, frames)
    assert after["energy"] - before["energy"] == pytest.approx(1.5 * frames[0].n_atoms)


def test_learn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two rounds of active learning, of which the second goes on from the first; DeePMD-kit's advice stays out."""
    from ase.build import bulk
    from ase.io import write

    from ekfcore.active.learner import Learner
    from ekfcore.active.settings import LearnSettings

    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True))
    settings = LearnSettings.model_validate(
        {
            "data": {"structures": [str(tmp_path / "copper.xyz")], "rattled": 4},
            "stages": [{"temperatures": [300.0], "rounds": 2}],
            "explore": {"steps": 12, "every": 4},
            "select": {"low": 0.0, "high": 1e6, "maximum": 2},
            "label": {"calculator": "emt"},
            "update": {"start": "warm"},
            "model": {"type": "deepmd", "descriptor": DESCRIPTOR, "fitting_net": {"neuron": [8]}},
            "training": {"epochs": 1},
        }
    )
    learner = Learner(settings, tmp_path / "run", on_message=lambda line: None)
    (final,) = learner.run()
    assert [report.trained_on for report in learner.reports] == [4, 6, 8]
    counts = [load_model(tmp_path / "run" / f"round-0{k}" / "model").optimizer["count"] for k in (1, 2)]
    assert 0 < counts[0] < counts[1] < final.optimizer["count"]
    assert capfd.readouterr() == ("", "")


def test_tables_that_are_wrong(tmp_path: Path) -> None:
    """What is DeePMD-kit's to refuse, DeePMD-kit refuses, in one line; another descriptor does not go on."""
    with pytest.raises(InputError, match=r"DeePMD-kit refuses the section `model`: .*neuronn"):
        prepare(_settings(tmp_path, descriptor={**DESCRIPTOR, "neuronn": [4]}), tmp_path / "run")
    prepare(_settings(tmp_path), tmp_path / "run").run()
    with pytest.raises(InputError, match=r"model.fitting_net = \{'neuron': \[9\]\} differs from"):
        prepare(_settings(tmp_path, fitting_net={"neuron": [9]}), tmp_path / "run", resume=True)
