"""``ekfcore train`` on several ranks: one voice, one set of files, and one line when something is wrong."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunRanks = Callable[..., list[tuple[int, str, str]]]
StartRanks = Callable[..., "list[subprocess.Popen[str]]"]
AssertSame = Callable[[Path, Path], None]

pytestmark = pytest.mark.slow

# What each rank runs: something first, without the plots, which take longer than these trainings.
_CODE = """\
import os, signal, sys
rank, words = int(os.environ["RANK"]), sys.argv[1:]
import ekfcore.cli._training
ekfcore.cli._training.write_plots = lambda trainer, folder: None
from ekfcore.cli import main
{before}
sys.exit(main(words))
"""
_DIE = """\
import ekfcore.training.kalman as kalman
update, left = kalman.update, [6]
def die(*args, **options):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(*args, **options)
if rank == {victim}:
    kalman.update = die
"""
_INTERRUPT = """\
import ekfcore.training.kalman as kalman
update, left = kalman.update, [6]
def interrupted(*args, **options):
    left[0] -= 1
    if not left[0]:  # as a terminal and torchrun do it, one after the other
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
    return update(*args, **options)
if rank == {victim}:
    kalman.update = interrupted
"""


def _words(config: Path, *words: object, before: str = "") -> list[object]:
    return ["-c", _CODE.format(before=before), "train", config, "--out", config.parent / "run", *words]


def test_rank_0_talks_and_writes(tmp_path: Path, config: Path, run_ranks: RunRanks) -> None:
    """What a user sees, and finds, is what one process would have left."""
    from ekfcore.training import load_model

    (code, out, err), *others = run_ranks(_words(config), 3)
    assert (code, err) == (0, "")
    assert "Model, metrics and plots are in" in out
    assert others == [(0, "", "")] * 2
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["metrics.csv", "model.npz"]
    assert load_model(tmp_path / "run").settings["training"]["batch"] == 4


def test_goes_on_alone(tmp_path: Path, config: Path, run_ranks: RunRanks) -> None:
    """One process goes on with the batch that several had, which alone it would not have taken."""
    from ekfcore.training import load_model

    run_ranks(_words(config), 2)
    steps = load_model(tmp_path / "run").position.step
    words = ["train", str(config), "--out", str(tmp_path / "run"), "--resume", "--set", "training.epochs=3"]
    subprocess.run([sys.executable, "-m", "ekfcore", *words], check=True, capture_output=True)
    last = load_model(tmp_path / "run")
    assert (last.settings["training"]["batch"], last.position.step) == (4, steps // 2 * 3)


_OTHER = {
    "settings": "if rank == 1: words += ['--set', 'optimizer.p0=0.5']",
    "data": "if rank == 1: words += ['--set', 'data.test_fraction=0.5']",
    "versions": "import numpy\nif rank == 1: numpy.__version__ = '9.9'",
}
_BAD = {
    "bad settings": (["--set", "optimizer.rows=-1"], "", {}, "optimizer.rows must be 0, or an integer"),
    **{f"other {what}": ([], before, {}, f"rank 1 has other {what} than rank 0: ") for what, before in _OTHER.items()},
    "blocks": (["--set", "optimizer.block_size=5000"], "", {}, "2 ranks are more than the 1 parts of P"),
    "interface": ([], "", {"GLOO_SOCKET_IFNAME": "none0"}, "none0); set GLOO_SOCKET_IFNAME to an interface"),
    "folder": (["--resume"], "", {}, "holds no model.npz to go on from"),
}


@pytest.mark.parametrize("case", _BAD)
def test_one_line(config: Path, run_ranks: RunRanks, case: str) -> None:
    """From rank 0 alone, and nothing written."""
    words, before, variables, expected = _BAD[case]
    (code, out, err), other = run_ranks(_words(config, *words, before=before), 2, **variables)
    assert (code, out) == (2, ""), err
    assert err.startswith("ekfcore: error: ")
    assert expected in err
    assert err.count("\n") == 1
    assert other == (2, "", "")
    assert not (config.parent / "run").exists()


def test_no_gpu(config: Path, run_ranks: RunRanks) -> None:
    """What is missing, and what to do."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    (code, _, err), other = run_ranks(_words(config, "--device", "cuda"), 2)
    assert (code, err.count("\n")) == (2, 1)
    assert "device 'cuda' cannot be used: " in err
    assert other == (2, "", "")


def test_a_rank_is_missing(config: Path, start_ranks: StartRanks) -> None:
    """Those that came wait no longer than they were told to."""
    present, missing = start_ranks(_words(config), 2, EKFCORE_TIMEOUT="30")
    missing.kill()
    missing.communicate()
    _, err = present.communicate(timeout=600)
    assert (present.returncode, err.count("\n")) == (2, 1)
    assert "rank 0 of 2 did not meet the others" in err
    assert "within 30 s" in err


@pytest.mark.parametrize("victim", [0, 2])
def test_a_rank_dies(
    tmp_path: Path, config: Path, run_ranks: RunRanks, assert_same_model: AssertSame, victim: int
) -> None:
    """The others end with a line, and what was saved goes on to the same bits, with as many ranks or fewer."""
    ended = run_ranks(_words(config, before=_DIE.format(victim=victim)), 3)
    assert ended[victim][0] == -signal.SIGKILL
    left = [told for rank, told in enumerate(ended) if rank != victim]
    assert {code for code, _, _ in left} == {2}
    lines = [line for _, _, err in left for line in err.splitlines()]
    assert len(lines) == (2 if victim == 0 else 1)  # where rank 0 is gone, each speaks for itself
    assert all("has lost the others" in line for line in lines)
    for code, _, err in run_ranks(_words(config, "--resume"), 2):
        assert (code, err) == (0, "")
    died = (tmp_path / "run").rename(tmp_path / "died")
    run_ranks(_words(config), 3)
    assert_same_model(died, tmp_path / "run")


@pytest.mark.parametrize("victim", [0, 1])
def test_ctrl_c(tmp_path: Path, config: Path, run_ranks: RunRanks, assert_same_model: AssertSame, victim: int) -> None:
    """A signal to one rank stops all after the same step, with a checkpoint."""
    ended = run_ranks(_words(config, before=_INTERRUPT.format(victim=victim)), 2)
    assert [code for code, _, _ in ended] == [128 + signal.SIGINT] * 2
    assert "Stopped; nothing is lost." in ended[0][1]
    for code, _, err in run_ranks(_words(config, "--resume"), 2):
        assert (code, err) == (0, "")
    stopped = (tmp_path / "run").rename(tmp_path / "stopped")
    run_ranks(_words(config, "--set", "training.batch=4"), 1)  # as several ranks have it
    assert_same_model(stopped, tmp_path / "run")


def test_torchrun(tmp_path: Path, config: Path) -> None:
    """As the documentation starts it; the plots are drawn, too."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "ekfcore", "train", config]
    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "run")], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model, metrics and plots are in") == 1
    assert (tmp_path / "run/parity.png").exists()
