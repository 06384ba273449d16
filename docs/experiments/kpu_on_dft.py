#!/usr/bin/env python3
"""How well the Kalman prediction uncertainty foretells force errors on DFT data, next to its rivals.

    python docs/experiments/kpu_on_dft.py DATA OUT

DATA is the folder with the sets Cu_pwmat, H2O and Ni (extended XYZ); models are trained into OUT where they are not
there yet. Prints Markdown tables. One core needs about 20 minutes for the training and 40 for the comparison.
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

from ekfcore.active.calibration import calibrate, force_errors, rank_correlation
from ekfcore.active.kpu import FrameUncertainty, KalmanUncertainty, last_layer
from ekfcore.active.refresh import refreshed
from ekfcore.atoms import Frame, read_frames
from ekfcore.partition import BlockLayout
from ekfcore.training import Settings, evaluate, load_model, prepare

SEEDS = range(4)
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
    System("water", "H2O", lambda number, _: number % 4 == 0, 7, 0.125),
]
OPTIMIZERS = {"filter": {"preset": "recommended"}, "adam": {"preset": "adam"}}
ADAM_EPOCHS = {"Cu_pwmat": 120}


def main() -> None:
    """Train, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("out", type=Path, metavar="OUT")
    options = parser.parse_args()
    for system in SYSTEMS:
        split(system, options.data, options.out)
    for system in SYSTEMS:
        for seed in SEEDS:
            train(system, options.out, "filter", seed, system.epochs)
            if system.folder in ADAM_EPOCHS:
                train(system, options.out, "adam", seed, ADAM_EPOCHS[system.folder])
        compare(system, options.out)


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


def train(system: System, out: Path, optimizer: str, seed: int, epochs: int) -> None:
    """Train one model unless it is there."""
    folder = out / f"{system.folder}_{optimizer}_{seed}"
    if folder.exists():
        return
    print(f"training {folder.name}", flush=True)
    table = {
        "data": {name: [str(out / f"{system.folder}_{name}.xyz")] for name in ("train", "test")},
        "model": {"fitting_gain": 1.0},
        "optimizer": OPTIMIZERS[optimizer],
        "training": {"epochs": epochs, "seed": seed},
    }
    trainer = prepare(Settings.from_json(table), folder)
    trainer.run()
    last = trainer.records[-1]
    print(f"  {last.wall_s:.0f} s, {last.energy_rmse_test:.2f} meV/atom, {last.force_rmse_test:.1f} meV/Å", flush=True)


def compare(system: System, out: Path) -> None:
    """Print one line for each way of telling the errors beforehand, each judged by the errors of its own models."""
    test, known = (read_frames(out / f"{system.folder}_{part}.xyz") for part in ("test", "train"))
    print(f"\n### {system.name}: {len(known)} frames to train on, {len(test)} to test on\n")
    print("| | force RMSE | frames | atoms | scale | 1 sigma | 2 sigma |\n|---|---|---|---|---|---|---|", flush=True)
    for optimizer in OPTIMIZERS:
        folders = [out / f"{system.folder}_{optimizer}_{seed}" for seed in SEEDS]
        if not all(folder.exists() for folder in folders):
            continue
        models = [load_model(folder) for folder in folders]
        forces = [[p["forces"] for p in evaluate(one.model, one.weights, test)] for one in models]
        found = [KalmanUncertainty.load(one, fraction=system.fraction, refresh=known) for one in models]
        fresh = [one.many(test) for one in found]
        line(f"KPU, P refreshed, {optimizer}", fresh, forces, test)
        line(f"the same, last layer alone, {optimizer}", [last(one, known).many(test) for one in found], forces, test)
        if optimizer == "filter":
            found = [KalmanUncertainty.load(one, fraction=system.fraction) for one in models]
            line("KPU, P of the filter", [one.many(test) for one in found], forces, test)
            chosen = last_layer(models[0].model.architecture)
            found = [KalmanUncertainty.load(one, fraction=system.fraction, parameters=chosen) for one in models]
            line("the same, last layer of P", [one.many(test) for one in found], forces, test)
        deviation = committee(forces, [one.atoms for one in fresh[0]])
        line(f"committee of four, {optimizer}", [deviation] * len(models), forces, test)
        largest = [np.sqrt(np.max(variance)) for variance in disagreement(forces)]
        frames = [rank_correlation(largest, rmse(own, test)) for own in forces]
        print(f"| its largest deviation of an atom, {optimizer} | | {mean(frames)} | | | | |", flush=True)


def last(whole: KalmanUncertainty, known: Sequence[Frame]) -> KalmanUncertainty:
    """Return the cheap rival: all weights but those of the last layers are certain, in P^-1 of the training too."""
    form, chosen = whole.model.architecture, last_layer(whole.model.architecture)
    size = form.fitting_net.layers[-1].n_in + 1
    ends = [form.fitting_slice(centre).stop for centre in range(len(form.elements))]
    borders = sorted({0, *ends, *(end - size for end in ends), *range(0, ends[-1], 1024)})
    layout = BlockLayout(tuple(int(n) for n in np.diff(borders)))
    state = refreshed(whole.model, whole.weights, known, layout=layout)
    return KalmanUncertainty(whole.model, state, fraction=whole.fraction, parameters=chosen)


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
    columns: list[list[float]] = [[] for _ in range(6)]
    for mine, predicted in zip(found, forces, strict=True):
        errors = [force_errors(u, f, frame) for f, u, frame in zip(predicted, mine, test, strict=True)]
        pairs = list(zip(mine, errors, strict=True))
        half = calibrate(pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])
        by_frame = rank_correlation([u.force_mean for u in mine], rmse(predicted, test))
        sizes = np.concatenate([np.linalg.norm(e, axis=1) for e in errors])
        by_atom = rank_correlation(np.concatenate([u.forces for u in mine]), sizes)
        overall = 1e3 * float(np.sqrt(np.mean(np.concatenate([np.ravel(e) for e in errors]) ** 2)))
        values = overall, by_frame, by_atom, half.scale, 100 * half.within_one, 100 * half.within_two
        for column, value in zip(columns, values, strict=True):
            column.append(value)
    formats = ["{:.1f}", "{:.2f}", "{:.2f}", "{:.3g}", "{:.0f} %", "{:.0f} %"]
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
