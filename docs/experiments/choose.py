#!/usr/bin/env python3
"""Compare settings of the filter on several data sets, as the defaults were chosen.

    python docs/experiments/choose.py DATA --sets Cu_pwmat Mo --variants "" "noise_factor=1" --epochs 3 --seeds 3

DATA is a folder with a folder for each set, of which train.xyz.xz alone is read: a fifth of its frames is held out and
judged by. Each variant is a list of keys of [optimizer], "rows=64 block_size=512". One line for each run; then the
medians over the seeds. One thread.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads has been set

from ekfcore.training import Settings, Trainer, prepare
from ekfcore.training.toml import set_key

SETS = ("Cu_pwmat", "Mo", "Si", "NaCl", "H2O", "HfO2", "AgAu", "LiSiC")
MOST = 200  # frames to learn from: some sets have a thousand


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--variants", nargs="+", default=[""])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--marks", type=float, nargs="*", default=[0.25, 1.0], help="epochs to judge after, and the last"
    )
    args = parser.parse_args()
    for name in args.sets:
        for variant in args.variants:
            runs = [run(args.data / name / "train.xyz.xz", variant, args, seed) for seed in range(args.seeds)]
            cells = [[median(values) for values in zip(*mark, strict=True)] for mark in zip(*runs, strict=True)]
            text = " | ".join(f"{seen:g}: {energy:.2f}, {force:.1f}" for seen, energy, force, _ in cells)
            print(f"{name:9s} {variant or '-':40s} {text} | {cells[-1][-1]:.0f} s", flush=True)


def run(path: Path, variant: str, args: argparse.Namespace, seed: int) -> list[tuple[float, float, float, float]]:
    """Return epochs, energy [meV/atom] and force errors [meV/Å] on frames held out, and seconds of training."""
    settings = {
        "data": {"train": [str(path)], "test_fraction": 0.2},
        "training": {"epochs": args.epochs, "seed": seed},
    }
    for item in variant.split():
        set_key(settings, item if "." in item.partition("=")[0] else f"optimizer.{item}")
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepare(Settings.from_json(settings), Path(folder) / "run")
        found = list(steps(trainer, args.epochs, seed, sorted({*args.marks, float(args.epochs)})))
    print(
        f"  {path.parent.name} {variant} seed {seed}: {[tuple(round(x, 3) for x in row) for row in found]}", flush=True
    )
    return found


def steps(trainer: Trainer, epochs: int, seed: int, marks: list[float]) -> "list[tuple[float, float, float, float]]":
    """Train as `ekfcore train` does, and judge within epochs as well."""
    n, seen, seconds, found = min(len(trainer.train), MOST), 0, 0.0, []
    marks = list(marks)
    for epoch in range(epochs):
        trainer.refine()
        for index, k in enumerate(np.random.default_rng([seed, epoch]).permutation(n)):
            start = time.process_time()
            trainer.optimizer.step([trainer.train[k]], np.random.default_rng([seed, epoch, index]))
            seconds += time.process_time() - start
            seen += 1
            if marks and seen >= marks[0] * n:
                errors = trainer.test.errors(trainer.weights)
                found.append((marks.pop(0), errors.energy_rmse, errors.force_rmse, seconds))
    return found


if __name__ == "__main__":
    main()
