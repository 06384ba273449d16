"""``ekfcore train --start``: the weights of a model, and a fresh filter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]

_CONFIG = """\
[data]
train = "copper.xyz"
[optimizer]
preset = "{preset}"
[training]
epochs = {epochs}
"""


@pytest.fixture
def trained(config: Path, cli: Cli) -> Path:
    """Train for two epochs; return the folder, beside which the data are."""
    assert cli("train", config, "--out", config.parent / "run")[0] == 0
    return config.parent / "run"


@pytest.mark.parametrize("preset", ["recommended", "adam"])
def test_begins_where_the_other_stands(trained: Path, cli: Cli, preset: str) -> None:
    """The form need not be told again, and the optimizer may be another one."""
    from ekfcore.training import load_model, load_settings, prepare

    folder = trained.parent
    (folder / "more.toml").write_text(_CONFIG.format(preset=preset, epochs=1), encoding="utf-8")
    old = load_model(trained)
    trainer = prepare(load_settings(folder / "more.toml"), folder / "first", start=old.without_optimizer())
    np.testing.assert_array_equal(trainer.weights, old.weights)
    assert trainer.optimizer.header()["count"] == 0
    assert cli("train", folder / "more.toml", "--start", trained, "--out", folder / "more")[0] == 0
    new = load_model(folder / "more")
    assert new.model.architecture == old.model.architecture  # type: ignore[attr-defined]
    np.testing.assert_array_equal(new.model.statistics.mean, old.model.statistics.mean)  # type: ignore[attr-defined]
    assert new.position.epoch == 1
    # And from there as any other training.
    (folder / "more.toml").write_text(_CONFIG.format(preset=preset, epochs=2), encoding="utf-8")
    assert cli("train", folder / "more.toml", "--resume", "--out", folder / "more")[0] == 0
    assert load_model(folder / "more").position.epoch == 2


def test_fresh_filter(trained: Path, cli: Cli) -> None:
    """P and lambda are not those of the other training."""
    from ekfcore.training import load_model

    folder = trained.parent
    (folder / "more.toml").write_text(_CONFIG.format(preset="recommended", epochs=1), encoding="utf-8")
    assert cli("train", folder / "more.toml", "--start", trained, "--out", folder / "more")[0] == 0
    assert load_model(folder / "more").optimizer["count"] < load_model(trained).optimizer["count"]


def test_imported_model(trained: Path, cli: Cli) -> None:
    """A model that came from elsewhere is trained further, in a new folder or in its own."""
    pytest.importorskip("h5py", reason='h5py is not installed: pip install "ekfcore[atoms]"')
    folder = trained.parent
    (folder / "more.toml").write_text(_CONFIG.format(preset="recommended", epochs=1), encoding="utf-8")
    assert cli("export", trained, folder / "model.dp")[0] == 0
    assert cli("import", folder / "model.dp", "--out", folder / "back")[0] == 0
    assert cli("train", folder / "more.toml", "--start", folder / "back", "--out", folder / "more")[0] == 0
    assert cli("train", folder / "more.toml", "--resume", "--out", folder / "back")[0] == 0
    metrics = [(folder / name / "metrics.csv").read_text().splitlines()[1].split(",") for name in ("more", "back")]
    assert metrics[0][4:] == metrics[1][4:]  # all but the seconds


def test_models_that_do_not_fit(trained: Path, config: Path, refuse: Refuse) -> None:
    """What differs, in one line."""
    folder = trained.parent
    told = refuse("train", config, "--start", trained, "--out", folder / "more", "--set", "model.cutoff=5.0")
    assert "model.cutoff = 5.0 differs from 4.0 of the model to go on from" in told
    (folder / "silver.xyz").write_text((folder / "copper.xyz").read_text().replace("Cu ", "Ag "), encoding="utf-8")
    told = refuse("train", config, "--start", trained, "--out", folder / "more", "--set", 'data.train="silver.xyz"')
    assert "the data hold Ag, which the model to go on from does not know; its elements are Cu" in told
    assert "cannot read" in refuse("train", config, "--start", folder / "none", "--out", folder / "more")


def test_killed_before_the_first_model(trained: Path, config: Path, cli: Cli) -> None:
    """Nothing in the folder tells where it was to start: --start beside --resume does, as long as it holds no model."""
    from ekfcore.training import load_model

    folder, weights = trained.parent, {}
    for name, words in (("whole", ["--start", trained]), ("killed", ["--start", trained, "--resume"])):
        if "--resume" in words:
            (folder / name).mkdir()
            (folder / name / ".lock").touch()
        assert cli("train", config, *words, "--out", folder / name)[0] == 0
        weights[name] = load_model(folder / name).weights
    np.testing.assert_array_equal(weights["killed"], weights["whole"])
    code, out, _ = cli("train", config, "--start", trained, "--resume", "--out", folder / "killed")
    assert code == 0
    assert "2 epochs are done already" in out
    (folder / "forgotten").mkdir()
    assert "give that beside --resume" in cli("train", config, "--resume", "--out", folder / "forgotten")[1]


def test_another_form_of_p(trained: Path, cli: Cli, refuse: Refuse) -> None:
    """A training cannot go on with it, and says what can; a model to start from gives its weights alone."""
    from ekfcore.training import load_model, load_settings, prepare

    folder, old = trained.parent, load_model(trained)
    (folder / "more.toml").write_text(_CONFIG.format(preset="rlekf", epochs=3), encoding="utf-8")
    told = refuse("train", folder / "more.toml", "--resume", "--out", trained)
    assert "optimizer.rows = 0 needs another P than that of the model to go on from, which has rows" in told
    assert "--start MODEL" in told
    trainer = prepare(load_settings(folder / "more.toml"), folder / "more", start=old)
    assert any("begin with a fresh one" in note for note in trainer.notes)
    assert trainer.optimizer.header()["count"] == 0
    np.testing.assert_array_equal(trainer.weights, old.weights)
