"""Settings, checkpoints, folders and machines that do not allow a run: one line that says so."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.partition import Strategy
from ekfcore.registry import BACKENDS, BackendEntry, get_backend

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train"], "the following arguments are required: CONFIG; see ekfcore train --help"),
        (["tran"], "invalid choice: 'tran'"),
        ([], "the following arguments are required: COMMAND; see ekfcore --help"),
        (["train", "none.toml", "--threads", "0"], "argument --threads: must be an integer of at least 1, got '0'"),
        (["train", "none.toml", "--backend", "abacus"], "argument --backend: invalid choice: 'abacus'"),
        (["train", "none.toml"], "none.toml: cannot be read (No such file or directory)"),
        (["test", "none", "none.xyz"], "none"),
        (["demo", "--epochs", "0"], "training.epochs must be at least 1, got 0"),
    ],
)
def test_wrong_words(refuse: Refuse, copper_text: str, words: list[str], told: str) -> None:
    """Arguments are checked like everything else."""
    assert told in refuse(*words)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("optimizer.blocksize=3", "config.toml: unknown key optimizer.blocksize; did you mean optimizer.block_size?"),
        ("optimizer.block_size=0", "config.toml: optimizer.block_size must be at least 1, got 0"),
        ("optimizer.block_size=-5", "config.toml: optimizer.block_size must be at least 1, got -5"),
        ("model.axis=5", "config.toml: model.axis must lie between 1 and the last embedding width 4, got 5"),
        ("run.backend=abacus", "backend"),
        ("run.device=moon", "device 'moon' cannot be used"),
    ],
)
def test_wrong_settings(config: Path, tmp_path: Path, refuse: Refuse, override: str, told: str) -> None:
    """Each with the nearest thing that would be right."""
    assert told in refuse("train", config, "--out", tmp_path / "run", "--set", override)


@pytest.mark.parametrize("strategy", ["rlekf", "even", "global"])
def test_covariance_that_does_not_fit(config: Path, tmp_path: Path, refuse: Refuse, strategy: str) -> None:
    """How much it needs, and what would fit: whoever does as told is not refused for want of memory again."""
    wide = ["--set", "model.fitting=[3000, 3000]", "--set", f"optimizer.strategy={strategy}"]
    line = refuse("train", config, "--out", tmp_path / "run", *wide, "--set", "optimizer.block_size=10000000")
    advice = re.search(
        r"needs [\d.]+ GiB, [\d.]+ GiB are free; (?:optimizer\.strategy = '(\w+)' with )?"
        r"optimizer\.block_size = (\d+)(?: and optimizer\.rows = (\d+))? would fit$",
        line.strip(),
    )
    assert advice is not None, line
    free = re.search(r"([\d.]+) GiB are free", line)
    assert free is not None
    assert (advice[1] is None) == (strategy != "global")  # a block size alone changes nothing there
    widths = (1, 4, 8, 3000, 3000)  # the layers of one element: embedding, descriptor, fitting, energy
    pairs = [(widths[0], widths[1]), (widths[2], widths[3]), (widths[3], widths[4]), (widths[4], 1)]
    parts = [size for n_in, n_out in pairs for size in (n_in * n_out, n_out)]
    layout = ek.partition(parts, block_size=int(advice[2]), strategy=cast(Strategy, advice[1] or strategy))
    like = np.zeros(1)
    rows = 128 if advice[3] is None else int(advice[3])
    needed = get_backend(None, like=like).store_size(layout, like=like) + 2 * rows * layout.n_params
    assert 8 * needed / 2**30 < float(free[1])


def test_backend_that_is_not_installed(
    config: Path, tmp_path: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pip command is told."""
    absent = BackendEntry("module_that_is_not_there", "module_that_is_not_there", 'pip install "ekfcore[absent]"')
    monkeypatch.setitem(BACKENDS, "absent", absent)
    line = refuse("train", config, "--out", tmp_path / "run", "--backend", "absent")
    assert 'pip install "ekfcore[absent]"' in line


