"""What the commands print and write when all goes well."""

import csv
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.registry import BACKENDS

Cli = Callable[..., tuple[int, str, str]]

_COLUMNS = ["epoch", "step", "wall_s", "lambda"]
_COLUMNS += [f"{quantity}_rmse_{part}" for quantity in ("energy", "force", "virial") for part in ("train", "test")]
_COLUMNS += ["energy_noise", "force_noise", "energy_kpu_scale", "force_kpu_scale"]


def test_train_writes_model_metrics_and_plots(tmp_path: Path, config: Path, cli: Cli) -> None:
    """And prints one line an epoch where no terminal is."""
    code, out, err = cli("train", config, "--out", tmp_path / "run", "--threads", "1")
    assert (code, err) == (0, "")
    written = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert written == ["learning_curve.png", "metrics.csv", "model.npz", "parity.png"]
    with (tmp_path / "run" / "metrics.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == _COLUMNS
    assert [row["epoch"] for row in rows] == ["1", "2"]
    lines = [line.split() for line in out.splitlines() if line[:5].strip().isdecimal()]
    assert [line[0] for line in lines] == ["1", "2"]
    assert float(lines[1][5]) == pytest.approx(float(rows[1]["force_rmse_test"]), rel=0.01)


def test_errors_fall(tmp_path: Path, config: Path, cli: Cli) -> None:
    """The filter learns: after twenty epochs the force error is well below the spread of the labels."""
    assert cli("train", config, "--out", tmp_path / "run", "--set", "training.epochs=20")[0] == 0
    report = json.loads(cli("test", tmp_path / "run", tmp_path / "copper.xyz", "--json")[1])
    from ekfcore.atoms import read_frames

    frames = read_frames(tmp_path / "copper.xyz")
    spread = 1e3 * np.std([np.asarray(frame.forces) for frame in frames])
    assert report["force_rmse_meV_per_A"] < 0.2 * spread


def test_test_prints_json(tmp_path: Path, config: Path, cli: Cli) -> None:
    """One object, with the errors recomputed here from the predictions."""
    from ekfcore.atoms import read_frames
    from ekfcore.training import load_model

    assert cli("train", config, "--out", tmp_path / "run")[0] == 0
    data = [tmp_path / "copper.xyz", tmp_path / "copper.xyz"]
    code, out, _ = cli("test", tmp_path / "run" / "model.npz", *data, "--json")
    report = json.loads(out)
    assert code == 0
    names = {"frames", "atoms", "energy_rmse_meV_per_atom", "energy_mae_meV_per_atom"}
    names |= {"force_rmse_meV_per_A", "force_mae_meV_per_A"}
    assert names <= set(report)
    assert (report["frames"], report["atoms"]) == (24, 192)

    loaded, frames = load_model(tmp_path / "run"), read_frames(tmp_path / "copper.xyz")
    samples = [loaded.model.environment(frame, like=loaded.weights) for frame in frames]
    predictions = [loaded.model.predict(loaded.weights, sample) for sample in samples]
    force = np.asarray([p["forces"] - f.forces for p, f in zip(predictions, frames, strict=True)])
    energy = np.asarray([(p["energy"] - f.energy) / 8 for p, f in zip(predictions, frames, strict=True)])
    assert report["force_rmse_meV_per_A"] == pytest.approx(1e3 * float(np.sqrt(np.mean(force**2))), rel=1e-10)
    assert report["energy_mae_meV_per_atom"] == pytest.approx(1e3 * float(np.mean(np.abs(energy))), rel=1e-10)


def test_test_prints_a_table(tmp_path: Path, config: Path, cli: Cli) -> None:
    """With units."""
    assert cli("train", config, "--out", tmp_path / "run")[0] == 0
    code, out, _ = cli("test", tmp_path / "run", tmp_path / "copper.xyz")
    assert code == 0
    assert "12 frames, 96 atoms" in out
    assert "meV/atom" in out
    assert "meV/Å" in out


def test_other_backends_give_the_same_model(tmp_path: Path, config: Path, cli: Cli) -> None:
    """The kernels change the speed, not the result, rounding aside."""
    from ekfcore.training import load_model

    weights = []
    for backend in ("auto", "numpy", "generic"):
        assert cli("train", config, "--out", tmp_path / backend, "--backend", backend)[0] == 0
        weights.append(load_model(tmp_path / backend).weights)
    # 20 steps that each amplify a difference in the last digit a little
    for others in weights[:-1]:
        np.testing.assert_allclose(others, weights[-1], rtol=1e-6, atol=1e-9)


def test_info_works_without_extras(tmp_path: Path) -> None:
    """It is the first thing to ask when something is missing."""
    hidden = ["scipy", "ase", "pydantic", "rich", "matplotlib", "torch", "numba", "threadpoolctl", "psutil", "vesin"]
    hidden += ["cupy", "jax"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r}));"
        "from ekfcore.cli import main; sys.exit(main(['info']))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    rows = dict(line.split(maxsplit=1) for line in run.stdout.splitlines() if len(line.split()) > 1)
    assert {name for name in BACKENDS if rows[name].startswith("yes")} == {"generic"}
    assert rows["generic"].split() == ["yes", "numpy", np.__version__, "cpu"]
    for name in set(BACKENDS) - {"generic"}:
        assert rows[name].startswith("no ")
        assert "needs a package that is not installed (" in rows[name]
        assert rows[name].endswith(f"; run: {BACKENDS[name].install}")


