"""The database of labels: exact, keyed by content, safe from kill -9."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import json
import multiprocessing
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import EKFError, InputError
from ekfcore.labelling.ledger import Ledger, frame_key

if TYPE_CHECKING:
    MakeFrames = Callable[..., list[Frame]]


def _labelled(frame: Frame, seed: int = 0) -> Frame:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(3, 3))
    forces = rng.normal(size=(frame.n_atoms, 3))
    return replace(frame, energy=float(rng.normal()), forces=forces, virial=half + half.T)


def test_labels_come_back_bit_for_bit(tmp_path: Path, rattled: "MakeFrames") -> None:
    """Energy, forces and geometry are the same numbers; the virial passes through a stress."""
    frames = [_labelled(frame, seed) for seed, frame in enumerate(rattled(["Cu", "Ag", "Cu"]))]
    frames[1] = replace(frames[1], virial=None)
    ledger = Ledger(tmp_path / "new/labels.db")
    keys = [ledger.add(frame, seconds=2.5) for frame in frames]
    for found in (ledger, Ledger(tmp_path / "new/labels.db")):
        assert len(found) == 3
        assert found.seconds == dict.fromkeys(keys, 2.5)
        for key, frame in zip(keys, frames, strict=True):
            assert key in found
            back = found.get(key)
            for name in ("numbers", "positions", "cell", "pbc", "energy", "forces"):
                np.testing.assert_array_equal(getattr(back, name), getattr(frame, name))
            assert back.source == frame.source
            if frame.virial is None:
                assert back.virial is None
            else:
                assert back.virial is not None
                assert np.abs(back.virial - frame.virial).max() < 1e-14


def test_virial_of_a_molecule_comes_back(tmp_path: Path, rattled: "MakeFrames") -> None:
    """There is no cell, and so no stress, in which the database could keep it."""
    (frame,) = rattled(["Cu"])
    frame = replace(_labelled(frame), cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool))
    key = Ledger(tmp_path / "labels.db").add(frame, seconds=1.0)
    back = Ledger(tmp_path / "labels.db").get(key)
    assert back.virial is not None
    assert frame.virial is not None
    np.testing.assert_array_equal(back.virial, frame.virial)


def test_the_file_is_a_data_set(tmp_path: Path, rattled: "MakeFrames") -> None:
    """Training reads it as it is; what is in quarantine is not in it."""
    first, second = rattled(["Cu", "Ag"])
    ledger = Ledger(tmp_path / "labels.db")
    ledger.add(_labelled(first), seconds=1.0)
    ledger.quarantine(second, "failed", "a log")
    (frame,) = read_frames(tmp_path / "labels.db")
    assert frame.energy == _labelled(first).energy


def test_key_is_the_content(rattled: "MakeFrames") -> None:
    """Labels, source and what a text file rounds off do not count; all else does."""
    (frame,) = rattled(["Cu"])
    key = frame_key(frame)
    same = [
        _labelled(frame),
        replace(frame, source="elsewhere"),
        replace(frame, positions=frame.positions.round(8)),
        replace(frame, positions=np.asfortranarray(frame.positions), numbers=frame.numbers.astype(np.int32)),
    ]
    assert {frame_key(other) for other in same} == {key}
    moved = frame.positions.copy()
    moved[2, 1] += 3e-6
    other = [
        replace(frame, positions=moved),
        replace(frame, numbers=frame.numbers[::-1] + np.arange(4)),
        replace(frame, cell=frame.cell * 1.0001),
        replace(frame, pbc=np.array([True, True, False])),
        replace(frame, positions=frame.positions[::-1]),
    ]
    assert len({frame_key(found) for found in other} | {key}) == 6


def test_zero_has_one_sign(rattled: "MakeFrames") -> None:
    """-0.0 and numbers that round to it are 0."""
    (frame,) = rattled(["Cu"])
    cells = [np.diag([3.0, 3.0, 3.0]) + offset * (1 - np.eye(3)) for offset in (0.0, -0.0, -1e-9)]
    assert len({frame_key(replace(frame, cell=cell)) for cell in cells}) == 1


def test_the_first_label_stays(tmp_path: Path, rattled: "MakeFrames") -> None:
    """Append-only: a second label for the same frame changes nothing."""
    (frame,) = rattled(["Cu"])
    ledger = Ledger(tmp_path / "labels.db")
    key = ledger.add(_labelled(frame, 1), seconds=1.0)
    assert ledger.add(_labelled(frame, 2), seconds=2.0) == key
    assert ledger.get(key).energy == _labelled(frame, 1).energy
    assert len(Ledger(tmp_path / "labels.db")) == 1
    assert ledger.seconds[key] == 1.0


@pytest.mark.parametrize("reason", ["failed: 12", "12", "True", "nan", "two words", "Größe"])
def test_quarantine_keeps_reason_and_log(tmp_path: Path, rattled: "MakeFrames", reason: str) -> None:
    """Whatever the texts are."""
    (frame,) = rattled(["Cu"])
    key = Ledger(tmp_path / "labels.db").quarantine(_labelled(frame), reason, "line 1\nline 2 \x00 é")
    ledger = Ledger(tmp_path / "labels.db")
    assert ledger.quarantined == {key: reason}
    assert ledger.log(key) == "line 1\nline 2 \x00 é"
    assert key not in ledger
    (tmp_path / "labels.quarantine.db").unlink()
    assert Ledger(tmp_path / "labels.db").quarantined == {}


_DIE_AT_THE_SECOND_TABLE = """
import os, signal, sys
from ase.db.sqlite import SQLite3Database
from ekfcore.labelling.ledger import Ledger
connect = SQLite3Database._connect
def traced(self):
    connection = connect(self)
    connection.set_trace_callback(lambda sql: "CREATE TABLE species" in sql and os.kill(os.getpid(), signal.SIGKILL))
    return connection
