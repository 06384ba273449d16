"""``ekfcore learn`` from end to end, with everything that goes wrong in a week of labelling."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _package in ("ase", "matplotlib", "psutil", "pydantic", "rich", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

_CALCULATOR = '''
"""EMT that keeps a list of its calculations, dies once, and fails for one frame always."""
import os
from pathlib import Path
import numpy as np
from ase.calculators.emt import EMT

HOME = Path(__file__).parent


class Unlucky(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        name = np.round(atoms.positions, 6).tobytes().hex()[:40]
        with open(HOME / "calls", "a") as calls:
            calls.write(f"{name}\\n")
        count = len((HOME / "calls").read_text().split())
        if count == 3 and not (HOME / "died").exists():
            (HOME / "died").touch()
            os._exit(9)
        first = HOME / "first"
        if not first.exists():
            first.write_text(name)
        if first.read_text() == name:
            raise RuntimeError("this frame never converges")
        super().calculate(atoms, properties, system_changes)
'''

_CONFIG = """\
[data]
structures = ["copper.xyz"]
rattled = 6
[data.validation]
hot = ["hot.xyz"]
[[stages]]
temperatures = [300]
rounds = 1
[[stages]]
temperatures = [600]
rounds = 1
[explore]
steps = 40
every = 4
[select]
low = 0.0
high = 1e6
maximum = 4
[label]
calculator = "unlucky:Unlucky"
retries = 1
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[training]
epochs = 2
"""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Write a structure, a validation set, a calculator and a CONFIG; return their folder."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    atoms = bulk("Cu", cubic=True)
    write(tmp_path / "copper.xyz", atoms)
    rng, hot = np.random.default_rng(0), []
    for _ in range(3):
        hot.append(atoms.copy())
        hot[-1].positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        labels = {name: EMT().get_property(name, hot[-1]) for name in ("energy", "forces")}
        hot[-1].calc = SinglePointCalculator(hot[-1], **labels)
    write(tmp_path / "hot.xyz", hot)
    (tmp_path / "unlucky.py").write_text(_CALCULATOR)
    (tmp_path / "learn.toml").write_text(_CONFIG)
    return tmp_path


@pytest.fixture
def start(home: Path) -> Start:
    """Return a function that starts ``ekfcore learn``."""

    def run(*words: str) -> "subprocess.Popen[str]":
        code = "import sys\nfrom ekfcore.cli import main\nif __name__ == '__main__':\n    sys.exit(main())"
        (home / "main.py").write_text(code)
        return subprocess.Popen(
            [sys.executable, "main.py", "learn", "learn.toml", "--out", "run", *words],
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return run


def _labels(folder: Path) -> int:
    from ekfcore.labelling.ledger import Ledger

    return len(Ledger(folder / "run/labels.db"))


def _table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def _wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something has happened; the process must not end before."""
    for _ in range(30_000):  # five minutes, for a machine that has other work
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("it never happened")


