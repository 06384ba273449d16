"""``ekfcore learn --resume`` after something has changed: what is new is honoured or refused, and no label is lost."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

for _package in ("ase", "matplotlib", "psutil", "pydantic", "rich", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

_CALCULATOR = '''
"""EMT that refuses the frame which it meets first, as long as there is a file that says so."""
from pathlib import Path
import numpy as np
from ase.calculators.emt import EMT

HOME = Path(__file__).parent


class Picky(EMT):
    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        name = np.round(atoms.positions, 6).tobytes().hex()[:40]
        with open(HOME / "calls", "a") as calls:
            calls.write(f"{name}\\n")
        refused = HOME / "refused"
        if refused.exists() and name in refused.read_text().split("\\n") or (HOME / "refuse-all").exists():
            raise RuntimeError("not this frame")
        super().calculate(atoms, properties, system_changes)
'''

_CONFIG = """\
[data]
structures = ["copper.xyz"]
rattled = 4
[[stages]]
temperatures = [300]
[explore]
steps = 8
every = 4
[select]
low = 0.0
high = 1e6
maximum = 2
[label]
calculator = "picky:Picky"
retries = 0
[label.executor]
workers = 1
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[training]
epochs = 1
"""

Learn = Callable[..., tuple[int, str, str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a structure and a calculator; return their folder."""
    from ase.build import bulk
    from ase.io import write

    write(tmp_path / "copper.xyz", bulk("Cu", cubic=True))
    (tmp_path / "picky.py").write_text(_CALCULATOR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


@pytest.fixture
def learn(home: Path, capsys: pytest.CaptureFixture[str]) -> Learn:
    """Return a function that runs ``ekfcore learn`` in this process with some text of CONFIG replaced."""
    from ekfcore.cli import main

    def run(*words: str, replace: tuple[tuple[str, str], ...] = ()) -> tuple[int, str, str]:
        text = _CONFIG
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        (home / "learn.toml").write_text(text)
        code = main(["learn", str(home / "learn.toml"), "--out", str(home / "run"), *words])
        return code, *capsys.readouterr()

    return run


def _trained_on(folder: Path) -> int:
    from ekfcore.atoms import read_frames

    return len(read_frames(folder / "train.extxyz"))


def _labels(home: Path) -> int:
    from ekfcore.labelling.ledger import Ledger

    return len(Ledger(home / "run/labels.db"))


def _weights(home: Path) -> bytes:
    from ekfcore.training import load_model

    return load_model(home / "run/final/model").weights.tobytes()


def _temperatures(home: Path) -> list[str]:
    return [row["temperatures"] for row in csv.DictReader((home / "run/report.csv").read_text().splitlines())]


_ONE_MORE = "temperatures = [300]\n"


@pytest.mark.parametrize(
    ("new", "temperatures"),
    [
        ("temperatures = [300]\nrounds = 2\n", ["300", "300", ""]),
        ("temperatures = [300]\n[[stages]]\ntemperatures = [500]\n", ["300", "500", ""]),
        ("temperatures = [500]\n[[stages]]\ntemperatures = [300]\n", ["300", "500", ""]),  # put before the old one
    ],
)
def test_more_rounds_and_stages(learn: Learn, home: Path, new: str, temperatures: list[str]) -> None:
    """The final model is trained on all labels, whatever was done before; the old one is kept beside it."""
    assert learn()[0] == 0
    old = _weights(home)
    code, out, err = learn("--resume", replace=((_ONE_MORE, new),))
    assert (code, err) == (0, "")
    assert "Trained on all 8 labelled frames" in out
    assert "kept as" in out
    assert _trained_on(home / "run/final") == _labels(home) == 8
    assert _weights(home) != old
    assert _temperatures(home) == temperatures


def test_a_round_more_in_the_first_of_two_stages(learn: Learn, home: Path) -> None:
    """It comes after the others: rounds that were done are neither done again nor taken for other ones."""
    two = "temperatures = [300]\nrounds = {}\n[[stages]]\ntemperatures = [500]\n"
    assert learn(replace=((_ONE_MORE, two.format(1)),))[0] == 0
    assert learn("--resume", replace=((_ONE_MORE, two.format(2)),))[0] == 0
    assert _temperatures(home) == ["300", "500", "300", ""]
    assert _trained_on(home / "run/final") == _labels(home) == 10


def test_nothing_new_is_nothing_done(learn: Learn, home: Path) -> None:
    """The model is the one that is there, to the bit and to the second."""
    assert learn()[0] == 0
    model = home / "run/final/model/model.npz"
    before = model.stat().st_mtime_ns
    code, _, err = learn("--resume")
    assert (code, err) == (0, "")
    assert model.stat().st_mtime_ns == before


def test_a_raised_budget(learn: Learn, home: Path) -> None:
    """First the rattled copies that it did not allow, then the rounds."""
    assert learn(replace=(("[model]", "[stop]\nlabels = 3\n[model]"),))[0] == 0
    assert _trained_on(home / "run/final") == 3
    code, _, err = learn("--resume", replace=(("[model]", "[stop]\nlabels = 5\n[model]"),))
    assert (code, err) == (0, "")
    assert _trained_on(home / "run/final") == _labels(home) == 5


def test_a_removed_quarantine(learn: Learn, home: Path) -> None:
    """Frames of the start and of finished rounds are tried again, and the final model knows them."""
    assert learn()[0] == 0
    calls = (home / "calls").read_text().split()
    (home / "calls").unlink()
    (home / "run").rename(home / "whole")
    (home / "refused").write_text("\n".join((calls[1], calls[5])))
    assert learn()[0] == 0
    assert _labels(home) < 6
    (home / "refused").unlink()
    (home / "run/labels.quarantine.db").unlink()
    code, _, err = learn("--resume")
    assert (code, err) == (0, "")
    assert _trained_on(home / "run/final") == _labels(home) == 6


def test_other_structures_are_refused(learn: Learn, home: Path) -> None:
    """The same file with other contents, too; the line says how the labels are kept."""
    from ase.build import bulk
    from ase.io import write

    assert learn()[0] == 0
    write(home / "copper.xyz", bulk("Cu", cubic=True, a=3.7))
    code, _, err = learn("--resume")
    assert code == 2
    assert err.count("\n") == 1
    assert "data.structures" in err
    assert "labels.db" in err


def test_what_changed_for_later_rounds_is_named(learn: Learn, home: Path) -> None:
    """Settings that finished rounds cannot honour any more."""
    assert learn()[0] == 0
    code, out, _ = learn("--resume", replace=(("steps = 8", "steps = 12"),))
    assert code == 0
    assert "explore.steps = 12 instead of 8" in out


def test_labels_of_an_interrupted_round_are_not_lost(learn: Learn, home: Path) -> None:
    """Whatever is in the ledger, whichever round paid for it, the final model knows."""
    from ekfcore.atoms import read_frames
    from ekfcore.labelling.ledger import Ledger

    assert learn()[0] == 0
    (frame, *_) = read_frames(home / "run/final/train.extxyz")
    other = type(frame)(
        numbers=frame.numbers,
        positions=frame.positions + np.asarray([0.1, 0, 0]),
        cell=frame.cell,
        pbc=frame.pbc,
        energy=frame.energy,
        forces=frame.forces,
        source="of a round whose folder was removed",
    )
    Ledger(home / "run/labels.db").add(other, seconds=1.0)
    assert learn("--resume")[0] == 0
    assert _trained_on(home / "run/final") == 7


def test_another_calculator_does_not_take_what_workers_left(home: Path) -> None:
    """A result in the inbox is a label like those in the database."""
    from ase.build import bulk

    from ekfcore.atoms import Frame
    from ekfcore.errors import InputError
    from ekfcore.labelling._result_file import write_result
    from ekfcore.labelling.ledger import Ledger, frame_key

    ledger, frame = Ledger(home / "labels.db"), Frame.from_ase(bulk("Cu"), "copper")
    with ledger.locked():
        ledger.claim("emt", {})
        labelled = Frame(
            **{name: getattr(frame, name) for name in ("numbers", "positions", "cell", "pbc", "source")},
            energy=1.0,
            forces=np.zeros((1, 3)),
        )
        write_result(ledger.result_file(frame_key(frame)), labelled, 1.0)
    with ledger.locked(), pytest.raises(InputError, match="was made with calculator emt, got lj"):
        ledger.claim("lj", {})


def test_what_a_kill_leaves_is_no_run(learn: Learn, home: Path) -> None:
    """A folder with a temporary file and nothing else; two runs in one folder are told so."""
    from ekfcore.files import locked

    (home / "run").mkdir()
    (home / "run/.settings.json.x7d.part").touch()
    with locked(home / "run", "learns in"):
        code, _, err = learn()
    assert code == 2
    assert "run: another process learns in it" in err
    code, _, err = learn("--resume")
    assert (code, err) == (0, "")
    assert not (home / "run/.settings.json.x7d.part").exists()


def test_what_a_kill_leaves_in_a_round(learn: Learn, home: Path) -> None:
    """Unfinished files go, wherever they are, and no others."""
    assert learn()[0] == 0
    left = [home / "run" / name for name in (".report.csv.x7d.part", "round-01/explore/.000.extxyz.x7d.part")]
    for path in (*left, home / "run/round-01/.notes"):
        path.touch()
    assert learn("--resume")[0] == 0
    assert not any(path.exists() for path in left)
    assert (home / "run/round-01/.notes").exists()


def test_all_labels_are_trained_on(learn: Learn, home: Path) -> None:
    """Without a validation set as well, however few they are."""
    from ekfcore.training import load_model

    code, out, err = learn(replace=(("rattled = 4", "rattled = 1"), ("maximum = 2", "maximum = 1")))
    assert (code, err) == (0, "")
    assert "Trained on all 2 labelled frames" in out
    for folder, frames in (("round-01", 1), ("final", 2)):
        assert load_model(home / "run" / folder / "model").position.step == frames  # in one epoch


def test_structures_that_no_first_label_has(learn: Learn, home: Path) -> None:
    """Refused before a label is paid for: the copies do not come to the last of them."""
    from ase.build import bulk
    from ase.io import write

    write(home / "copper.xyz", [bulk("Cu", cubic=True), bulk("Al", cubic=True), bulk("Ni", cubic=True)])
    for change, cure in (
        (("rattled = 4", "rattled = 2"), "raise data.rattled"),
        (("[model]", "[stop]\nlabels = 2\n[model]"), "raise stop.labels"),
    ):
        code, _, err = learn(replace=(change,))
        assert code == 2
        assert "data.structures hold Ni, which no first label has; 2 rattled copies begin with so many of the 3 " in err
        assert cure in err
    assert not (home / "run").exists()


def test_dynamics_run_where_the_settings_say(
    learn: Learn, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same frames from two processes as from one; device and backend reach the calculator."""
    import json
    from typing import Any

    from ekfcore.active import learner
    from ekfcore.dynamics import _simulate

    made: list[Any] = []

    class Noted(learner.ProcessExecutor):  # type: ignore[misc, name-defined]
        def __init__(self, workers: int) -> None:
            made.append(workers)
            super().__init__(workers)

    places: list[Any] = []
    calculator = _simulate.EKFCalculator  # type: ignore[attr-defined]

    def noted(*args: Any, **where: Any) -> Any:
        places.append(where)
        return calculator(*args, **where)

    monkeypatch.setattr(learner, "ProcessExecutor", Noted)
    monkeypatch.setattr(_simulate, "EKFCalculator", noted)
    two = ("temperatures = [300]", "temperatures = [300, 400]")
    keys = []
    for threads in ("1", "2"):
        assert learn("--threads", threads, "--backend", "numpy", replace=(two,))[0] == 0
        keys.append(json.loads((home / "run/round-01/report.json").read_text())["labelled"])
        (home / "run").rename(home / f"run-{threads}")
    assert keys[0] == keys[1]
    assert made == [2]
    assert places == [{"backend": "numpy", "device": "cpu"}] * 2


@pytest.mark.parametrize("method", ["kpu", "committee"])
def test_steps_that_go_to_the_executor_of_the_labels(
    learn: Learn, home: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """The same frames are chosen, wherever they were explored and judged."""
    import json
    from typing import Any

    from ekfcore.active import learner

    distribute, sent = learner.distribute, []  # type: ignore[attr-defined]

    def noted(function: Any, arguments: Any, *where: Any, **options: Any) -> Any:
        sent.append((function.__name__, len(arguments)))
        return distribute(function, arguments, *where, **options)

    monkeypatch.setattr(learner, "distribute", noted)
    changes = [("temperatures = [300]", "temperatures = [300, 400]"), ("workers = 1", "workers = 2")]
    if method == "committee":
        changes.append(("low = 0.0", 'method = "committee"\nmodels = 2\nlow = 0.0'))
    assert learn(replace=tuple(changes))[0] == 0
    assert sent == []
    (home / "run").rename(home / "here")
    changes.append(("[model]", "[offload]\nexplore = true\njudge = true\n[model]"))
    code, _, err = learn(replace=tuple(changes))
    assert (code, err) == (0, "")
    assert sent == [("simulate", 2), ("judged", 2)]
    reports = [json.loads((home / folder / "round-01/report.json").read_text()) for folder in ("here", "run")]
    for key in ("labelled", "low", "high", "explored"):
        assert reports[0][key] == reports[1][key]


def test_the_last_line_of_the_report_stays(learn: Learn, home: Path) -> None:
    """A run that is finished took as long after --resume as before."""
    assert learn()[0] == 0
    before = (home / "run/report.csv").read_text()
    assert learn("--resume")[0] == 0
    assert (home / "run/report.csv").read_text() == before


def test_labels_that_were_lost(learn: Learn, home: Path) -> None:
    """What the rounds have paid for is missed, and what was altered is refused, in one line each."""
    assert learn()[0] == 0
    labels, settings = home / "run/labels.db", home / "run/settings.json"
    trajectory = next((home / "run/round-01/explore").glob("*.extxyz"))
    chosen = home / "run/round-01/selected.extxyz"
    for path, content, told in (
        (labels, None, "labels.db: lacks 2 of the labels that the rounds have paid for"),
        (labels, labels.read_bytes()[:5000], "labels.db: "),
        (
            settings,
            settings.read_bytes().replace(b"epochs", b"epochz"),
            "settings.json was altered after it was written",
        ),
        (settings, b"[]", "settings.json is damaged (it holds no table); put it back, or start anew"),
        (chosen, chosen.read_bytes()[:-3], "selected.extxyz was altered after the round: its SHA-256 differs"),
    ):
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        code, _, err = learn("--resume")
        path.write_bytes(before)
        assert code == 2
        assert told in err
        assert "Traceback" not in err
    (home / "run/round-01/chosen.json").unlink()
    (home / "run/round-01/report.json").unlink()
    trajectory.write_bytes(trajectory.read_bytes()[:-3])
    code, _, err = learn("--resume")
    assert code == 2
    assert f"{trajectory.name} is not the trajectory that the run has left; remove both" in err
