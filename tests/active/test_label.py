"""Labels: right, kept, never computed twice, whatever fails, hangs or is killed."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from pydantic import ValidationError

from ekfcore.atoms import Frame
from ekfcore.errors import EKFError, InputError
from ekfcore.labelling.executors import ExecutorSettings
from ekfcore.labelling.label import LabelReport, LabelSettings, label
from ekfcore.labelling.ledger import Ledger, frame_key

if TYPE_CHECKING:
    from active.conftest import Faulty

    MakeFrames = Callable[..., list[Frame]]
    Run = Callable[..., LabelReport]

KINDS = [
    "processes",
    # Both leave sockets to the garbage collector.
    pytest.param("executorlib", marks=pytest.mark.filterwarnings("default")),
    pytest.param("dask", marks=pytest.mark.filterwarnings("default")),
]


@pytest.fixture
def run(tmp_path: Path, faulty: "Faulty") -> "Run":
    """Return a function that labels with the faulty calculator into labels.db."""

    def call(
        frames: list[Frame], does: dict[str, str] | None = None, *, seconds: float = 0.0, **options: Any
    ) -> LabelReport:
        settings = {key: options.pop(key) for key in ("retries", "timeout") if key in options}
        executor = ExecutorSettings(kind=options.pop("kind", "processes"), workers=options.pop("workers", 2))
        parameters = faulty.parameters(seconds=seconds, **(does or {}))
        return label(
            frames,
            LabelSettings(calculator="faulty:Faulty", parameters=parameters, executor=executor, **settings),
            Ledger(tmp_path / "labels.db"),
            log_dir=tmp_path / "log",
            **options,
        )

    return call


def _need(kind: str) -> None:
    if kind != "processes":
        pytest.importorskip({"dask": "distributed"}.get(kind, kind), reason=f"{kind} is not installed")


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_those_of_the_calculator(kind: str, tmp_path: Path, rattled: "MakeFrames") -> None:
    """In the order of the frames, with the energy that belongs to the forces, and the virial."""
    from ase.calculators.emt import EMT

    _need(kind)
    frames = rattled(["Cu", "Ag", "Au"])
    settings = LabelSettings(calculator="emt", executor=ExecutorSettings.model_validate({"kind": kind, "workers": 2}))
    heard: list[tuple[str, str]] = []
    report = label(
        frames,
        settings,
        Ledger(tmp_path / "labels.db"),
        log_dir=tmp_path / "log",
        on_done=lambda frame, outcome: heard.append((frame.source, outcome)),
    )
    assert [frame.source for frame in report.labelled] == ["frame 0", "frame 1", "frame 2"]
    assert sorted(heard) == [(frame.source, "labelled") for frame in frames]
    assert (report.quarantined, report.unfinished, report.reused) == ([], [], 0)
    assert 0 < report.seconds < 60
    for given, found in zip(frames, report.labelled, strict=True):
        atoms = given.to_ase()
        atoms.calc = EMT()
        np.testing.assert_array_equal(found.positions, given.positions)
        assert found.energy == atoms.get_potential_energy(force_consistent=True)
        assert found.forces is not None
        assert found.virial is not None
        assert np.abs(found.forces - atoms.get_forces()).max() < 1e-12
        assert np.abs(found.virial + atoms.get_volume() * atoms.get_stress(voigt=False)).max() < 1e-12
    assert not (tmp_path / "log").exists()
    assert list((tmp_path / "labels.inbox").iterdir()) == []


def test_a_molecule_has_no_virial(tmp_path: Path) -> None:
    """Nor does a quantum-chemical calculator need a cell."""
    pytest.importorskip("tblite", reason='tblite is not installed: pip install "ekfcore[xtb]"')
    from ase.build import molecule
    from tblite.ase import TBLite

    atoms = molecule("H2O")
    settings = LabelSettings(calculator="tblite.ase:TBLite", parameters={"method": "GFN1-xTB", "verbosity": 0})
    report = label([Frame.from_ase(atoms, "water")], settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path)
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    (found,) = report.labelled
    assert found.virial is None
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    assert found.forces is not None
    assert np.abs(found.forces - atoms.get_forces()).max() < 1e-6


def test_an_scf_that_does_not_converge(tmp_path: Path) -> None:
    """A real one, stopped after two iterations."""
    pytest.importorskip("tblite", reason='tblite is not installed: pip install "ekfcore[xtb]"')
    from ase.build import molecule

    parameters = {"method": "GFN1-xTB", "max_iterations": 2}
    settings = LabelSettings(calculator="tblite.ase:TBLite", parameters=parameters, retries=0)
    frame = Frame.from_ase(molecule("H2O"), "water")
    report = label([frame], settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path / "log")
    assert report.labelled == []
    assert report.quarantined[0][1].startswith("did not converge: ")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            " convergence threshold = 1e-6\n convergence NOT achieved after   2 iterations: stopping\n writing all\n",
            r"did not converge: .* status 2\. convergence NOT achieved after   2 iterations: stopping$",
        ),
        (
            " Error in routine set_cutoff (1):\n      ecutwfc not set\n %%%%\n stopping ...\n",
            r"failed: .* status 2\. Error in routine set_cutoff \(1\): ecutwfc not set$",
        ),
        (" the end\n", r"failed: .* status 2\.$"),
    ],
)
def test_a_program_that_fails_has_the_last_word(said: str, reason: str, tmp_path: Path) -> None:
    """Its exit code alone tells nothing; the lines are those of pw.x 6.7."""
    from ase.build import bulk

    (tmp_path / "said").write_text(said)
    program = tmp_path / "pw.x"
    program.write_text(f"#!/bin/sh\ncat '{tmp_path / 'said'}'\nexit 2\n")
    program.chmod(0o755)
    profile = {"object": "ase.calculators.espresso:EspressoProfile", "command": str(program), "pseudo_dir": "."}
    parameters = {"profile": profile, "pseudopotentials": {"Al": "Al.UPF"}}
    settings = LabelSettings(calculator="espresso", parameters=parameters, retries=0)
    frame = Frame.from_ase(bulk("Al"), "aluminium")
    report = label([frame], settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path / "log")
    assert re.match(reason, report.quarantined[0][1])


def test_a_calculator_without_forces(tmp_path: Path) -> None:
    """As Espresso without `tprnfor`: the reason names what is missing."""
    from ase.build import bulk

    settings = LabelSettings(calculator="ase.calculators.calculator:Calculator", retries=0)
    frame = Frame.from_ase(bulk("Al"), "aluminium")
    report = label([frame], settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path / "log")
    assert "gives no energy and no forces; ask it for them in label.parameters" in report.quarantined[0][1]


def test_nothing_is_computed_twice(run: "Run", rattled: "MakeFrames", faulty: "Faulty") -> None:
    """Neither in a later call, nor a frame that is given twice; what is new is computed."""
    first, second = rattled(["Cu", "Ag", "Cu"]), rattled(["Cu", "Au"], seed=1)
    before = run([first[1], *first, first[0]])
    assert [frame.source for frame in before.labelled] == ["frame 1", "frame 0", "frame 2"]
    heard: list[tuple[str, str]] = []
    report = run(first + second, on_done=lambda frame, outcome: heard.append((frame.source, outcome)))
    assert report.reused == 3
    assert len(report.labelled) == 5
    assert Counter(outcome for _, outcome in heard) == {"reused": 3, "labelled": 2}
    assert set(faulty.count("start").values()) == {1}
    assert len(faulty.count("start")) == 5
    assert run(first).seconds == before.seconds


def _runs(pid: str) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < deadline, "waited for minutes"
        time.sleep(0.02)


def test_no_frames_at_all(run: "Run") -> None:
    """An empty selection is nothing to complain about."""
    report = run([])
    assert (report.labelled, report.quarantined, report.unfinished, report.seconds) == ([], [], [], 0.0)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("raise", "failed: RuntimeError: the program stopped"),
        ("scf", "did not converge: SCFError: 100 iterations were not enough"),
        ("flag", "did not converge: the calculator says so"),
        ("nan", "failed: InputError: the result: forces of atom 0 must be finite, got nan"),
        ("exit", "failed: the process ended with code 7"),
        ("kill", "failed: the process was killed by signal 9 (SIGKILL)"),
        ("hang", "timed out after 3 s"),
    ],
)
def test_a_frame_that_cannot_be_labelled(
    kind: str, reason: str, run: "Run", rattled: "MakeFrames", faulty: "Faulty", tmp_path: Path
) -> None:
    """It is tried again, then quarantined with its log, and all others are labelled; later calls leave it alone."""
    frames = rattled(["Cu", "Ag", "Cu", "Cu"])
    options: dict[str, Any] = {"timeout": 3.0} if kind == "hang" else {}
    report = run(frames, {"Ag": kind}, **options)
    assert [frame.source for frame in report.labelled] == ["frame 0", "frame 2", "frame 3"]
    ((frame, found),) = report.quarantined
    assert frame is frames[1]
    assert found.startswith(reason)
    assert sum(count for name, count in faulty.count("start").items() if name.startswith("Ag")) == 2
    assert max(faulty.count("end").values()) <= (2 if kind in ("nan", "flag") else 1)
    log = (tmp_path / "log" / f"{frame_key(frame)}.log").read_text()
    assert "attempt 1" in log
    assert "attempt 2" in log
    assert {"raise": "last words", "exit": "leaving", "scf": "Traceback"}.get(kind, "") in log
    assert Ledger(tmp_path / "labels.db").log(frame_key(frame)) == log
    again = run(frames, {"Ag": kind}, **options)
    assert (again.reused, again.quarantined) == (3, [(frame, found)])
    assert len(faulty.lines("start")) == 5
    # The program of the calculation that hung is gone, too.
    _wait_until(lambda: not any(_runs(pid) for _, pid in faulty.lines("child")))


def test_a_failure_that_does_not_come_back(run: "Run", rattled: "MakeFrames", faulty: "Faulty") -> None:
    """The second attempt counts; without one the first does."""
    report = run(rattled(["Cu", "Ag"]), {"Ag": "once"})
    assert len(report.labelled) == 2
    assert len(faulty.lines("start")) == 3
    report = run(rattled(["Pt"], seed=1), {"Ag": "once"}, retries=0)
    assert len(report.labelled) == 1


def test_a_calculator_that_cannot_be_made(tmp_path: Path, rattled: "MakeFrames") -> None:
    """It is an error of the settings, not of the frames: nothing is quarantined."""
    ledger = Ledger(tmp_path / "labels.db")
    with pytest.raises(InputError, match=r"^calculator no.such:Calculator: cannot be imported"):
        label(rattled(["Cu"]), LabelSettings(calculator="no.such:Calculator"), ledger, log_dir=tmp_path)
    assert ledger.quarantined == {}


def test_a_calculator_that_fails_for_all(run: "Run", rattled: "MakeFrames", faulty: "Faulty", tmp_path: Path) -> None:
    """A program that is not there fails for each frame: it says so early, and nothing is held against the frames."""
    frames = rattled(["Ag"] * 12)
    with pytest.raises(EKFError, match=r"the first 6 calculations brought no label \(failed: .*stopped\); see .*\.log"):
        run(frames, {"Ag": "raise"})
    assert len(faulty.lines("start")) < 12
    assert Ledger(tmp_path / "labels.db").quarantined == {}
    assert len(run(frames, {}).labelled) == 12  # with other parameters, into the same file


def test_settings_that_changed(run: "Run", rattled: "MakeFrames") -> None:
    """Labels of two kinds are not mixed."""
    run(rattled(["Cu"]))
    with pytest.raises(InputError, match="was made with parameters"):
        run(rattled(["Cu"]), seconds=0.5)


def test_a_frame_that_is_none(run: "Run", rattled: "MakeFrames") -> None:
    """It is refused before anything is computed."""
    (frame,) = rattled(["Cu"])
    frame.positions[0, 0] = np.nan
    with pytest.raises(InputError, match="frame 0: positions of atom 0 must be finite"):
        run([frame])


@pytest.mark.parametrize(
    "wrong",
    [{"retries": -1}, {"timeout": 0.0}, {"executor": {"workers": 0}}, {"executor": {"kind": "threads"}}, {"a": 1}],
)
def test_settings_that_are_wrong(wrong: dict[str, Any]) -> None:
    """The table refuses them."""
    with pytest.raises(ValidationError):
        LabelSettings.model_validate({"calculator": "emt", **wrong})


def test_stop_and_go_on(run: "Run", rattled: "MakeFrames", faulty: "Faulty") -> None:
    """What runs when the stop comes is given up; what is done stays."""
    frames, done = rattled(["Cu"] * 12), threading.Event()
    start = time.monotonic()
    report = run(frames, seconds=0.4, on_done=lambda *_: done.set(), should_stop=done.is_set)
    assert time.monotonic() - start < 120
    assert 1 <= len(report.labelled) < 12
    assert len(report.unfinished) == 12 - len(report.labelled)
    rest = run(frames, seconds=0.4)
    assert rest.reused >= len(report.labelled)  # a result that came after the stop was in the inbox
    assert len(rest.labelled) == 12
    assert set(faulty.count("end").values()) == {1}


def test_keyboard_interrupt(run: "Run", rattled: "MakeFrames", faulty: "Faulty") -> None:
    """Ctrl-C in the middle: no process is left, no label is lost."""

    def interrupt(frame: Frame, outcome: str) -> None:
        raise KeyboardInterrupt

    frames = rattled(["Cu"] * 8)
    with pytest.raises(KeyboardInterrupt):
        run(frames, seconds=0.2, on_done=interrupt)
    assert not any(Path(f"/proc/{words[2]}").exists() for words in faulty.lines("start"))
    assert len(run(frames, seconds=0.2).labelled) == 8
    # Of two calculations that end in the same instant, one may be killed before its result is written.
    assert sorted(faulty.count("end").values())[:-1] == [1] * 7
    assert max(faulty.count("end").values()) <= 2


_PARENT = """
import pickle, sys
from ekfcore.labelling.label import label
from ekfcore.labelling.ledger import Ledger
frames, settings = pickle.load(open(sys.argv[1], "rb"))
label(frames, settings, Ledger(sys.argv[2]), log_dir=sys.argv[3])
"""


def test_kill_the_parent_again_and_again(
    tmp_path: Path, rattled: "MakeFrames", faulty: "Faulty", monkeypatch: pytest.MonkeyPatch
) -> None:
    """kill -9 at any moment of a round: each calculation that came to its end is a label, and has no second end."""
    import pickle

    frames = rattled(["Cu"] * 60)
    parameters = faulty.parameters(seconds=0.02)
    settings = LabelSettings(
        calculator="faulty:Faulty", parameters=parameters, executor=ExecutorSettings(workers=2), retries=0
    )
    (tmp_path / "job").write_bytes(pickle.dumps((frames, settings)))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    command = [sys.executable, "-c", _PARENT, *(str(tmp_path / name) for name in ("job", "labels.db", "log"))]
    draw = random.Random(0)
    for _ in range(3):
        before = len(faulty.lines("end"))
        with subprocess.Popen(command) as parent:
            while len(faulty.lines("end")) == before and parent.poll() is None:
                time.sleep(0.005)
            time.sleep(draw.uniform(0.0, 0.2))
            parent.kill()
    _wait_until(lambda: not any(_runs(words[2]) for words in faulty.lines("start")))
    killed = len(faulty.lines("end"))
    assert 3 <= killed < 60
    assert list((tmp_path / "scratch").iterdir()) == []  # what programs write is large
    report = label(frames, settings, Ledger(tmp_path / "labels.db"), log_dir=tmp_path / "log")
    assert len(report.labelled) == 60
    assert report.reused >= killed
    assert faulty.count("end") == Counter(f"Cu{frame.positions[0, 0]:.6f}" for frame in frames)


_DIE_BEFORE_A_CALL = """
import os, signal
from ekfcore.labelling._worker import Worker
Worker.call = lambda *args, **how: os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_the_parent_before_the_worker_begins(
    tmp_path: Path, rattled: "MakeFrames", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has yet to import what it is to run knows of no folder that it would have to remove."""
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps((rattled(["Cu"]), LabelSettings(calculator="emt"))))
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    code = _DIE_BEFORE_A_CALL + _PARENT
    command = [sys.executable, "-c", code, *(str(tmp_path / name) for name in ("job", "labels.db", "log"))]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert list((tmp_path / "scratch").iterdir()) == []


def test_kill_workers(run: "Run", rattled: "MakeFrames", faulty: "Faulty") -> None:
    """kill -9 of the processes that compute: only what they were computing is computed again."""
    frames = rattled(["Cu"] * 30)
    victims: set[str] = set()

    def kill_each_once() -> bool:
        started, ended = faulty.lines("start"), faulty.lines("end")
        for words in started[-1:]:
            if len(victims) < 3 and words[2] not in victims and len(ended) > 4 * len(victims):
                victims.add(words[2])
                os.kill(int(words[2]), signal.SIGKILL)
        return False

    def last_of(process: str) -> str:
        return [words[1] + words[3] for words in faulty.lines("start") if words[2] == process][-1]

    report = run(frames, seconds=0.4, retries=3, should_stop=kill_each_once)
    assert len(victims) == 3
    assert (len(report.labelled), report.quarantined) == (30, [])
    # One may have come to its end when its process was killed, but not to its label: the kernel asks nobody.
    again = {name for name, count in faulty.count("start").items() if count > 1}
    assert again <= {last_of(victim) for victim in victims}
    assert len(faulty.lines("start")) <= 33


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_calculation_that_takes_the_worker_of_a_cluster_down(
    kind: str, run: "Run", rattled: "MakeFrames", faulty: "Faulty"
) -> None:
    """It alone is blamed, and all others are labelled."""
    _need(kind)
    frames = rattled(["Cu", "Ag", "Cu", "Cu"])
    report = run(frames, {"Ag": "worker"}, kind=kind, retries=0)
    assert [frame.source for frame in report.labelled] == ["frame 0", "frame 2", "frame 3"]
    assert [frame.source for frame, _ in report.quarantined] == ["frame 1"]
    assert report.quarantined[0][1].startswith("failed: its worker was lost: ")
    assert {name: count for name, count in faulty.count("end").items() if count > 1} == {}


def test_an_executor_that_is_lost(
    run: "Run", rattled: "MakeFrames", faulty: "Faulty", monkeypatch: pytest.MonkeyPatch
) -> None:
    """When no process can be started any more it says so, blames no frame, and the labels are kept."""
    frames = rattled(["Cu"] * 4)
    assert len(run(frames[:2]).labelled) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(EKFError, match=r"lost its workers 3 times .*finished is kept"):
            run(frames)
    report = run(frames)
    assert (report.reused, len(report.labelled), report.quarantined) == (2, 4, [])
