"""Learning curves: train once, keep the errors, read them ever after.

A curve is a CSV file of a few kB with a line for each evaluation. Its lines that begin with # tell which run it is and
what made it. A training writes into NAME.part, which gets the name NAME.csv when all is done, so that a curve that is
there is complete; a training that was interrupted starts again. Two processes may share a folder: what one of them
trains the other leaves alone. One thread, of which processor time is counted.
"""

import csv
import json
import math
import subprocess
import tempfile
import time
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from ase.io import read, write
from threadpoolctl import threadpool_limits

from ekfcore.errors import FilterError, InputError
from ekfcore.files import locked
from ekfcore.settings.toml import set_key
from ekfcore.threads import limited_threads
from ekfcore.training import Settings, Trainer, prepare

HERE = Path(__file__).resolve().parent
BUILT_IN = Path(str(files("ekfcore.demo")))
TINY = "model.embedding=[4,8] model.axis=4 model.fitting=[8]"  # to see that something runs
MOST = 200  # frames to learn from where settings are compared: some sets have a thousand


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training, and when it is judged.

    Parameters
    ----------
    set : str
        Folder of the data with train.xyz.xz and test.xyz.xz, or "built-in" for those of `ekfcore demo`.
    settings : str
        ``KEY=VALUE`` with spaces between them; a key without a table belongs to [optimizer].
    epochs, seed : int
        As in [training].
    marks : tuple of str
        After how many epochs, or frames ("40f"), to judge; the end is one by itself.
    stop : int, optional
        Epochs to train, if they are fewer than those of the schedule.
    frames : int, optional
        Learn so many of the frames at most, evenly spaced.
    judged : int, optional
        Judge by so many of the test frames at most, evenly spaced.
    held_out : bool
        Learn from four fifths of train.xyz.xz, `MOST` frames at most, and judge by the other fifth.
    """

    set: str
    settings: str = ""
    epochs: int
    seed: int
    marks: tuple[str, ...] = ()
    stop: int | None = None
    frames: int | None = None
    judged: int | None = None
    held_out: bool = False

    @property
    def path(self) -> Path:
        """Where the curve stands in the folder of all curves."""
        few = [str(self.frames)] if self.frames else []
        few += [f"by-{self.judged}"] if self.judged else []
        folder = "-".join([self.set, *few, *["held-out"] * self.held_out])
        items = self.settings.split()
        presets = [item.partition("=")[2] for item in items if item.startswith("preset=")] or ["recommended"]
        others = [item for item in items if not item.startswith("preset=")]
        epochs = f"{self.stop}of{self.epochs}" if self.stop else str(self.epochs)
        return Path(folder) / f"{','.join([*presets, *others])}-{epochs}-s{self.seed}.csv"


class Row(NamedTuple):
    """Errors after so many frames; NaN where there is none.

    Energies are in meV/atom, forces in meV/Å, virials in meV/atom, seconds those of the processor in all steps so far.
    The errors on the training frames are taken after whole epochs. A last row of NaN says that the filter broke down.
    """

    epoch: float
    frames: int
    seconds: float = math.nan
    energy_rmse_test: float = math.nan
    force_rmse_test: float = math.nan
    virial_rmse_test: float = math.nan
    energy_rmse_train: float = math.nan
    force_rmse_train: float = math.nan
    virial_rmse_train: float = math.nan


def curve(run: Run, data: Path, path: Path) -> list[Row]:
    """Return the curve of a run that stands at `path`, trained now if it is not there.

    Raises
    ------
    InputError
        If another process trains it, the file has the curve of another run, or the data do not allow the training.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path, "trains"):
            if not path.exists():  # the other process may have done it in the meantime
                _keep(run, data, path)
    with path.open(encoding="utf-8") as file:
        found = file.readline().removeprefix("# ").strip()
    if found != _identity(run):
        raise InputError(f"{path} is the curve of {found}, not of {_identity(run)}; move it away")
    return read_curve(path)


def read_curve(path: Path) -> list[Row]:
    """Return the rows of a curve of ours or of others, which may lack columns."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(line for line in file if not line.startswith("#")))
    cells = [{key: float(cell) for key, cell in line.items() if cell} for line in lines]
    return [Row(**{**found, "frames": int(found["frames"])}) for found in cells]  # type: ignore[arg-type]


def reached(rows: Sequence[Row], *, energy: float = math.inf, force: float = math.inf) -> Row | None:
    """Return the first row for which the mean test errors of it and the next two are below both thresholds."""
    for three in zip(rows, rows[1:], rows[2:], strict=False):
        energies, forces = ([getattr(row, f"{name}_rmse_test") for row in three] for name in ("energy", "force"))
        if fmean(energies) < energy and fmean(forces) < force:
            return three[0]
    return None


def maker(path: Path) -> str:
    """Return what made a curve of ours."""
    return path.read_text("utf-8").splitlines()[1].removeprefix("# ")


def train(run: Run, data: Path) -> Iterator[Row]:
    """Train as `ekfcore train` does, and judge at the marks.

    Raises
    ------
    InputError
        If the data or the settings do not allow it.
    """
    _warm_up(run.settings)  # loads the libraries, too: only one that is loaded can be limited
    with one_thread():
        yield from _train(run, data)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep kernels and linear algebra to one thread: several would burn processor time while they wait."""
    with limited_threads(1), threadpool_limits(1):
        yield