SQLite3Database._connect = traced
with Ledger(sys.argv[1]).locked():
    Ledger(sys.argv[1]).claim("emt", {})
"""


def test_killed_while_the_tables_are_made(tmp_path: Path, rattled: "MakeFrames") -> None:
    """ASE makes them one after the other: half of them would be a database of an old version for good."""
    path = tmp_path / "labels.db"
    killed = subprocess.run([sys.executable, "-P", "-c", _DIE_AT_THE_SECOND_TABLE, path], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.exists()
    ledger = Ledger(path)
    with ledger.locked():
        ledger.claim("emt", {})
        key = ledger.add(_labelled(rattled(["Cu"])[0]), seconds=1.0)
    assert list(Ledger(path)) == [key]


def test_unfinished_result_files_go_with_the_label(tmp_path: Path, rattled: "MakeFrames") -> None:
    """A worker that was killed while it wrote has left one."""
    ledger, frame = Ledger(tmp_path / "labels.db"), _labelled(rattled(["Cu"])[0])
    result_file = ledger.result_file(frame_key(frame))
    with ledger.locked():
        (result_file.parent / f".{result_file.name}.x7d.part").touch()
        ledger.add(frame, seconds=1.0)
    assert not list(result_file.parent.iterdir())


class _KilledError(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("settle", ["add", "quarantine"])
@pytest.mark.parametrize("n_removed", range(4))
def test_killed_while_an_order_is_closed(
    settle: str, n_removed: int, tmp_path: Path, rattled: "MakeFrames", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever that is, the next process clears the rest away and keeps the outcome."""
    frame = _labelled(rattled(["Cu"])[0])
    ledger, key = Ledger(tmp_path / "labels.db"), frame_key(frame)
    whole = Path.unlink
    removed: list[Path] = []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.parent.name == "labels.inbox" and len(removed) == n_removed:
            raise _KilledError
        removed.append(path)
        whole(path, missing_ok)

    with ledger.locked():
        left = ledger.order(key)
        if settle == "add":
            left.write_text("{}")
            left.with_name(f".{left.name}.x7d.part").touch()
        with monkeypatch.context() as patch, suppress(_KilledError):
            patch.setattr(Path, "unlink", unlink)
            ledger.add(frame, seconds=1.0) if settle == "add" else ledger.quarantine(frame, "failed")
    later = Ledger(tmp_path / "labels.db")
    with later.locked():
        assert list((tmp_path / "labels.inbox").iterdir()) == []
    assert key in (later if settle == "add" else later.quarantined)


