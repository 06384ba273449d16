"""A training that was stopped and went on is the training that was not, to the bit."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
EPOCHS = 5


def _assert_same(one: Path, other: Path) -> None:
    """Compare weights, P and everything else that is saved, and the errors of all epochs."""
    from ekfcore.training import load_model, read_metrics

    first, second = load_model(one), load_model(other)
    assert set(first.arrays) == set(second.arrays)
    for name in first.arrays:
        assert np.array_equal(first.arrays[name], second.arrays[name]), name
    assert dict(first.optimizer) == dict(second.optimizer)
    assert first.settings["model"] == second.settings["model"]
    records, others = read_metrics(one / "metrics.csv"), read_metrics(other / "metrics.csv")
    assert [_timeless(record) for record in records] == [_timeless(record) for record in others]


def _timeless(record: Any) -> tuple[float, ...]:
    return tuple(getattr(record, name) for name in record.__slots__ if name != "wall_s")


@pytest.fixture(params=["recommended", "rlekf", "n2p2", "adam"])
def words(request: pytest.FixtureRequest, config: Path) -> list[str]:
    """Return the command that trains with each kind of optimizer."""
    if request.param == "adam":
        config.write_text(config.read_text(encoding="utf-8").replace("block_size = 40", ""), encoding="utf-8")
    return ["train", str(config), "--set", f"optimizer.preset={request.param}", "--set", f"training.epochs={EPOCHS}"]


def test_same_seed_same_bits(tmp_path: Path, cli: Cli, words: list[str]) -> None:
    """And another seed, another model."""
    assert cli(*words, "--out", tmp_path / "a")[0] == 0
    assert cli(*words, "--out", tmp_path / "b")[0] == 0
    _assert_same(tmp_path / "a", tmp_path / "b")
    assert cli(*words, "--out", tmp_path / "c", "--set", "training.seed=1")[0] == 0
    with pytest.raises(AssertionError):
        _assert_same(tmp_path / "a", tmp_path / "c")


@pytest.mark.parametrize("steps", [20, 23])
def test_stopped_and_resumed(tmp_path: Path, cli: Cli, words: list[str], steps: int) -> None:
    """After two whole epochs of ten steps, and in the middle of the third."""
    from ekfcore.training import load_settings, prepare

    assert cli(*words, "--out", tmp_path / "whole")[0] == 0
    trainer = prepare(load_settings(words[1], words[3::2]), tmp_path / "parts")
    assert not trainer.run(should_stop=lambda: trainer.position.step >= steps)
    assert trainer.position.batch > 0
    assert cli(*words, "--out", tmp_path / "parts", "--resume")[0] == 0
    _assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("preset", "mode", "updates"),
    [("rlekf", "sequential", 2 * 3), ("rlekf", "batch", 3), ("recommended", "pinned", 2)],
)
@pytest.mark.parametrize("calls", [1, 8])
def test_an_update_that_broke_down(
    tmp_path: Path,
    cli: Cli,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    mode: str,
    updates: int,
    calls: int,
) -> None:
    """In the middle of a batch: the updates before it are in the state that was saved, and are not made twice."""
    kalman = pytest.importorskip("ekfcore.training.kalman", reason="training needs ekfcore[atoms]")
    from ekfcore.errors import FilterError
    from ekfcore.training import load_model

    words = ["train", config, "--set", f"optimizer.preset={preset}", "--set", f"optimizer.mode={mode}"]
    words += ["--set", "training.batch=2"]
    assert cli(*words, "--out", tmp_path / "whole")[0] == 0
    left, update = calls, kalman.update

    def breaks(*args: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if not left:
            raise FilterError("update of the filter broke down: as the test wants it")
        return update(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(kalman, "update", breaks)
        code, _, err = cli(*words, "--out", tmp_path / "parts")
    assert (code, err.count("\n")) == (2, 1)
    position = load_model(tmp_path / "parts").position
    assert (position.batch, position.update) == divmod(calls - 1, updates)
    assert cli(*words, "--out", tmp_path / "parts", "--resume")[0] == 0
    _assert_same(tmp_path / "whole", tmp_path / "parts")
    assert load_model(tmp_path / "parts").position.update == 0


def test_more_epochs_later(tmp_path: Path, cli: Cli, config: Path) -> None:
    """Two epochs and three more are five."""
    train = ["train", config, "--set"]
    assert cli(*train, "training.epochs=5", "--out", tmp_path / "whole")[0] == 0
    assert cli(*train, "training.epochs=2", "--out", tmp_path / "parts")[0] == 0
    code, out, _ = cli(*train, "training.epochs=5", "--out", tmp_path / "parts", "--resume")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines() if line[:5].strip().isdecimal()] == ["3", "4", "5"]
    _assert_same(tmp_path / "whole", tmp_path / "parts")


def test_a_restart_in_double_precision(tmp_path: Path, cli: Cli, config: Path) -> None:
    """As the line of a filter that broke down advises: P then is in double precision, and the training goes on."""
    from ekfcore.training import load_model

    train = ["train", config, "--out", tmp_path / "run", "--set", "optimizer.preset=rlekf"]
    assert cli(*train, "--set", "training.epochs=1", "--set", "optimizer.dtype=float32")[0] == 0
    assert load_model(tmp_path / "run").arrays["lower.0"].dtype == np.float32
    assert cli(*train, "--set", "training.epochs=2", "--set", "optimizer.dtype=float64", "--resume")[0] == 0
    loaded = load_model(tmp_path / "run")
    assert len(loaded.position.records) == 2
    assert {loaded.arrays[name].dtype for name in ("lower.0", "scale", "pending.0", "noise")} == {np.dtype("float64")}


def test_resuming_what_is_done(tmp_path: Path, cli: Cli, config: Path) -> None:
    """Nothing is left to do, which is no error."""
    assert cli("train", config, "--out", tmp_path / "run")[0] == 0
    code, out, _ = cli("train", config, "--out", tmp_path / "run", "--resume")
    assert code == 0
    assert "training.epochs" in out


def test_ctrl_c_stops_in_good_order(
    tmp_path: Path, cli: Cli, config: Path, start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint, the way to go on, and nothing lost; the stopped process compiles its kernels, the others do not."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    words = ["train", config, "--set", "training.epochs=30"]
    process = start(*words, "--out", tmp_path / "parts")
    for line in process.stdout:
        if line.startswith("    1 "):  # the first epoch is done
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "ekfcore train" in out
    assert "--resume" in out
    assert cli(*words, "--out", tmp_path / "parts", "--resume")[0] == 0
    assert cli(*words, "--out", tmp_path / "whole")[0] == 0
    _assert_same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_first_signal_asks_and_the_second_stops(number: int, code: int) -> None:
    """Ctrl-C, and what a queue system sends; afterwards signals do what they did before."""
    from ekfcore.cli._interrupt import stop_on_signal

    before = signal.getsignal(number)
    with stop_on_signal() as request:
        assert not request()
        signal.raise_signal(number)
        assert request()
        assert request.exit_code == code
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_interrupted_before_the_training(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While data are read there is nothing to save yet."""

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ekfcore.training.prepare", interrupt)
    assert cli("train", config) == (130, "", "ekfcore: interrupted\n")