@cache
def _warm_up(settings: str) -> None:
    """Let the kernels be compiled, or loaded, before the seconds count: also those that age rows and fold in."""
    deque(_train(Run(set="built-in", settings=f"{settings} {TINY}", epochs=12, seed=0, frames=2), Path()), maxlen=0)


def trainer_of(run: Run, data: Path, scratch: Path) -> Trainer:
    """Return what trains the run, with its files in an empty folder.

    Raises
    ------
    InputError
        If the data or the settings do not allow it.
    """
    return prepare(Settings.from_json(_settings(run, data, scratch)), scratch / "run")


def _train(run: Run, data: Path) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(run, data, Path(scratch))
        n = min(len(trainer.train), MOST) if run.held_out else len(trainer.train)
        # Frames of one kind may stand together, hence evenly spaced ones.
        chosen = np.linspace(0, len(trainer.train) - 1, n).round().astype(int)
        last = n * (run.stop or run.epochs)
        marks = {int(mark[:-1]) if mark.endswith("f") else round(float(mark) * n) for mark in run.marks} | {last}
        seen, seconds, batches = 0, 0.0, -(-n // trainer.batch)
        for epoch in range(run.stop or run.epochs):
            trainer.refine()
            order = np.random.default_rng([run.seed, epoch]).permutation(n)
            for index in range(batches):
                batch = [trainer.train[chosen[k]] for k in order[index * trainer.batch :][: trainer.batch]]
                start = time.process_time()
                try:
                    trainer.optimizer.step(batch, np.random.default_rng([run.seed, epoch, index]))
                except FilterError:
                    yield Row(seen / n, seen, seconds)
                    return
                seconds += time.process_time() - start
                before, seen = seen, seen + len(batch)
                if any(before < mark <= seen for mark in marks):
                    yield Row(seen / n, seen, seconds, **_errors(trainer, whole=seen % n == 0))


def _errors(trainer: Trainer, *, whole: bool) -> dict[str, float]:
    found = {}
    for part in ("test", "train") if whole else ("test",):
        errors = getattr(trainer, part).errors(trainer.weights)
        for name in ("energy_rmse", "force_rmse", "virial_rmse"):
            value = getattr(errors, name)
            found[f"{name}_{part}"] = math.nan if value is None else value
    return found


def _settings(run: Run, data: Path, scratch: Path) -> dict[str, Any]:
    """Return CONFIG; a file with fewer frames goes to `scratch`."""
    folder, prefix = (BUILT_IN, "silicon_") if run.set == "built-in" else (data / run.set, "")
    known = {part: folder / f"{prefix}{part}.xyz.xz" for part in ("train", "test")}
    if not known["train"].is_file():
        raise InputError(f"{known['train']} is not there; give the folder of the sets, or the set built-in")
    for part, most in (("train", run.frames), ("test", run.judged)):
        frames = read(known[part], ":") if most else []
        if most and len(frames) > most:
            known[part] = scratch / f"{part}.xyz"
            write(known[part], [frames[k] for k in np.linspace(0, len(frames) - 1, most).round().astype(int)])
    settings: dict[str, Any] = {
        "data": {
            "train": [str(known["train"])],
            **({"test_fraction": 0.2} if run.held_out else {"test": [str(known["test"])]}),
        },
        "training": {"epochs": run.epochs, "seed": run.seed},
    }
    if run.set == "built-in":
        settings["model"] = tomllib.loads((BUILT_IN / "demo.toml").read_text())["model"]
    for item in run.settings.split():
        set_key(settings, item if "." in item.partition("=")[0] else f"optimizer.{item}")
    return settings


def _keep(run: Run, data: Path, path: Path) -> None:
    """Write each row as it comes, and give the file its name at the end."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {_identity(run)}\n# {_maker()}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        for row in train(run, data):
            writer.writerow("" if math.isnan(value) else f"{value:.6g}" for value in row)
            file.flush()
    part.replace(path)


def _identity(run: Run) -> str:
    return json.dumps({key: value for key, value in asdict(run).items() if value is not None and value is not False})


@cache
def _maker() -> str:
    """Return the version of ekfcore, and the last commit that changed what computes."""
    command = ["git", "log", "-1", "--format=at %h", "--", "../../ekfcore", "../../models", "../../backends"]
    try:
        commit = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # sources without their history
        commit = ""
    return f"ekfcore {version('ekfcore')} {commit}".strip()
