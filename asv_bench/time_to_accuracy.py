#!/usr/bin/env python3
"""Train until the test errors are small enough, and tell after how many seconds they are.

    python asv_bench/time_to_accuracy.py DATA                  # every run below, three seeds each
    python asv_bench/time_to_accuracy.py DATA --runs filter adam-50 --seeds 1 --relative --out CURVES

DATA is a folder with train.xyz.xz and test.xyz.xz. The time to accuracy is that of the steps up to the first evaluation
for which the mean of it and of the next two is below both thresholds; evaluations are not counted. It is processor time
of one thread, which other work on the machine disturbs least. --relative adds the measure of the paper's Figure 4: when
the error of energy and that of forces, each for itself, is at most 1.2 times the lower one that the filter and the best
schedule of Adam end with. --frames learns from and tests on fewer frames of large sets. Curves go to --out, one file a
run; one that is there already is read instead of trained again. README.md beside this file tells what DeePMD-kit's
curves beside them are.
"""

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # after the number of threads has been set
from ase.io import read, write

from ekfcore.training import Settings, Trainer, prepare

HERE = Path(__file__).resolve().parent
COLUMNS = ("step", "epoch", "train_s", "energy_rmse_meV_per_atom", "force_rmse_meV_per_A")
EVALUATIONS = 16  # in an epoch of the filter: every ten frames of copper
MARGIN = 1.2  # of the paper's Figure 4
FILTER = {"preset": "recommended"}
ADAM = {"preset": "adam", "final_learning_rate": 1e-8}
RUNS: dict[str, tuple[dict[str, object], int, int]] = {
    "filter": (FILTER, 4, 4),
    **{f"adam-{epochs}": (ADAM, epochs, min(epochs, 100)) for epochs in (50, 100, 200, 400)},
    "adam-stairs": ({**ADAM, "decay_steps": 5000}, 100, 45),
}
"""Settings of the optimizer, epochs of the whole schedule, and epochs to train."""

Row = tuple[int, float, float, float, float]


def main() -> None:
    """Train, write the curves, print a table."""
    args = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    print(f"{'run':<14}{'seed':>5}{'epochs':>8}{'steps':>8}{'seconds':>9}{'ms/step':>9}   last errors")
    curves: dict[str, list[list[Row]]] = {}
    for name in args.runs:
        reached, curves[name] = [], []
        for seed in range(1, args.seeds + 1):
            path = args.out / f"ekfcore-{name}-s{seed}.csv"
            if not path.exists():
                _write(path, list(_train(args, name, seed)))
            rows = _read(path)
            curves[name].append(rows)
            found = time_to_accuracy(rows, args.energy, args.force)
            reached.append(found[2] if found else float("inf"))
            at = f"{found[1]:8.2f}{found[0]:8d}{found[2]:9.2f}" if found else f"{'-':>8}{'-':>8}{'-':>9}"
            last = f"{rows[-1][3]:.2f} meV/atom, {rows[-1][4]:.1f} meV/Å"
            print(f"{name:<14}{seed:>5}{at}{1e3 * rows[-1][2] / rows[-1][0]:9.2f}   {last}", flush=True)
        print(f"{name:<14} median {median(reached):.2f} s, best {min(reached):.2f} s", flush=True)
    if args.relative:
        _print_relative(curves)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.xyz.xz and test.xyz.xz")
    parser.add_argument("--runs", nargs="+", choices=RUNS, default=list(RUNS), help="which (default: all)")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of each (default 3)")
    parser.add_argument("--energy", type=float, default=1.0, help="threshold [meV/atom] (default 1)")
    parser.add_argument("--force", type=float, default=30.0, help="threshold [meV/Å] (default 30)")
    parser.add_argument("--relative", action="store_true", help=f"also tell when {MARGIN} times the best is reached")
    parser.add_argument("--frames", type=int, default=10**9, help="of each of the two files at most, evenly spaced")
    parser.add_argument("--backend", default="auto", help="as of ekfcore train")
    parser.add_argument("--out", type=Path, help="folder for the curves (default: one of that name in curves/)")
    args = parser.parse_args()
    args.out = args.out or HERE / "curves" / args.data.resolve().name
    if args.relative and ("filter" not in args.runs or set(args.runs) == {"filter"}):
        parser.error("--relative needs the filter and a run of Adam among --runs")
    return args


