"""What can be said of the data: weights, formats, virials, another zero of energy; and who else reads the errors."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]


def _read(path: Path) -> Any:
    from ekfcore.training import load_model

    return load_model(path)


def test_prepared_anew_or_kept(config: Path, cli: Cli) -> None:
    """The memory for samples decides over the time alone: the weights have the same bits."""
    out = config.parent
    for name, memory in (("kept", 4.0), ("anew", 0.0)):
        assert cli("train", config, "--out", out / name, "--set", f"run.sample_memory={memory}")[0] == 0
    kept, anew = (_read(out / name) for name in ("kept", "anew"))
    np.testing.assert_array_equal(kept.weights, anew.weights)
    assert [r.force_rmse_test for r in kept.position.records] == [r.force_rmse_test for r in anew.position.records]


def _shifted(text: str, change: float) -> str:
    """Return extended XYZ with other energies."""
    return re.sub(r"energy=(\S+)", lambda found: f"energy={float(found[1]) + change}", text)


def test_a_heavy_file_is_fitted_better(config: Path, cli: Cli) -> None:
    """Of two files that contradict each other by 1 eV a frame, the model follows the heavier one."""
    from ekfcore.atoms import read_frames
    from ekfcore.training import evaluate

    out = config.parent
    (out / "other.xyz").write_text(_shifted((out / "copper.xyz").read_text("utf-8"), 1.0), encoding="utf-8")
    frames, means = read_frames(out / "copper.xyz"), []
    for weight in (0.01, 1.0, 100.0):
        train = f'data.train=["copper.xyz", {{path = "other.xyz", weight = {weight}}}]'
        assert (
            cli("train", config, "--out", out / f"run{weight}", "--set", train, "--set", "training.epochs=20")[0] == 0
        )
        loaded = _read(out / f"run{weight}")
        energies = [float(p["energy"]) for p in evaluate(loaded.model, loaded.weights, frames)]
        means.append(np.mean(energies) - np.mean([frame.energy for frame in frames if frame.energy is not None]))
    assert means == pytest.approx([0.0, 0.5, 1.0], abs=0.25)


def test_a_format_by_name(config: Path, cli: Cli, refuse: Refuse) -> None:
    """A file whose name says nothing is read with the format of its entry."""
    out = config.parent
    (out / "copper.xyz").rename(out / "copper.data")
    entry = 'data.train={{path = "copper.data", format = "{}"}}'
    assert cli("train", config, "--out", out / "run", "--set", entry.format("extxyz"))[0] == 0
    told = refuse("train", config, "--out", out / "bad", "--set", entry.format("vasp/outcart"))
    assert "dpdata knows no format 'vasp/outcart', only " in told


def _with_virials(path: Path, *, every: int) -> None:
    """Leave the stress to one of so many frames; with 0, to none."""
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import read, write

    frames = read(path, ":")
    for k, atoms in enumerate(frames):
        found = {name: atoms.calc.results[name] for name in ("energy", "forces", "stress")}
        if not every or k % every:
            del found["stress"]
        atoms.calc = SinglePointCalculator(atoms, **found)
    write(path, frames)


def _without_blocks(config: Path) -> None:
    """Make a CONFIG that suits Adam, too."""
    text = config.read_text(encoding="utf-8").replace("[optimizer]\nblock_size = 40\n", "")
    config.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("every", "words", "told"),
    [
        (1, [], ""),
        (2, [], "of the 10 frames to train on have a virial"),
        (
            1,
            ["optimizer.virial_prefactor=0"],
            "the virials of 10 frames are not learned, as optimizer.virial_prefactor is 0",
        ),
        (1, ["optimizer.preset=rlekf"], "the virials of 10 frames are not learned, as optimizer.virial_prefactor is 0"),
        (1, ["optimizer.preset=adam"], "the virials of 10 frames are not learned, as optimizer.virial_prefactors is 0"),
        (1, ["optimizer.virial_prefactor=1.0"], ""),
        (2, ["optimizer.virial_prefactor=1.0"], "of the 10 frames to train on have a virial"),
        (0, [], ""),
    ],
)
def test_virials_are_spoken_of(config: Path, cli: Cli, every: int, words: list[str], told: str) -> None:
    """A line before the training where the user may be wrong about them; their errors are in the tables."""
    _with_virials(config.parent / "copper.xyz", every=every)
    _without_blocks(config)
    settings = [word for value in words for word in ("--set", value)]
    code, out, _ = cli("train", config, "--out", config.parent / "run", *settings)
    assert code == 0
    spoken = [line for line in out.splitlines() if "virial" in line and str(config.parent) not in line]
    assert len(spoken) == bool(told)
    assert all(told in line for line in spoken)
    records = _read(config.parent / "run").position.records
    assert (records[-1].virial_rmse_train is not None) == (every > 0)


@pytest.mark.parametrize(
    ("factor", "words", "told"),
    [
        (0.0, [], "are not learned, as they look wrong (zero virials, see `ekfcore inspect`)"),
        (1e4, [], "are not learned, as they look wrong (tension, see `ekfcore inspect`)"),
        (1e4, ["--set", "optimizer.virial_prefactor=1"], ""),
    ],
)
def test_virials_that_look_wrong(config: Path, cli: Cli, factor: float, words: list[str], told: str) -> None:
    """Not learned by default, but where they are asked for."""
    from ase.io import read, write

    path = config.parent / "copper.xyz"
    frames = read(path, ":")
    for atoms in frames[::2]:
        atoms.calc.results["stress"] = np.array([1e-3, 1e-3, 1e-3, 0, 0, 0]) * factor
    for atoms in frames[1::2]:
        atoms.calc.results.pop("stress", None)
    write(path, frames)
    code, out, _ = cli("train", config, "--out", config.parent / "run", *words)
    assert code == 0
    assert [told in line for line in out.splitlines() if "are not learned" in line] == ([True] if told else [])
    assert ("to train on have a virial" in out) == (not told)  # one line, not two that contradict each other
    assert _read(config.parent / "run").settings["optimizer"]["virial_prefactor"] == (1.0 if words else None)


def test_charges_that_the_model_does_not_see(config: Path, cli: Cli) -> None:
    """Named where frames differ in them, and only there."""
    from ase.io import read, write

    path = config.parent / "copper.xyz"
    for last, told in ((1, 0), (2, 1)):
        frames = read(path, ":")
        for atoms in frames:
            atoms.info["charge"] = 1
        frames[-1].info["charge"] = frames[0].info["charge"] = last  # type: ignore[union-attr]
        write(path, frames)
        code, out, _ = cli("train", config, "--out", config.parent / f"run-{last}")
        assert code == 0
        assert out.count("charge differ from frame to frame, which the model does not see") == told


def test_virials_that_nobody_gave(config: Path, refuse: Refuse) -> None:
    """Asked for, and not there."""
    _with_virials(config.parent / "copper.xyz", every=0)
    _without_blocks(config)
    for name, words in {
        "virial_prefactor": ["--set", "optimizer.virial_prefactor=2.0"],
        "virial_prefactors": ["--set", "optimizer.preset=adam", "--set", "optimizer.virial_prefactors=[1.0, 0.1]"],
    }.items():
        told = refuse("train", config, "--out", config.parent / "run", *words)
        assert f"optimizer.{name} asks for virials, and none of the 10 frames to train on has one; set it to 0" in told


def test_another_zero_of_energy(config: Path, cli: Cli, refuse: Refuse) -> None:
    """A model that goes on with energies 5 eV an atom higher is shifted by that first."""
    from ekfcore.training import load_settings, prepare

    out = config.parent
    assert cli("train", config, "--out", out / "run")[0] == 0
    text = (out / "copper.xyz").read_text(encoding="utf-8")
    (out / "copper.xyz").write_text(_shifted(text, 8 * 5.0), encoding="utf-8")
    old, settings = _read(out / "run"), load_settings(config)
    kept, moved = (
        prepare(settings, out / name, start=old.without_optimizer(), shift_energies=shift)
        for name, shift in (("kept", False), ("moved", True))
    )
    np.testing.assert_array_equal(kept.model.energy_bias, old.model.energy_bias)
    residual = [
        float(s.energy - moved.train.model.predict(moved.weights, s.environment)["energy"]) for s in moved.train
    ]
    assert abs(np.mean(residual)) < 1e-9
    assert moved.model.energy_bias - old.model.energy_bias == pytest.approx(5.0, abs=0.2)
    np.testing.assert_array_equal(moved.weights, old.weights)
    assert cli("train", config, "--start", out / "run", "--shift-energies", "--out", out / "new")[0] == 0
    assert "--shift-energies belongs to --start MODEL" in refuse(
        "train", config, "--shift-energies", "--out", out / "x"
    )


def test_tensorboard(config: Path, cli: Cli) -> None:
    """TensorBoard itself finds each epoch once, also where the training was resumed in between."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason='TensorBoard is not installed: pip install "ekfcore[tensorboard]"',
    )
    words = ["train", config, "--out", config.parent / "run", "--set", "training.tensorboard=true"]
    assert cli(*words)[0] == 0
    assert cli(*words, "--resume", "--set", "training.epochs=3")[0] == 0
    found = accumulator.EventAccumulator(str(config.parent / "run/tensorboard")).Reload()
    records = _read(config.parent / "run").position.records
    for tag, name in (
        ("force_rmse_meV_per_A/test", "force_rmse_test"),
        ("lambda", "lam"),
        ("force_noise_meV_per_A", "force_noise"),
    ):
        assert [scalar.step for scalar in found.Scalars(tag)] == [1, 2, 3]
        written = [scalar.value for scalar in found.Scalars(tag)]
        np.testing.assert_allclose(written, [getattr(record, name) for record in records], rtol=1e-6)


def test_tensorboard_is_missing(config: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install."""
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.event_file_writer", None)
    told = refuse("train", config, "--out", config.parent / "run", "--set", "training.tensorboard=true")
    assert 'needs TensorBoard; run: pip install "ekfcore[tensorboard]"' in told
