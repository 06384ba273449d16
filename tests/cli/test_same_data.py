"""``ekfcore train --resume`` goes on with the frames that it began with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]


@pytest.fixture
def run(config: Path, cli: Cli) -> Path:
    """Train for two epochs on a random part of the frames; return the folder."""
    assert cli("train", config, "--out", config.parent / "run")[0] == 0
    return config.parent / "run"


def _frames(text: str) -> list[str]:
    """Return the frames of extended XYZ, ten lines each."""
    lines = text.splitlines(keepends=True)
    return ["".join(lines[k : k + 10]) for k in range(0, len(lines), 10)]


def _resume(config: Path) -> list[object]:
    return ["train", config, "--out", config.parent / "run", "--resume", "--set", "training.epochs=4"]


def test_the_same_frames_in_another_order(run: Path, config: Path, cli: Cli, copper_text: str) -> None:
    """Order and seed of the split do not matter: the frames stay what they were."""
    from ekfcore.training import load_model

    before = load_model(run).frames
    assert before is not None
    assert (len(before.train), len(before.test)) == (10, 2)
    (config.parent / "copper.xyz").write_text("".join(reversed(_frames(copper_text))))
    code, out, err = cli(*_resume(config), "--set", "training.seed=5")
    assert code == 0, err
    assert "goes on after epoch 2 with the same frames" in out
    after = load_model(run).frames
    assert after is not None
    np.testing.assert_array_equal(after.train, before.train)
    np.testing.assert_array_equal(after.test, before.test)


@pytest.mark.parametrize("change", ["fewer", "changed label", "changed weight"])
def test_missing_or_changed(run: Path, config: Path, refuse: Refuse, copper_text: str, change: str) -> None:
    """One line with the way out."""
    frames = _frames(copper_text)
    if change == "fewer":
        frames = frames[2:]
    else:
        lines = frames[0].splitlines()
        lines[1] = lines[1].replace("energy=", "energy=1") if change == "changed label" else lines[1] + " weight=2.0"
        frames[0] = "\n".join(lines) + "\n"
    (config.parent / "copper.xyz").write_text("".join(frames))
    line = refuse(*_resume(config))
    assert "are gone from the data or have changed" in line
    assert "--start" in line


def _more(config: Path, copper_text: str, count: int) -> None:
    """Add frames that are compressed, and so have more neighbours than any before."""
    frames = [frame.replace("7.2", "6.4") for frame in _frames(copper_text)[:count]]
    with (config.parent / "copper.xyz").open("a") as file:
        file.write("".join(frames))


@pytest.mark.parametrize(("count", "shares"), [(1, (1, 0)), (5, (4, 1))])
def test_more_frames(run: Path, config: Path, cli: Cli, copper_text: str, count: int, shares: tuple[int, int]) -> None:
    """They come in at the start of an epoch; the old ones stay what they were."""
    from ekfcore.training import load_model

    before = load_model(run).frames
    _more(config, copper_text, count)
    code, out, err = cli(*_resume(config))
    assert code == 0, err
    assert f"with {shares[0]} new frames to train on and {shares[1]} to test on" in out
    after, position = load_model(run).frames, load_model(run).position
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(after.train[:10], before.train)
    np.testing.assert_array_equal(after.test[:2], before.test)
    assert (len(after.train), len(after.test)) == (10 + shares[0], 2 + shares[1])
    assert position.step == 2 * 10 + 2 * (10 + shares[0])


def test_more_frames_within_an_epoch(config: Path, refuse: Refuse, copper_text: str) -> None:
    """Not there: which frames are still to come would be another question."""
    from ekfcore.training import load_settings, prepare

    trainer = prepare(load_settings(config), config.parent / "run")
    assert not trainer.run(should_stop=lambda: trainer.position.step >= 13)
    _more(config, copper_text, 2)
    line = refuse(*_resume(config))
    assert "2 frames are new" in line
    assert "training.epochs=2" in line


@pytest.mark.parametrize(("key", "before", "after"), [("batch", 1, 4), ("batch", 4, 1), ("seed", 0, 7)])
def test_another_order_within_an_epoch(
    config: Path, cli: Cli, refuse: Refuse, key: str, before: int, after: int
) -> None:
    """With another batch or seed, some frames of the epoch would be left out; after the epoch nothing is wrong."""
    from ekfcore.training import load_model, load_settings, prepare

    known, new = f"training.{key}={before}", f"training.{key}={after}"
    trainer = prepare(load_settings(config, [known]), config.parent / "run")
    within = trainer.batches + 1
    assert not trainer.run(should_stop=lambda: trainer.position.step >= within)
    line = refuse(*_resume(config), "--set", new)
    assert f"training.{key} = {after} differs from {before} of this training" in line
    words = [word for item in (known, "training.epochs=2") for word in ("--set", item)]
    assert all(word in line for word in words)
    assert cli(*_resume(config), *words)[0] == 0
    assert cli(*_resume(config), "--set", new, "--set", "training.epochs=3")[0] == 0
    position = load_model(config.parent / "run").position
    assert position.step == 2 * trainer.batches + -(-len(trainer.train) // (after if key == "batch" else 1))


def test_keys_without_effect(run: Path, config: Path, cli: Cli) -> None:
    """What counts at the beginning alone is told each time, and the model file keeps what was true."""
    from ekfcore.training import load_model

    before = load_model(run).settings
    for epochs in (3, 4):
        changes = ["optimizer.p0=5", "model.fitting_gain=1", f"training.epochs={epochs}"]
        out = cli(*_resume(config), *(word for change in changes for word in ("--set", change)))[1]
        assert "model.fitting_gain and optimizer.p0 counted when this training began" in out
        after = load_model(run).settings
        assert {**after, "training": {**after["training"], "epochs": 2}} == before
    assert "counted when" not in cli(*_resume(config), "--set", "training.epochs=5")[1]


def test_test_frames_do_not_become_training_frames(config: Path, cli: Cli, refuse: Refuse, copper_text: str) -> None:
    """With files for either, a frame that changes sides is missed on its own."""
    frames = _frames(copper_text)
    words = ["--set", "data.train=a.xyz", "--set", "data.test=b.xyz"]
    (config.parent / "a.xyz").write_text("".join(frames[:8]))
    (config.parent / "b.xyz").write_text("".join(frames[8:]))
    assert cli("train", config, *words, "--out", config.parent / "run")[0] == 0
    (config.parent / "a.xyz").write_text("".join(frames[:9]))
    (config.parent / "b.xyz").write_text("".join(frames[9:]))
    assert "1 of the 4 frames to test on in this training" in refuse(*_resume(config), *words)
    (config.parent / "a.xyz").write_text("".join(frames[:8]))
    (config.parent / "b.xyz").write_text("".join(frames[7:]))
    assert "1 of the 5 frames to test on are among those to train on" in cli(*_resume(config), *words)[1]


def test_frames_of_the_model_to_start_from(run: Path, config: Path, cli: Cli) -> None:
    """A random part of another seed holds frames that the model has learned from."""
    more = ["--start", run, "--out", config.parent / "more"]
    assert "trained on by the model to start from" not in cli("train", config, *more)[1]
    other = ["--set", "training.seed=1", "--start", run, "--out", config.parent / "other"]
    assert "of the 2 frames to test on were trained on by the model to start from" in cli("train", config, *other)[1]


def test_older_files(run: Path, config: Path, cli: Cli) -> None:
    """A model file without the list goes on as before, and a line says that nothing was compared."""
    from ekfcore.potentials.model_file import MODEL_FILE, save_model
    from ekfcore.training import load_model

    old = load_model(run)
    arrays = {k: v for k, v in old.arrays.items() if k not in ("mean", "std", "energy_bias") and "_frames" not in k}
    save_model(
        run / MODEL_FILE,
        old.model,
        settings=old.settings,
        position=old.position,
        optimizer=old.optimizer,
        arrays=arrays.items(),
    )
    assert load_model(run).frames is None
    code, out, err = cli(*_resume(config))
    assert code == 0, err
    assert "whether they are the same is unknown" in out
    assert load_model(run).frames is not None