def time_to_accuracy(rows: list[Row], energy: float, force: float) -> Row | None:
    """Return the first row for which the mean of it and the next two is below both thresholds."""
    for k in range(len(rows) - 2):
        means = np.mean([row[3:] for row in rows[k : k + 3]], axis=0)
        if means[0] < energy and means[1] < force:
            return rows[k]
    return None


def _print_relative(curves: dict[str, list[list[Row]]]) -> None:
    """Print after how many seconds each run is as good as `MARGIN` times the best final error; medians of the seeds."""
    for quantity, unit in enumerate(("meV/atom", "meV/Å")):
        final = {
            name: median(float(np.mean([row[3 + quantity] for row in rows[-3:]])) for rows in seeds)
            for name, seeds in curves.items()
        }
        adam = min((name for name in final if name != "filter"), key=final.__getitem__)
        limit = MARGIN * min(final["filter"], final[adam])
        limits = [np.inf, np.inf]
        limits[quantity] = limit
        print(f"\n{('energy', 'force')[quantity]}: {limit:.3g} {unit}, {MARGIN} times the lower of two final errors,")
        print(f"{final['filter']:.3g} of the filter and {final[adam]:.3g} of {adam}")
        for name, seeds in curves.items():
            found = [time_to_accuracy(rows, *limits) for rows in seeds]
            print(f"{name:<14} median {median(row[2] if row else np.inf for row in found):.2f} s")


def _train(args: argparse.Namespace, name: str, seed: int) -> Iterator[Row]:
    """Yield step, epoch, processor seconds of training, and the errors of energy and forces."""
    optimizer, schedule, epochs = RUNS[name]
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "data": {split: [_some(args, split, Path(folder))] for split in ("train", "test")},
            "optimizer": optimizer,
            "training": {"epochs": schedule, "seed": seed},
            "run": {"backend": args.backend},
        }
        trainer = prepare(Settings.from_json(settings), Path(folder) / "run")
        yield from _steps(trainer, epochs, seed, every=10 if optimizer["preset"] == "adam" else 1)


def _some(args: argparse.Namespace, split: str, folder: Path) -> str:
    """Return a file with the frames that were asked for."""
    path = args.data / f"{split}.xyz.xz"
    frames = read(path, ":")
    if len(frames) > args.frames:
        path = folder / f"{split}.xyz"
        write(path, [frames[k] for k in np.linspace(0, len(frames) - 1, args.frames).round().astype(int)])
    return str(path)


def _steps(trainer: Trainer, epochs: int, seed: int, *, every: int) -> Iterator[Row]:
    """Train as `ekfcore train` does, but for evaluations within an epoch."""
    count, seconds, n = 0, 0.0, len(trainer.train)
    for epoch in range(epochs):
        trainer.refine()
        for index, k in enumerate(np.random.default_rng([seed, epoch]).permutation(n)):
            rng = np.random.default_rng([seed, epoch, index])
            start = time.process_time()
            trainer.optimizer.step([trainer.train[k]], rng)
            seconds += time.process_time() - start
            count += 1
            if count % max(every * n // EVALUATIONS, 1) == 0:
                errors = trainer.test.errors(trainer.weights)
                yield count, count / n, seconds, errors.energy_rmse, errors.force_rmse


def _read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [(int(row[0]), *(float(x) for x in row[1:])) for row in list(csv.reader(file))[1:]]


def _write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([(row[0], *(f"{x:.6g}" for x in row[1:])) for row in rows])


if __name__ == "__main__":
    main()
