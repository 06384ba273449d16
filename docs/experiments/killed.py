#!/usr/bin/env python3
"""Kill `ekfcore train` or `ekfcore learn` at random moments, go on with --resume, and compare the ends to the bit.

    python docs/experiments/killed.py train --moments 50 --seed 1
    python docs/experiments/killed.py learn --moments 50 --seed 1 --work /tmp/killed

A small problem is first solved undisturbed. For each moment it begins again in a fresh folder, and SIGKILL comes to
its whole process group after a random part of the time that the undisturbed run took, at some moments a second and a
third time while it goes on. What is left after the last --resume must be what the undisturbed run has left: the same
files, every array, table and label with the same bits. Only seconds may differ. No finished label is computed again, no
process and no temporary file remains. One line for each moment; the folder of one that differs is kept.
"""

import argparse
import csv
import json
import logging
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Trial", "differences"]

_TRAIN = """\
[data]
train = ["copper.xyz"]
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[optimizer]
block_size = 40
[training]
epochs = 6
lcurve = "lcurve.out"
tensorboard = {tensorboard}
"""
_LEARN = """\
[data]
structures = ["cell.xyz"]
rattled = 4
[[stages]]
temperatures = [300]
[[stages]]
temperatures = [300, 400]
[explore]
steps = 20
every = 4
[select]
low = 0.0
high = 1e6
maximum = 3
[label]
calculator = "counted:Counted"
parameters = {{calls = "{home}/calls.txt"}}
[label.executor]
workers = {workers}
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[training]
epochs = 2
[run]
threads = 2
"""
_COUNTED = '''\
"""EMT that takes a while, and keeps a list of what it was asked for, and by which run."""
import os
import time
from ase.calculators.emt import EMT
from ekfcore.labelling.ledger import frame_key
from ekfcore.atoms import Frame


class Counted(EMT):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        with open(self.calls, "a") as file:
            file.write(frame_key(Frame.from_ase(atoms, "")) + " " + os.environ["KILLED_RUN"] + "\\n")
        time.sleep(0.1)
        super().calculate(atoms, properties, system_changes)
'''
# Vesin imports PyTorch wherever there is one, in each process anew, for longer than all else takes here.
_NO_TORCH = 'raise ImportError("left out")\n'
_WORKERS = 2  # that label at a time
_SECONDS = ("wall_s", "cpu_s", "seconds", "time_s")  # how names of what may differ end
_PATIENCE = 20  # times as long as undisturbed, before a run counts as hanging
_COMPILATION = 900.0  # [s] for the first run, where nothing may be compiled yet
_ORPHANS = 20.0  # [s] that a worker may outlive the process that was killed, on a machine with much else to do


@dataclass
class Moment:
    """What a run that was killed has shown: when that was, where it stood then, and what is wrong with its end."""

    kills: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"killed {', then '.join(self.kills)}: {'; '.join(self.faults) or 'equal'}"


