#!/usr/bin/env python3
"""The rate of the RLEKF paper's Theorem 1: what measurements excite becomes certain as 1/t, and so do the steps.

    python docs/experiments/rates.py DATA

Trains a small network with the paper's filter in one block, the case of the theorem, once with the paper's memory and
once without forgetting. Four numbers are followed: the variance v P v along the direction of the weights that energies
excite most (leading singular vector of their gradients in test frames), along that of forces, along random ones, and
the length of the step of the weights in a frame. Writes experiments/rates.md and a picture.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from curves import Run, one_thread, trainer_of
from matplotlib.figure import Figure
from numpy.typing import NDArray
from papers import clean, number, options, parsed, save, table, write_page

from ekfcore.training import KalmanOptimizer, Trainer
from ekfcore.uncertainty import kpu

SMALL = "model.embedding=[8,16] model.axis=4 model.fitting=[16]"
MEMORIES = {"λ → 1 (the paper)": "", "λ = 1": "memory=1"}
LABELS = {
    "energy": "variance, direction of energies",
    "force": "variance, direction of forces",
    "random": "variance, random directions",
    "step": "step of the weights",
}
COLOURS = {"energy": "#0072b2", "force": "#56b4e9", "random": "#7f7f7f", "step": "#d55e00"}
EXPECTED = {"energy": -1.0, "force": -1.0, "random": 0.0, "step": -1.0}  # exponents of the theory
ALT = "The filter's variances, and the steps of the weights, against the number of measurements."
FRAMES, DIRECTIONS = 10, 20  # that are followed


class Point(NamedTuple):
    """What is seen after so many measurements; the last two are medians over directions and frames."""

    measurements: int
    energy: float
    force: float
    random: float
    step: float


def main() -> None:
    """Train, fit, draw."""
    args = parsed(options(__doc__, sets=["Cu_pwmat"], epochs=30, seeds=1, methods=(), settings=SMALL))
    name = args.systems[0]
    seen = {label: _kept(args, name, memory) for label, memory in MEMORIES.items()}
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    rows, held = [], []
    for axes, (label, points) in zip(figure.subplots(1, 2, sharey=True), seen.items(), strict=True):
        if not points:
            held.append(f"{label}: not followed yet.")
            rows.append([label, *["…"] * len(LABELS)])
            continue
        t = [point.measurements for point in points]
        for quantity, colour in COLOURS.items():
            values = np.asarray([getattr(point, quantity) for point in points])
            axes.loglog(t, values / values[0], color=colour, label=LABELS[quantity])
        axes.loglog(t, t[0] / np.asarray(t), ":", color="black", label="1/t")
        axes.legend(frameon=False, fontsize=8)
        axes.set_title(f"{name}, {label}", loc="left", fontsize=10)
        axes.set_xlabel("measurements t")
        clean(axes)
        found = {quantity: exponent(points, quantity) for quantity in LABELS}
        rows.append([label, *(number(found[quantity]) for quantity in LABELS)])
        held.append(f"{label}: {', '.join(f'{LABELS[q]} as t^{number(found[q])} ({EXPECTED[q]:g})' for q in LABELS)}.")
    rows.append(["theory", *(f"{EXPECTED[quantity]:g}" for quantity in LABELS)])
    shown = save(args, figure, "rates", ALT) if any(seen.values()) else ""
    rest = f"{shown}Exponents over the last decade of measurements, all relative to the first value in the picture.\n\n"
    write_page(args, "rates", held, rest + table(f".memory | {' | '.join(LABELS.values())}", rows))


def exponent(points: Sequence[Point], quantity: str) -> float:
    """Return the slope of the logarithms over the last decade."""
    last = [point for point in points if 10 * point.measurements >= points[-1].measurements]
    t, values = ([getattr(point, key) for point in last] for key in ("measurements", quantity))
    return float(np.polyfit(np.log(t), np.log(values), 1)[0])


def _kept(args: argparse.Namespace, name: str, memory: str) -> list[Point]:
    """Return the points that are there, or follow a training now."""
    run = Run(
        set=name,
        settings=f"preset=rlekf strategy=global {memory} {args.set}".strip(),
        epochs=args.epochs,
        seed=0,
        frames=args.frames,
    )
    path = args.out / "experiments" / "curves" / run.path.with_stem(f"rates-{run.path.stem}")
    if args.no_training and not path.exists():
        return []
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(Point._fields)
            writer.writerows([f"{value:.6g}" for value in point] for point in follow(run, args.data))
        part.replace(path)
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Point(int(line["measurements"]), *(float(line[key]) for key in Point._fields[1:]))
            for line in csv.DictReader(file)
        ]


def follow(run: Run, data: Path) -> Iterator[Point]:
    """Train, and look at the filter whenever a tenth more frames have been learned."""
    with tempfile.TemporaryDirectory() as scratch, one_thread():
        trainer = trainer_of(run, data, Path(scratch))
        optimizer = trainer.optimizer
        assert isinstance(optimizer, KalmanOptimizer)
        random = np.random.default_rng(0).standard_normal((DIRECTIONS, trainer.weights.shape[0]))
        random /= np.linalg.norm(random, axis=1, keepdims=True)
        seen, look, steps = 0, 1.0, []
        for epoch in range(run.epochs):
            trainer.refine()
            for index, k in enumerate(np.random.default_rng([run.seed, epoch]).permutation(len(trainer.train))):
                before = np.array(optimizer.state.weights)
                optimizer.step([trainer.train[k]], np.random.default_rng([run.seed, epoch, index]))
                steps.append(float(np.linalg.norm(np.asarray(optimizer.state.weights) - before)))
                seen += 1
                if seen >= look:
                    look = 1.1 * seen
                    energy, force = (float(kpu(optimizer.state, v)[0]) for v in excited(trainer))
                    aside = median(kpu(optimizer.state, random).tolist())
                    yield Point(optimizer.state.count, energy, force, aside, median(steps))
                    steps = []


def excited(trainer: Trainer) -> Iterator[NDArray[np.float64]]:
    """Yield the unit vectors along which energies and forces of test frames change most, at the weights of now."""
    rows: list[NDArray[np.float64]] = []
    for sample in trainer.test[:FRAMES]:
        force = np.zeros((sample.n_atoms, 3))
        force[0, 0] = 1.0
        cotangents = [{"energy": np.asarray(1 / sample.n_atoms)}, {"forces": force}]
        rows.append(np.asarray(trainer.model.jacobian(trainer.weights, sample.environment, cotangents)[1]))
    for H in np.stack(rows, axis=1):
        yield np.linalg.svd(H, full_matrices=False)[2][0]


if __name__ == "__main__":
    main()
