"""A training that was killed at any moment can go on, and two never write into the same folder."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]
Start = Callable[..., "subprocess.Popen[str]"]

_DIE_IN_SAVE = """
import os, signal, ekfcore.archive
ekfcore.archive._seal = lambda file: os.kill(os.getpid(), signal.SIGKILL)
"""
_DIE_BEFORE = """
import os, signal
from ekfcore.training import KalmanOptimizer
KalmanOptimizer.step = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("before", [_DIE_IN_SAVE, _DIE_BEFORE])
@pytest.mark.parametrize("words", [["--resume"], []])
def test_killed_before_the_first_model(
    tmp_path: Path, config: Path, cli: Cli, start: Start, before: str, words: list[str]
) -> None:
    """What is left is no reason to refuse, and is cleaned away."""
    pytest.importorskip("tensorboard", reason='TensorBoard is not installed: pip install "ekfcore[tensorboard]"')
    command = ["train", config, "--out", tmp_path / "run", "--set", "training.tensorboard=true"]
    process = start(*command, before=before)
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "run").is_dir()
    code, out, err = cli(*command, *words)
    assert (code, err) == (0, "")
    assert ("from the beginning" in out) == bool(words)
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]


def test_resume_needs_a_folder(tmp_path: Path, config: Path, refuse: Refuse) -> None:
    """A name that was mistyped, a training that was killed before it had one, and a folder of something else."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").touch()
    for name in ("none", "other"):
        told = refuse("train", config, "--out", tmp_path / name, "--resume")
        assert f"{name} holds no model.npz to go on from" in told
        assert "leave out --resume" in told
    assert not (tmp_path / "none").exists()


_DIE_IN_REPLACE = """
import os, signal
from pathlib import Path
replace, left = os.replace, [{count}]
def die(source, target):
    left[0] -= Path(target).name == {name!r}
    replace(source, target) if left[0] else os.kill(os.getpid(), signal.SIGKILL)
os.replace = die
"""


@pytest.mark.parametrize(("name", "count"), [("metrics.csv", 1), ("metrics.csv", 2), ("parity.png", 1)])
def test_killed_behind_the_model(tmp_path: Path, config: Path, cli: Cli, start: Start, name: str, count: int) -> None:
    """The tables hold all epochs of the model, each once, though the last model was saved; nothing unfinished stays."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason='TensorBoard is not installed: pip install "ekfcore[tensorboard]"',
    )
    command = ["train", config, "--out", tmp_path / "run"]
    command += ["--set", "training.tensorboard=true", "--set", "training.lcurve=lcurve.out"]
    process = start(*command, before=_DIE_IN_REPLACE.format(name=name, count=count))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert list((tmp_path / "run").glob(f".{name}.*"))
    code, _, err = cli(*command, "--resume")
    assert (code, err) == (0, "")
    assert not list((tmp_path / "run").glob(".*"))
    for table in ("metrics.csv", "lcurve.out"):
        rows = [line for line in (tmp_path / "run" / table).read_text().splitlines() if line.split()[0][0].isdigit()]
        assert len(rows) == 2
    events = accumulator.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [scalar.step for scalar in events.Scalars("lambda")] == [1, 2]


@pytest.mark.parametrize("words", [["--resume"], []])
def test_one_training_a_folder(tmp_path: Path, config: Path, refuse: Refuse, words: list[str]) -> None:
    """The second one is told so, before it has written anything."""
    from ekfcore.files import locked

    (tmp_path / "run").mkdir()
    with locked(tmp_path / "run", "trains in"):
        assert "run: another process trains in it" in refuse("train", config, "--out", tmp_path / "run", *words)
    assert not list((tmp_path / "run").glob("model*"))


def test_one_after_the_other(tmp_path: Path, config: Path) -> None:
    """Both were prepared before either ran: the last one must not win."""
    from ekfcore.errors import InputError
    from ekfcore.training import load_settings, prepare

    settings = load_settings(config)
    first, second = (prepare(settings, tmp_path / "run") for _ in range(2))
    assert first.run()
    model = (tmp_path / "run/model.npz").read_bytes()
    with pytest.raises(InputError, match=r"model.npz was written by another training"):
        second.run()
    assert (tmp_path / "run/model.npz").read_bytes() == model


def test_a_lock_ends_with_its_process(tmp_path: Path, start: Start) -> None:
    """However that one ends; and the file of a lock that was given back is gone."""
    from ekfcore.errors import InputError
    from ekfcore.files import locked

    code = "from pathlib import Path\nfrom ekfcore.files import locked\n"
    code += f"lock = locked(Path({str(tmp_path)!r}), 'trains in')"
    code += "\nlock.__enter__()\nprint('held', flush=True)\nimport time\ntime.sleep(100)"
    process: Any = start(before=code)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(InputError, match="another process trains in it"), locked(tmp_path, "trains in"):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with locked(tmp_path, "trains in"):
        pass
    assert not list(tmp_path.glob(".*"))