def test_extra_that_is_not_installed(config: Path, start: Callable[..., Any]) -> None:
    """Without pydantic nothing can be trained; the command line still starts."""
    process = start("train", config, before="sys.modules['pydantic'] = None")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (2, "")
    assert err == 'ekfcore: error: pydantic is not installed; run: pip install "ekfcore[atoms]"\n'


def test_folder_that_exists(config: Path, tmp_path: Path, cli: Cli, refuse: Refuse) -> None:
    """Nothing is overwritten without being asked to."""
    assert cli("train", config, "--out", tmp_path / "run")[0] == 0
    before = (tmp_path / "run" / "model.npz").read_bytes()
    line = refuse("train", config, "--out", tmp_path / "run")
    assert "exists already" in line
    assert "--resume" in line
    assert (tmp_path / "run" / "model.npz").read_bytes() == before


def test_folder_that_is_a_file(config: Path, tmp_path: Path, refuse: Refuse) -> None:
    """As a run, or as the parent of one."""
    assert "exists already" in refuse("train", config, "--out", tmp_path / "copper.xyz")
    assert "copper.xyz" in refuse("train", config, "--out", tmp_path / "copper.xyz" / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_folder_that_cannot_be_written(config: Path, refuse: Refuse) -> None:
    """Not even by root."""
    assert "/proc/ekfcore cannot be written" in refuse("train", config, "--out", "/proc/ekfcore")


def test_full_disk_leaves_the_last_model(
    config: Path, tmp_path: Path, cli: Cli, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The training ends with one line, and goes on from the last model once there is space."""
    out = tmp_path / "run"
    assert cli("train", config, "--out", out, "--set", "training.epochs=1")[0] == 0
    before = (out / "model.npz").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        line = refuse("train", config, "--out", out, "--resume")
    assert "metrics.csv cannot be written" in line  # its tables are written before it goes on
    assert "No space left on device" in line
    assert (out / "model.npz").read_bytes() == before
    assert not list(out.glob(".*")), "a temporary file was left behind"
    assert cli("train", config, "--out", out, "--resume")[0] == 0


@pytest.mark.parametrize("harm", ["cut off", "altered", "empty", "something else"])
@pytest.mark.parametrize("command", ["resume", "test"])
def test_corrupt_checkpoint(config: Path, tmp_path: Path, cli: Cli, refuse: Refuse, command: str, harm: str) -> None:
    """Never a wrong number, never a traceback."""
    model = tmp_path / "run" / "model.npz"
    assert cli("train", config, "--out", model.parent, "--set", "training.epochs=1")[0] == 0
    content = bytearray(model.read_bytes())
    if harm == "cut off":
        model.write_bytes(content[: len(content) // 2])
    elif harm == "altered":
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
    elif harm == "empty":
        model.write_bytes(b"")
    else:
        np.savez(model, weights=np.zeros(3))
    resume = ["train", config, "--out", model.parent, "--resume"]
    line = refuse(*resume) if command == "resume" else refuse("test", model.parent, tmp_path / "copper.xyz")
    assert "model.npz" in line


def test_resume_without_a_model(config: Path, tmp_path: Path, refuse: Refuse) -> None:
    """There is nothing to go on from."""
    assert "model.npz" in refuse("train", config, "--out", tmp_path / "run", "--resume")


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.axis=1", "model.axis"),
        ("model.cutoff=3.5", "model.cutoff"),
        ("optimizer.block_size=20", "optimizer.block_size"),
        ("optimizer.preset=adam", "optimizer.preset"),
    ],
)
def test_resume_with_another_model(
    config: Path, tmp_path: Path, cli: Cli, refuse: Refuse, override: str, told: str
) -> None:
    """What fixes the weights or P cannot change on the way."""
    config.write_text(config.read_text(encoding="utf-8").replace("block_size = 40", ""), encoding="utf-8")
    assert cli("train", config, "--out", tmp_path / "run", "--set", "training.epochs=1")[0] == 0
    line = refuse("train", config, "--out", tmp_path / "run", "--resume", "--set", override)
    assert told in line
    assert "go on" in line
