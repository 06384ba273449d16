#!/usr/bin/env python3
"""Compare settings of the filter on several data sets, as the defaults were chosen, or judge them by the test sets.

    python docs/experiments/choose.py DATA --sets Cu_pwmat Mo --variants "" "noise_factor=1" --epochs 3 --seeds 3
    python docs/experiments/choose.py DATA --test --sets Cu_pwmat --epochs 10 --marks 40f 1 3 8 9 10
    python docs/experiments/choose.py DATA --test --sets built-in --frames 20 --epochs 60 --variants "" "preset=rlekf"

DATA is a folder with a folder for each set, of which train.xyz.xz alone is read: a fifth of its frames is held out and
judged by. With --test, all of them are learned, and test.xyz.xz is judged by. The set "built-in" is that of
`ekfcore demo`. Each variant is a list of keys of [optimizer], "rows=64 block_size=512". One line for each run; then the
medians over the seeds. One thread.
"""

import argparse
import os
import tempfile
import time
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads has been set
from ase.io import read, write
from numpy.typing import NDArray

from ekfcore.settings.toml import set_key
from ekfcore.training import Settings, Trainer, prepare

SETS = ("Cu_pwmat", "Mo", "Si", "NaCl", "H2O", "HfO2", "AgAu", "LiSiC", "built-in")
MOST = 200  # frames to learn from where settings are compared: some sets have a thousand
BUILT_IN = Path(str(files("ekfcore.demo")))


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--variants", nargs="+", default=[""])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, help="learn so many frames of a set, evenly spaced")
    parser.add_argument("--test", action="store_true", help="learn all of train.xyz.xz and judge by test.xyz.xz")
    parser.add_argument(
        "--marks", nargs="*", default=["0.25", "1"], help="judge after so many epochs, or frames (40f); and at the end"
    )
    args = parser.parse_args()
    for name in args.sets:
        for variant in args.variants:
            runs = [run(args, name, variant, seed) for seed in range(args.seeds)]
            cells = [[median(values) for values in zip(*mark, strict=True)] for mark in zip(*runs, strict=True)]
            text = " | ".join(
                f"{seen:g}: {', '.join(f'{error:.3g}' for error in errors)}" for seen, _, *errors in cells
            )
            print(f"{name:9s} {variant or '-':40s} {text} | {cells[-1][1]:.0f} s", flush=True)


def run(args: argparse.Namespace, name: str, variant: str, seed: int) -> list[tuple[float, ...]]:
    """Return epochs, seconds of training, and the errors on frames not learned.

    The errors are of energy [meV/atom], forces [meV/Å] and, where the frames have one, virial [meV/atom].
    """
    folder, prefix = (BUILT_IN, "silicon_") if name == "built-in" else (args.data / name, "")
    judged: dict[str, Any] = {"test": [str(folder / f"{prefix}test.xyz.xz")]} if args.test else {"test_fraction": 0.2}
    settings: dict[str, Any] = {
        "data": judged,
        "training": {"epochs": args.epochs, "seed": seed},
    }
    if name == "built-in":
        settings["model"] = tomllib.loads((BUILT_IN / "demo.toml").read_text())["model"]
    for item in variant.split():
        set_key(settings, item if "." in item.partition("=")[0] else f"optimizer.{item}")
    with tempfile.TemporaryDirectory() as scratch:
        train = folder / f"{prefix}train.xyz.xz"
        if args.frames:
            frames = read(train, ":")
            train = Path(scratch) / "train.xyz"
            write(train, [frames[k] for k in np.linspace(0, len(frames) - 1, args.frames).round().astype(int)])
        settings["data"]["train"] = [str(train)]
        trainer = prepare(Settings.from_json(settings), Path(scratch) / "run")
        n = len(trainer.train) if args.test else min(len(trainer.train), MOST)
        marks = {int(mark[:-1]) if mark.endswith("f") else round(float(mark) * n) for mark in args.marks}
        chosen = np.linspace(0, len(trainer.train) - 1, n).round().astype(int)  # frames of one kind may stand together
        found = list(steps(trainer, chosen, args.epochs, seed, marks | {n * args.epochs}))
    print(f"  {name} {variant} seed {seed}: {[tuple(round(x, 3) for x in row) for row in found]}", flush=True)
    return found


def steps(
    trainer: Trainer, chosen: NDArray[Any], epochs: int, seed: int, marks: set[int]
) -> Iterator[tuple[float, ...]]:
    """Train on these frames as `ekfcore train` does, and judge after so many of them."""
    seen, seconds, n = 0, 0.0, len(chosen)
    for epoch in range(epochs):
        trainer.refine()
        for index, k in enumerate(np.random.default_rng([seed, epoch]).permutation(n)):
            start = time.process_time()
            trainer.optimizer.step([trainer.train[chosen[k]]], np.random.default_rng([seed, epoch, index]))
            seconds += time.process_time() - start
            seen += 1
            if seen in marks:
                errors = trainer.test.errors(trainer.weights)
                virial = () if errors.virial_rmse is None else (errors.virial_rmse,)
                yield seen / n, seconds, errors.energy_rmse, errors.force_rmse, *virial


if __name__ == "__main__":
    main()