class Trial:
    """A command on a small problem, undisturbed or not.

    Parameters
    ----------
    command : {"train", "learn"}
        What is killed.
    work : Path
        Folder for all files. Every run takes place in its folder ``home``, since files name the paths of their data.
    tensorboard : bool
        Whether `train` writes for TensorBoard, too.
    """

    def __init__(self, command: str, work: Path, *, tensorboard: bool = True) -> None:
        self.command, self.work, self.home, self.whole = command, work, work / "home", work / "undisturbed"
        self._inputs = work / "inputs"
        self._inputs.mkdir(parents=True)
        (self._inputs / "tmp").mkdir()
        _write_inputs(self._inputs, self.home, tensorboard=tensorboard)
        self.seconds = math.inf
        self._runs = 0

    def run_undisturbed(self) -> None:
        """Run the command to its end; keep that, and the seconds of the fastest try: at first, kernels are compiled."""
        self._begin()
        start = time.monotonic()
        faults = self._end(self._start([]))
        self.seconds = min(self.seconds, time.monotonic() - start)
        if faults:
            raise RuntimeError(f"undisturbed: {'; '.join(faults)}; see {self.home}")
        shutil.rmtree(self.whole, ignore_errors=True)
        self.home.rename(self.whole)

    def run_moment(self, fractions: Sequence[float]) -> Moment:
        """Kill the command, and each but the last run that goes on with it, after these parts of its seconds."""
        self._begin()
        moment = Moment()
        for fraction in fractions:
            words, faults = self._words_to_go_on() if moment.kills else ([], [])
            moment.faults += faults + self._watch(words, lambda process, f=fraction: self._kill(process, f, moment))
        words, faults = self._words_to_go_on()
        moment.faults += faults + self._watch(words, self._end)
        moment.faults += self._remaining_processes() + differences(self.home, self.whole)
        return moment

    def keep(self, name: str) -> Path:
        """Put what is in the folder of the runs out of the way of the next one."""
        return self.home.rename(self.work / name)

    def _begin(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.copytree(self._inputs, self.home)

    def _start(self, words: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start the command as the leader of a process group."""
        self._runs += 1
        code = "import sys; from ekfcore.cli import main; sys.exit(main())"
        modules = os.pathsep.join(filter(None, (str(self._inputs), os.environ.get("PYTHONPATH"))))
        with (self.home / "out.txt").open("wb") as out, (self.home / "err.txt").open("wb") as err:
            return subprocess.Popen(
                [sys.executable, "-P", "-c", code, self.command, f"{self.command}.toml", "--out", "run", *words],
                cwd=self.home,
                env=os.environ
                | {"PYTHONPATH": modules, "TMPDIR": str(self.home / "tmp"), "KILLED_RUN": str(self._runs)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def _watch(self, words: Sequence[str], wait: Callable[["subprocess.Popen[bytes]"], list[str]]) -> list[str]:
        """Start the command, wait for its end, and see that it computes no label that is there already."""
        saved = _saved(self.home / "run")
        faults = wait(self._start(words))
        calls = Counter(_calls(self.home, self._runs))
        twice = [key for key, count in calls.items() if key in saved or count > 1]
        faults += [f"{key} was labelled again" for key in twice]
        lost = set(calls) - _saved(self.home / "run")
        if len(lost) > _WORKERS:
            faults.append(f"{len(lost)} labels lost, which is more than were under way")
        return faults

    def _kill(self, process: "subprocess.Popen[bytes]", fraction: float, moment: Moment) -> list[str]:
        """Kill the process group after a while, and note where that was."""
        with suppress(subprocess.TimeoutExpired):
            process.wait(fraction * self.seconds)
        ended = process.poll() is not None
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        moment.kills.append(f"at {fraction:.0%} {'after its end' if ended else _newest(self.home / 'run')}")
        return self._printed_faults() + ([f"exit status {process.returncode}"] if ended and process.returncode else [])

    def _end(self, process: "subprocess.Popen[bytes]") -> list[str]:
        """Wait for the end, which must be a good one."""
        try:
            process.wait(min(_COMPILATION, max(60.0, _PATIENCE * self.seconds)))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return ["it hangs"]
        faults = self._printed_faults()
        return faults + ([f"exit status {process.returncode}"] if process.returncode else [])

    def _printed_faults(self) -> list[str]:
        lines = (self.home / "err.txt").read_text().splitlines()
        return [f"on stderr: {lines[-1]}"] if lines else []

    def _words_to_go_on(self) -> tuple[list[str], list[str]]:
        """Return ``--resume``, or nothing where the run had not even made its folder, which --resume has to say."""
        if (self.home / "run").exists():
            return ["--resume"], []
        process = self._start(["--resume"])
        process.wait()
        told = "leave out --resume" in (self.home / "err.txt").read_text() and process.returncode == 2
        return [], [] if told else [f"without a folder, --resume does not say what to do: {self._printed_faults()}"]

    def _remaining_processes(self) -> list[str]:
        """Wait until no process of the trial is left: workers have a session of their own, and end by themselves."""
        until = time.monotonic() + _ORPHANS
        while found := list(_processes(str(self.home / "tmp"))):
            if time.monotonic() > until:
                return [f"processes {found} remain"]
            time.sleep(0.1)
        return []


def _write_inputs(folder: Path, home: Path, *, tensorboard: bool) -> None:
    """Write labelled frames and a structure of copper, CONFIG of both commands, and a calculator that counts."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    rng, frames = np.random.default_rng(0), []
    for _ in range(12):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(folder / "copper.xyz", frames)
    write(folder / "cell.xyz", bulk("Cu", cubic=True))
    (folder / "train.toml").write_text(_TRAIN.format(tensorboard=str(tensorboard).lower()))
    (folder / "learn.toml").write_text(_LEARN.format(home=home, workers=_WORKERS))
    (folder / "counted.py").write_text(_COUNTED)
    (folder / "torch.py").write_text(_NO_TORCH)


def _processes(temporary: str) -> Iterator[int]:
    """Yield the numbers of processes whose folder for temporary files is this one, which only ours have."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("TMPDIR") == temporary and process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid


def _calls(home: Path, run: int) -> list[str]:
    """Return the keys of the calculations of a run; a worker may begin the last one after the run was killed."""
    path = home / "calls.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [key for key, number in map(str.split, lines) if int(number) == run]


def _saved(run: Path) -> set[str]:
    """Return the keys of the labels in the database and in its inbox; a copy is read, for reading can alter it."""
    keys = {path.stem for path in (run / "labels.inbox").glob("f*.json")}
    with tempfile.TemporaryDirectory() as folder:
        for path in run.glob("labels.db*"):
            with suppress(FileNotFoundError):  # a journal that has just gone
                shutil.copy(path, folder)
        if (Path(folder) / "labels.db").exists():
            database = sqlite3.connect(Path(folder) / "labels.db")
            with suppress(sqlite3.OperationalError):  # no tables yet
                rows = database.execute("SELECT value FROM text_key_values WHERE key = 'frame_key'")
                keys |= {key for (key,) in rows}
            database.close()
    return keys


def _newest(run: Path) -> str:
    """Tell what was written last."""
    paths = [path for path in run.rglob("*") if path.is_file()]
    if not paths:
        return f"with {'an empty' if run.exists() else 'no'} folder"
    return f"after {max(paths, key=lambda path: path.stat().st_mtime_ns).relative_to(run)}"


def differences(found: Path, wanted: Path) -> list[str]:
    """Tell in what the files of one folder differ from those of another, but for seconds."""
    here, there = _contents(found), _contents(wanted)
    faults = [f"{name} is left" for name in sorted(here.keys() - there.keys())]
    faults += [f"{name} is missing" for name in sorted(there.keys() - here.keys())]
    for name in sorted(here.keys() & there.keys()):
        try:
            if here[name]() != there[name]():
                faults.append(f"{name} differs")
        except Exception as error:  # whatever a reader says of a file that is not whole
            faults.append(f"{name} cannot be read: {error}")
    return faults


def _contents(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return by name what reads each file or empty folder; events for TensorBoard count as one."""
    left_out = ("out.txt", "err.txt", "calls.txt", "__pycache__")
    contents: dict[str, Callable[[], Any]] = {}
    for path in folder.rglob("*"):
        if path.name in left_out or path.parent.name in left_out:
            continue
        name = str(path.relative_to(folder))
        if path.name.startswith("events.out."):
            contents[str(path.parent.relative_to(folder))] = lambda path=path.parent: _events(path)
        elif path.is_file():
            contents[name] = lambda path=path: _READERS.get(path.suffix, Path.read_bytes)(path)
        else:
            contents.setdefault(name, lambda: "a folder")
    return contents


def _without_seconds(value: Any) -> Any:
    """Leave out seconds, and digests of what they are part of."""
    if isinstance(value, dict):
        return {k: _without_seconds(item) for k, item in value.items() if not k.endswith((*_SECONDS, "sha256"))}
    return [_without_seconds(item) for item in value] if isinstance(value, list) else repr(value)  # nan equals nan


def _json(path: Path) -> Any:
    return _without_seconds(json.loads(path.read_text()))


def _table(path: Path) -> Any:
    with path.open(newline="") as file:
        return _without_seconds(list(csv.DictReader(file)))


def _archive(path: Path) -> Any:
    from ekfcore.archive import read_archive

    header, arrays = read_archive(path)
    return _without_seconds(header), {k: (str(a.dtype), a.shape, a.tobytes()) for k, a in arrays.items()}


def _database(path: Path) -> Any:
    from ase.db import connect

    database = connect(path, use_lock_file=False)
    rows = {}
    for row in database.select():
        numbers = (row.numbers, row.positions, row.cell, row.forces, row.get("stress", np.empty(0)))
        rows[row.frame_key] = (
            repr(row.energy),
            [np.asarray(array).tobytes() for array in numbers],
            _without_seconds(row.data),
        )
    return database.metadata, len(list(database.select())), rows


def _picture(path: Path) -> Any:
    """Seconds are drawn in some: say whether it is whole."""
    return path.read_bytes()[-8:-4] == b"IEND"


def _events(folder: Path) -> Any:
    """Return step and value of the scalars, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of each restart
    events = EventAccumulator(str(folder)).Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.endswith(_SECONDS)]
    return {tag: [(event.step, repr(event.value)) for event in events.Scalars(tag)] for tag in tags}


_READERS: dict[str, Callable[[Path], Any]] = {
    ".npz": _archive,
    ".csv": _table,
    ".json": _json,
    ".db": _database,
    ".png": _picture,
}


def main() -> int:
    """Try the moments one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "learn"])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for what differs (default: one for temporary files)")
    parser.add_argument("--no-tensorboard", action="store_true", help="train without")
    args = parser.parse_args()
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="killed-", dir=args.work)).resolve()
    trial = Trial(args.command, work, tensorboard=not args.no_tensorboard)
    for _ in range(3):
        trial.run_undisturbed()
    print(f"{args.command}, undisturbed: {trial.seconds:.1f} s", flush=True)
    rng, wrong, kills = np.random.default_rng(args.seed), 0, 0
    for number in range(1, args.moments + 1):
        moment = trial.run_moment(rng.uniform(size=rng.choice([1, 1, 1, 2, 3])))
        print(f"{number:3d} {moment}", flush=True)
        kills += len(moment.kills)
        if moment.faults:
            wrong += 1
            print(f"    kept in {trial.keep(f'moment-{number}')}", flush=True)
    print(f"{args.command}: {args.moments} moments, {kills} kills, {wrong} with faults")
    if not wrong:
        shutil.rmtree(work)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
