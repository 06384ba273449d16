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
import math
from pathlib import Path
from statistics import median

from curves import Run, train

SETS = ("Cu_pwmat", "Mo", "Si", "NaCl", "H2O", "HfO2", "AgAu", "LiSiC", "built-in")


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
    marks = tuple(args.marks)
    wanted = Run(
        set=name,
        settings=variant,
        epochs=args.epochs,
        seed=seed,
        marks=marks,
        frames=args.frames,
        held_out=not args.test,
    )
    found = []
    for row in train(wanted, args.data):
        virial = () if math.isnan(row.virial_rmse_test) else (row.virial_rmse_test,)
        found.append((row.epoch, row.seconds, row.energy_rmse_test, row.force_rmse_test, *virial))
    print(f"  {name} {variant} seed {seed}: {[tuple(round(x, 3) for x in row) for row in found]}", flush=True)
    return found


if __name__ == "__main__":
    main()
