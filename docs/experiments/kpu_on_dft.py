#!/usr/bin/env python3
"""How well the Kalman prediction uncertainty foretells force errors on DFT data, next to its rivals.

    python docs/experiments/kpu_on_dft.py DATA OUT [--seeds 3] [--sets Cu_pwmat Ni Mo H2O]

DATA is the folder with the sets (extended XYZ); models are trained into OUT where they are not there yet. Prints
Markdown tables. Atoms on which symmetry allows no force are left out: two fifths of those of nickel. One core needs
about an hour.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads has been set
from ase.io import read, write
from numpy.typing import NDArray

from ekfcore.atoms import Frame, read_frames
from ekfcore.potentials.calibration import force_errors, rank_correlation
from ekfcore.potentials.kpu import FrameUncertainty, KalmanUncertainty
from ekfcore.training import Settings, evaluate, load_model, prepare

Forces = list[NDArray[np.float64]]


@dataclass(frozen=True)
class System:
    """What to train on and what to test on, of one set of data."""

    name: str
    folder: str
    train: Callable[[int, str], bool]  # (number, config_type) of a frame of train.xyz.xz
    epochs: int
    fraction: float = 0.5  # of the atoms whose forces are judged


SYSTEMS = [
    System("copper, 300 K to 500 K", "Cu_pwmat", lambda _, kind: kind == "300K", 10),
    System("nickel, mixed", "Ni", lambda number, _: number % 2 == 0, 10),
    System("molybdenum, mixed", "Mo", lambda number, _: number % 2 == 0, 10),
    System("water", "H2O", lambda number, _: number % 4 == 0, 7, 0.125),
]
_AT_REST = 1e-4  # [eV/Å]
_NINE_TENTHS = 1.6449  # standard deviations of a Gaussian that nine errors in ten stay below


def main() -> None:
    """Train, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--seeds", type=int, default=4, help="models of each set (default: 4)")
    parser.add_argument("--sets", nargs="+", default=[system.folder for system in SYSTEMS])
    options = parser.parse_args()
    for system in SYSTEMS:
        if system.folder in options.sets:
            split(system, options.data, options.out)
            for seed in range(options.seeds):
                train(system, options.out, seed)
            compare(system, options.out, options.seeds)


def split(system: System, data: Path, out: Path) -> None:
    """Write the frames to train on, and all others to test on."""
    frames = read(data / system.folder / "train.xyz.xz", ":")
    chosen = [system.train(k, str(frame.info.get("config_type"))) for k, frame in enumerate(frames)]
    rest = [frame for frame, taken in zip(frames, chosen, strict=True) if not taken]
    out.mkdir(parents=True, exist_ok=True)
    write(out / f"{system.folder}_train.xyz", [frame for frame, taken in zip(frames, chosen, strict=True) if taken])
    if system.folder == "H2O":
        rest = []  # the set's own test frames are enough
    held_out = read(data / system.folder / "test.xyz.xz", ":")
    write(out / f"{system.folder}_test.xyz", rest + [f for f in held_out if f.info.get("config_type") != "300K"])


def train(system: System, out: Path, seed: int) -> None:
    """Train one model unless it is there."""
    folder = out / f"{system.folder}_{seed}"
    if folder.exists():
        return
    print(f"training {folder.name}", flush=True)
    table = {
        "data": {name: [str(out / f"{system.folder}_{name}.xyz")] for name in ("train", "test")},
        "training": {"epochs": system.epochs, "seed": seed},
    }
    trainer = prepare(Settings.from_json(table), folder)
    trainer.run()
    last = trainer.records[-1]
    print(f"  {last.wall_s:.0f} s, {last.energy_rmse_test:.2f} meV/atom, {last.force_rmse_test:.1f} meV/Å", flush=True)


def compare(system: System, out: Path, seeds: int) -> None:
    """Print one line for each way of telling the errors beforehand, each judged by the errors of its own models."""
    test, known = (read_frames(out / f"{system.folder}_{part}.xyz") for part in ("test", "train"))
    print(f"\n### {system.name}: {len(known)} frames to train on, {len(test)} to test on\n")
    print("| | force RMSE | rank, frames | rank, atoms | error / bar | 90 % |\n|---|---|---|---|---|---|", flush=True)
    models = [load_model(out / f"{system.folder}_{seed}") for seed in range(seeds)]
    forces = [[p["forces"] for p in evaluate(one.model, one.weights, test)] for one in models]
    found = [KalmanUncertainty.load(one, fraction=system.fraction).many(test) for one in models]
    line("KPU, one model", found, forces, test)
    fresh = [KalmanUncertainty.load(one, fraction=system.fraction, refresh=known).many(test) for one in models]
    line("KPU, P computed afresh", fresh, forces, test)
    if seeds > 1:
        deviation = committee(forces, [one.atoms for one in fresh[0]])
        line(f"committee of {seeds}", [deviation] * len(models), forces, test)


def disagreement(forces: list[Forces]) -> Forces:
    """Return the variance of the force on each atom over the models, for each frame."""
    return [np.mean((np.stack(f) - np.mean(f, axis=0)) ** 2, axis=0).sum(axis=1) for f in zip(*forces, strict=True)]


def committee(forces: list[Forces], chosen: Sequence[NDArray[np.int64]]) -> list[FrameUncertainty]:
    """Return the variances that the disagreement of the models gives."""
    return [
        FrameUncertainty(energy=0.0, forces=variance[atoms], atoms=atoms)
        for variance, atoms in zip(disagreement(forces), chosen, strict=True)
    ]


def line(name: str, found: Sequence[list[FrameUncertainty]], forces: list[Forces], test: Sequence[Frame]) -> None:
    """Print rank correlations and calibration, means over the models with their extremes."""
    columns: list[list[float]] = [[] for _ in range(5)]
    for mine, predicted in zip(found, forces, strict=True):
        errors = [force_errors(u, f, frame) for f, u, frame in zip(predicted, mine, test, strict=True)]
        away = np.concatenate(errors)
        bars = np.sqrt(np.concatenate([u.forces for u in mine]) / 3)  # of a component
        free = bars > _AT_REST  # by symmetry, for the labels as for any model
        away, bars = away[free], bars[free]
        values = (
            1e3 * float(np.sqrt(np.mean(away**2))),
            rank_correlation([u.force_mean for u in mine], rmse(predicted, test)),
            rank_correlation(bars, np.linalg.norm(away, axis=1)),
            float(np.sqrt(np.mean(away**2) / np.mean(bars**2))),
            100 * float(np.mean(np.abs(away) < _NINE_TENTHS * bars[:, None])),
        )
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    formats = ["{:.1f}", "{:.2f}", "{:.2f}", "{:.2f}", "{:.0f} %"]
    print(f"| {name} | {' | '.join(mean(c, f) for c, f in zip(columns, formats, strict=True))} |", flush=True)


def rmse(forces: Forces, frames: Sequence[Frame]) -> list[float]:
    """Return the true error of each frame, over all of its atoms."""
    labels = [np.asarray(frame.forces) for frame in frames]
    return [float(np.sqrt(np.mean((f - label) ** 2))) for f, label in zip(forces, labels, strict=True)]


def mean(values: Sequence[float], form: str = "{:.2f}") -> str:
    """Return the mean with the extremes."""
    return f"{form.format(np.mean(values))} ({form.format(min(values))} to {form.format(max(values))})"


if __name__ == "__main__":
    main()