def test_help_is_quick(tmp_path: Path) -> None:
    """What only some commands need is not imported for the others."""
    heavy = {"scipy", "ase", "matplotlib", "pydantic", "rich", "torch", "numba"}
    code = (
        "import sys; from ekfcore.cli import main\n"
        "try: main(['--help'])\n"
        f"except SystemExit as end: print(end.code, *sorted({heavy!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "examples:" in run.stdout
    assert run.stdout.splitlines()[-1] == "0"


def test_threads_are_limited(config: Path) -> None:
    """As long as the block runs: those of our kernels, and those of the linear algebra, one beside Numba's kernels."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    from ekfcore.cli._options import limited_threads
    from ekfcore.threads import thread_count

    def threads() -> tuple[int, set[int]]:
        pools = threadpoolctl.threadpool_info()
        return thread_count(), {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}

    before = threads()
    with limited_threads(2, backend="numpy"):
        assert threads() == (2, {2})
    assert threads() == before
    with limited_threads(None, backend="numpy"):
        assert threads() == before
    pytest.importorskip("numba", reason="numba is not installed")
    for backend in ("numba", "auto"):
        with limited_threads(2, backend=backend):
            assert threads() == (2, {1})
        with limited_threads(None, backend=backend):
            assert threads() == (before[0], {1})


def test_closed_pipe_is_no_error(config: Path, start: Callable[..., Any]) -> None:
    """As in ``ekfcore info | head -1``."""
    process = start("info")
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait(timeout=300)


@pytest.fixture
def small_demo(tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a smaller data set in the place of the packaged one; return a folder to write."""
    home = tmp_path / "home"
    home.mkdir()
    with lzma.open(home / "copper.xyz.xz", "wt", encoding="utf-8") as handle:
        handle.write((tmp_path / "copper.xyz").read_text(encoding="utf-8"))
    text = config.read_text(encoding="utf-8").replace("copper.xyz", "copper.xyz.xz")
    (home / "demo.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr("ekfcore.cli.demo.files", lambda package: home)
    return tmp_path / "demo"


def test_demo(cli: Cli, small_demo: Path) -> None:
    """Errors before and after, plots, and a second time over the first, which may have been killed.

    The folder can be trained again as it is.
    """
    for _ in range(2):
        if small_demo.exists():
            for left in (".lock", ".model.npz.x7d.part"):
                (small_demo / left).touch()
        code, told, err = cli("demo", "--out", small_demo, "--epochs", "1")
        assert (code, err) == (0, "")
        before, after = (float(word) for word in told.split("force components [meV/Å]")[1].split()[:2])
        assert after < before
        assert not list(small_demo.glob(".*"))
        assert (small_demo / "learning_curve.png").exists()
        assert str(small_demo / "parity.png") in told
    assert cli("train", small_demo / "demo.toml", "--out", small_demo / "again")[0] == 0


def test_demo_spares_what_is_not_its_own(cli: Cli, small_demo: Path) -> None:
    """Only what a demonstration has written is replaced."""
    small_demo.mkdir()
    (small_demo / "thesis.tex").touch()
    code, _, err = cli("demo", "--out", small_demo)
    assert code == 2
    assert "exists already" in err
    (small_demo / "demo.toml").touch()
    code, _, err = cli("demo", "--out", small_demo)
    assert code == 2
    assert "thesis.tex, which is not of the demonstration" in err
    assert (small_demo / "thesis.tex").exists()


@pytest.mark.parametrize("terminal", [True, False])
def test_compiling_is_told_on_a_terminal(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, or a program that reads what is printed, needs no such line."""
    from ekfcore.cli import main
    from ekfcore.compiling import jit as _jit

    told: list[Callable[[], None]] = []
    monkeypatch.setattr(_jit, "_tell", told)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert len(told) == terminal
    for tell in told:
        tell()
    assert capsys.readouterr().err.count("Compiling kernels") == terminal


def test_all_frames_for_training(config: Path, cli: Cli) -> None:
    """Errors of testing are no numbers then, and the plots are drawn."""
    from ekfcore.training import load_model

    run = config.parent / "run"
    code, _, err = cli("train", config, "--out", run, "--set", "data.test_fraction=0")
    assert (code, err) == (0, "")
    record = load_model(run).position.records[-1]
    assert np.isnan([record.energy_rmse_test, record.force_rmse_test]).all()
    assert record.step == 2 * 12
    assert (run / "parity.png").stat().st_size > 1000