def test_results_left_in_the_inbox_are_taken_in(tmp_path: Path, rattled: "MakeFrames") -> None:
    """What a worker finished after its parent was killed is a label; what belongs to no frame stays where it is."""
    frame, other = rattled(["Cu", "Cu"])
    ledger = Ledger(tmp_path / "labels.db")
    with ledger.locked():
        pass
    result = {"energy": 0.1 + 0.2, "forces": [[1 / 3, 0.0, -1e-300]] * 4, "seconds": 7.5}
    for found in (frame, other):
        ledger.result_file(frame_key(found)).write_text(json.dumps(result))
    ledger.collect({frame_key(frame): frame})
    back = ledger.get(frame_key(frame))
    assert back.energy == 0.1 + 0.2
    assert back.forces is not None
    np.testing.assert_array_equal(back.forces, result["forces"])
    assert ledger.seconds == {frame_key(frame): 7.5}
    assert list((tmp_path / "labels.inbox").iterdir()) == [ledger.result_file(frame_key(other))]


def test_labels_of_two_calculators_are_not_mixed(tmp_path: Path, rattled: "MakeFrames") -> None:
    """The message tells what the file was made with."""
    frame, other = rattled(["Cu", "Cu"])
    ledger = Ledger(tmp_path / "labels.db")
    ledger.claim("emt", {"asap_cutoff": False})
    ledger.add(_labelled(frame), seconds=1.0)
    ledger.quarantine(other, "failed")
    ledger = Ledger(tmp_path / "labels.db")
    ledger.claim("emt", {"asap_cutoff": False})
    with pytest.raises(InputError, match=r"labels.db: was made with parameters .*False.*, got .*True"):
        ledger.claim("emt", {"asap_cutoff": True})
    with pytest.raises(InputError, match="was made with calculator emt, got lj"):
        ledger.claim("lj", {"asap_cutoff": False})
    assert len(Ledger(tmp_path / "labels.db").quarantined) == 1


def test_settings_that_labelled_nothing_may_change(tmp_path: Path, rattled: "MakeFrames") -> None:
    """A mistake in the parameters is corrected without removing files; what failed with it gets another chance."""
    (frame,) = rattled(["Cu"])
    ledger = Ledger(tmp_path / "labels.db")
    ledger.claim("emt", {"typo": 1})
    ledger.quarantine(frame, "failed")
    ledger.claim("emt", {})
    assert ledger.quarantined == Ledger(tmp_path / "labels.db").quarantined == {}


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    """One line each."""
    with pytest.raises(InputError, match=r"labels.json: .* ends in .db"):
        Ledger(tmp_path / "labels.json")
    (tmp_path / "text.db").write_text("no database, but a text that is long enough to be one" * 100)
    with pytest.raises(InputError, match=r"text.db: is no database of labels"):
        Ledger(tmp_path / "text.db")
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE systems (a)").connection.close()
    with pytest.raises(EKFError, match=r"other.db"):
        Ledger(tmp_path / "other.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"labels.db: cannot be made"), Ledger(tmp_path / "file/labels.db").locked():
        pass


def test_a_foreign_row_is_refused(tmp_path: Path) -> None:
    """A database of ASE that was made by hand has rows without a key."""
    from ase.build import molecule
    from ase.db import connect

    with connect(tmp_path / "labels.db", use_lock_file=False) as database:
        database.write(molecule("H2"))
    with pytest.raises(InputError, match=r"labels.db: is no database of labels .row 1 has no frame_key"):
        Ledger(tmp_path / "labels.db")


def _hold(path: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with Ledger(path).locked():
        ready.set()
        multiprocessing.Event().wait()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The lock ends with its process, even by kill -9."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "labels.db", ready))
    other.start()
    assert ready.wait(30)
    ledger = Ledger(tmp_path / "labels.db")
    with pytest.raises(InputError, match="another process labels into it"), ledger.locked():
        pass
    other.kill()
    other.join()
    with ledger.locked():
        pass