def test_dead_workers_failing_labels_and_two_restarts(home: Path, start: Start) -> None:
    """A worker dies, a label fails, the run is killed once and stopped once: no label is lost, none is made twice."""
    calls = home / "calls"
    process = start()
    _wait_for(lambda: calls.exists() and len(calls.read_text().split()) >= 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    process = start("--resume")
    _wait_for((home / "run/round-01/selection.csv").exists, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err
    assert "--resume" in out
    assert "Traceback" not in err

    process = start("--resume")
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert "Traceback" not in err

    _check_calls(calls.read_text().split(), (home / "first").read_text())
    rows = _table(home / "run/report.csv")
    assert [row["temperatures"] for row in rows] == ["300", "600", ""]
    assert [int(row["trained_on"]) for row in rows] == [5, 9, 13]  # one of the six never converges
    assert _labels(home) == 13
    for number in (1, 2):
        fates = [row["fate"] for row in _table(home / f"run/round-0{number}/selection.csv")]
        assert len(fates) == 10
        assert fates.count("selected") == 4
    assert (home / "run/final/model/model.npz").exists()
    assert (home / "run/report.png").stat().st_size > 10_000


def _check_calls(calls: list[str], failing: str) -> None:
    """Only what was being computed when a process was killed, and what failed, was computed again."""
    counts = Counter(calls)
    assert counts.pop(failing) >= 2  # it was given another chance
    again = {name: count for name, count in counts.items() if count > 1}
    assert len(again) <= 3, again  # two workers were at work when the run was killed, one died before
    assert max(again.values(), default=2) == 2


def test_the_same_run_in_one_go_gives_the_same_frames(home: Path, start: Start) -> None:
    """What was interrupted ends where it would have ended."""
    text = _CONFIG.replace("unlucky:Unlucky", "emt")
    (home / "learn.toml").write_text(text)
    process = start()
    _wait_for((home / "run/round-01/model/model.npz").exists, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    process = start("--resume")
    assert process.communicate(timeout=600)[1] == ""
    (home / "run").rename(home / "parts")
    process = start()
    assert process.communicate(timeout=600)[1] == ""
    for number in (1, 2):
        parts, whole = (home / folder / f"round-0{number}/report.json" for folder in ("parts", "run"))
        keys = [json.loads(path.read_text())["labelled"] for path in (parts, whole)]
        assert keys[0] == keys[1]


@pytest.mark.slow
def test_a_calculator_that_is_no_toy(home: Path, start: Start) -> None:
    """GFN1-xTB labels a molecule of water, which has no cell."""
    pytest.importorskip("tblite", reason='tblite is not installed: pip install "ekfcore[xtb]"')
    from ase.build import molecule
    from ase.io import write
    from tblite.ase import TBLite

    from ekfcore.atoms import read_frames

    write(home / "water.xyz", molecule("H2O"))
    text = _CONFIG.replace(
        '"unlucky:Unlucky"', '"tblite.ase:TBLite"\nparameters = {method = "GFN1-xTB", verbosity = 0}'
    )
    text = text.replace("copper.xyz", "water.xyz").replace('[data.validation]\nhot = ["hot.xyz"]\n', "")
    (home / "learn.toml").write_text(text.replace("steps = 40", "steps = 40\ntime_step = 0.5"))
    process = start()
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    frames = read_frames([str(home / "run/labels.db")])
    assert f"all {len(frames)} labelled frames" in out
    assert len(frames) > 6
    atoms = frames[-1].to_ase()
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    assert frames[-1].energy == pytest.approx(atoms.get_potential_energy(), rel=1e-9)
    assert frames[-1].forces == pytest.approx(atoms.get_forces(), abs=1e-6)


Learn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def learn(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Learn:
    """Return a function that runs ``ekfcore learn`` in this process with some text of CONFIG replaced."""
    from ekfcore.cli import main

    monkeypatch.syspath_prepend(home)

    def run(*words: str, **changes: Any) -> tuple[int, str, str]:
        text = _CONFIG.replace("unlucky:Unlucky", "emt")
        for old, new in changes.get("replace", []):
            assert old in text
            text = text.replace(old, new)
        (home / "learn.toml").write_text(text)
        code = main(["learn", str(home / "learn.toml"), "--out", str(home / "run"), *words])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low = 0.0", "low = 1e7", "select.low must be below select.high, got 1e+07 and 1e+06"),
        ('structures = ["copper.xyz"]', "", "data.structures is missing; add structures = ... to [data]"),
        ('structures = ["copper.xyz"]', "structures = []", "data.structures must have at least 1 item"),
        ('structures = ["copper.xyz"]', 'structures = ["none.xyz"]', "none.xyz"),
        ("temperatures = [300]", "temperatures = []", "stages[0].temperatures must have at least 1 item"),
        ("temperatures = [300]", "temperatures = [-300]", "stages[0].temperatures[0] must be greater than 0, got -300"),
        ('calculator = "emt"', 'calculator = "nowhere:Nothing"', "nowhere"),
        ('calculator = "emt"', 'calculator = "emtt"', "emtt"),
        ("[training]", '[optimizer]\npreset = "adam"\n[training]', 'optimizer.preset = "adam"'),
        (
            "[model]",
            '[label.executor]\nkind = "dask"\noptions = {address = "tcp://127.0.0.1:1", timeout = 0.5}\n[model]',
            "executor: dask cannot be opened",
        ),
        ("maximum = 4", "maximum = 0", "select.maximum must be at least 1, got 0"),
        ("maximum = 4", "maximun = 4", "unknown key select.maximun; did you mean select.maximum?"),
    ],
)
def test_bad_settings(learn: Learn, old: str, new: str, message: str) -> None:
    """One line that says what to correct, before anything is computed."""
    code, _, err = learn(replace=[(old, new)])
    assert code == 2
    assert err.count("\n") == 1
    assert message in err


def test_empty_selection_is_told(learn: Learn) -> None:
    """The round says so, and the run goes on."""
    code, out, err = learn(replace=[("low = 0.0", "low = 1e5"), ("rounds = 1\n[[stages]]", "rounds = 2\n[[stages]]")])
    assert (code, err) == (0, "")
    assert out.count("nothing to label") == 3
    assert "6 labelled frames" in out


def test_nothing_more_to_learn_ends_a_stage(learn: Learn) -> None:
    """Twice in succession all frames were reliable."""
    change = [("low = 0.0", "low = 1e5"), ("rounds = 1\n[[stages]]", "rounds = 5\n[[stages]]")]
    code, out, _ = learn(replace=change)
    assert code == 0
    assert "Stage 1 is done: in two rounds running, all explored frames were reliable.\n" in out
    assert out.count("Round ") == 3


@pytest.mark.parametrize(("share", "told"), [(0.05, "at most 5 %"), (0.004, "at most 0.4 %"), (1.0, "at most 100 %")])
def test_a_stage_says_which_share_was_enough(share: float, told: str) -> None:
    """Small shares are not rounded to none."""
    from ekfcore.active._messages import finished

    assert (
        finished(2, share)
        == f"Stage 2 is done: in two rounds running, {told} of the explored frames were not reliable."
    )


def test_budget(learn: Learn) -> None:
    """No label beyond it, and the run ends when it is used up."""
    code, out, err = learn(replace=[("[model]", "[stop]\nlabels = 8\n[model]")])
    assert (code, err) == (0, "")
    assert "budget of 8 labels is used up" in out
    assert "all 8 labelled frames" in out


def test_a_run_that_is_there_is_not_overwritten(learn: Learn, home: Path) -> None:
    """Nor is any other folder taken for one."""
    (home / "run").mkdir()
    (home / "run/something").touch()
    code, _, err = learn()
    assert code == 2
    assert "--resume" in err
    code, _, err = learn("--resume")
    assert code == 2
    assert "no run to go on with" in err


def test_another_model_cannot_go_on(learn: Learn) -> None:
    """The key and both values are named."""
    assert learn(replace=[("[model]", "[stop]\nlabels = 6\n[model]")])[0] == 0
    code, _, err = learn("--resume", "--set", "training.epochs=3")
    assert code == 2
    assert "training.epochs = 3 differs from 2" in err


@pytest.mark.parametrize("method", ["committee", "random"])
def test_the_rivals_run_on_the_same_loop(learn: Learn, home: Path, method: str) -> None:
    """The committee trains several models, random selection one."""
    select = f'method = "{method}"\nmodels = 2'
    code, _, err = learn(replace=[("low = 0.0\nhigh = 1e6", select)])
    assert (code, err) == (0, "")
    models = sorted(path.name for path in (home / "run/round-01").glob("model*"))
    assert models == (["model", "model-1"] if method == "committee" else ["model"])


def test_fresh_covariance_needs_no_filter(learn: Learn, home: Path) -> None:
    """A model trained with Adam asks for labels, too."""
    change = [
        ("[select]", '[select]\ncovariance = "fresh"'),
        ("[training]", '[optimizer]\npreset = "adam"\n[training]'),
    ]
    code, out, err = learn(replace=change)
    assert (code, err) == (0, "")
    assert out.count("4 selected") == 2


def test_warm_start_goes_on_with_the_filter(learn: Learn, home: Path) -> None:
    """The second round begins with the state of the first and reopens the filter."""
    from ekfcore.training import load_model

    code, _, err = learn(replace=[("[model]", '[update]\nstart = "warm"\nmemory = 0.9\nepochs = 1\n[model]')])
    assert (code, err) == (0, "")
    first, second = (load_model(home / f"run/round-0{k}/model") for k in (1, 2))
    assert second.position.epoch == 1
    assert second.optimizer["count"] > first.optimizer["count"]
    assert 0.9 < second.optimizer["lam"] < first.optimizer["lam"]


def test_memory_belongs_to_a_filter(learn: Learn) -> None:
    """Adam has none."""
    change = [
        ("[select]", '[select]\ncovariance = "fresh"'),
        ("[training]", '[update]\nstart = "warm"\nmemory = 0.9\n[optimizer]\npreset = "adam"\n[training]'),
    ]
    code, _, err = learn(replace=change)
    assert code == 2
    assert err.count("\n") == 1
    assert 'update.memory needs a filter, got 0.9 beside optimizer.preset = "adam"' in err


def test_a_stop_on_uncertainty_belongs_to_a_filter(learn: Learn) -> None:
    """Adam has no covariance that it could come from."""
    change = [
        ("[select]", '[select]\ncovariance = "fresh"'),
        ("steps = 40", "steps = 40\nmax_uncertainty = 0.2"),
        ("[training]", '[optimizer]\npreset = "adam"\n[training]'),
    ]
    code, _, err = learn(replace=change)
    assert code == 2
    assert err.count("\n") == 1
    assert 'explore.max_uncertainty needs the covariance of a filter, got 0.2 beside optimizer.preset = "adam"' in err


def test_warm_adam_learns(learn: Learn, home: Path) -> None:
    """Its learning rate begins anew in each round, and ends where it should."""
    from ekfcore.training import load_model

    change = [
        ("[select]", '[select]\ncovariance = "fresh"'),
        ("[training]", '[update]\nstart = "warm"\n[optimizer]\npreset = "adam"\n[training]'),
    ]
    code, _, err = learn(replace=change)
    assert (code, err) == (0, "")
    first, second = (load_model(home / f"run/round-0{k}/model") for k in (1, 2))
    for model, frames in ((first, 6), (second, 10)):
        assert model.optimizer["count"] == model.optimizer["total_steps"] == 2 * frames
    assert np.abs(second.weights - first.weights).max() > 1e-3
    assert second.position.records[0].lam > 1e-7


def test_dynamics_that_all_explode(learn: Learn) -> None:
    """No frame is no proof that the model is reliable: the run stops, and says what to do."""
    code, out, err = learn(replace=[("steps = 40", "steps = 40\nmax_force = 1e-9")])
    assert code == 2
    assert err.count("\n") == 1
    assert "round 1: no frame came of 1 run" in err
    assert "explore.max_force = 1e-09" in err
    assert "reliable" not in out


def test_stages_do_not_end_while_dynamics_explode() -> None:
    """What a run that stopped itself left may all be reliable; what made it stop is not."""
    from ekfcore.active.report import RoundReport

    common: dict[str, Any] = {"round": 1, "stage": 1, "temperatures": [300.0], "trained_on": 5}
    assert RoundReport(**common, explored=10, reliable=10).is_converged(0.0)
    assert not RoundReport(**common, explored=10, reliable=10, stopped=1).is_converged(0.0)
    assert not RoundReport(**common, explored=10, reliable=9).is_converged(0.0)
    assert RoundReport(**common, explored=10, reliable=9).is_converged(0.1)
    assert not RoundReport(**common).is_converged(0.0)
