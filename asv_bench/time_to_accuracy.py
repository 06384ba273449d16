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
import sys
from pathlib import Path
from statistics import fmean, median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "experiments"))

from curves import Row, Run, curve, reached  # the one place where curves are trained and kept

HERE = Path(__file__).resolve().parent
EVALUATIONS = 16  # in an epoch of the filter: every ten frames of copper
MARGIN = 1.2  # of the paper's Figure 4
ADAM = "preset=adam final_learning_rate=1e-8"
RUNS = {
    "filter": ("", 4, 4),
    **{f"adam-{epochs}": (ADAM, epochs, min(epochs, 100)) for epochs in (50, 100, 200, 400)},
    "adam-stairs": (f"{ADAM} decay_steps=5000", 100, 45),
}
"""Settings of the optimizer, epochs of the whole schedule, and epochs to train."""


def main() -> None:
    """Train, write the curves, print a table."""
    args = _arguments()
    print(f"{'run':<14}{'seed':>5}{'epochs':>8}{'steps':>8}{'seconds':>9}{'ms/step':>9}   last errors")
    curves: dict[str, list[list[Row]]] = {}
    for name in args.runs:
        times, curves[name] = [], []
        for seed in range(1, args.seeds + 1):
            rows = curve(_run(args, name, seed), args.data.resolve().parent, args.out / f"ekfcore-{name}-s{seed}.csv")
            curves[name].append(rows)
            found, last = reached(rows, energy=args.energy, force=args.force), rows[-1]
            times.append(found.seconds if found else float("inf"))
            at = f"{found.epoch:8.2f}{found.frames:8d}{found.seconds:9.2f}" if found else f"{'-':>8}{'-':>8}{'-':>9}"
            ends = f"{last.energy_rmse_test:.2f} meV/atom, {last.force_rmse_test:.1f} meV/Å"
            print(f"{name:<14}{seed:>5}{at}{1e3 * last.seconds / last.frames:9.2f}   {ends}", flush=True)
        print(f"{name:<14} median {median(times):.2f} s, best {min(times):.2f} s", flush=True)
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
    parser.add_argument("--frames", type=int, help="of each of the two files at most, evenly spaced")
    parser.add_argument("--backend", default="auto", help="as of ekfcore train")
    parser.add_argument("--out", type=Path, help="folder for the curves (default: one of that name in curves/)")
    args = parser.parse_args()
    args.out = args.out or HERE / "curves" / args.data.resolve().name
    if args.relative and ("filter" not in args.runs or set(args.runs) == {"filter"}):
        parser.error("--relative needs the filter and a run of Adam among --runs")
    return args


def _run(args: argparse.Namespace, name: str, seed: int) -> Run:
    settings, schedule, epochs = RUNS[name]
    every = 1 if name == "filter" else 10
    marks = tuple(f"{k * every / EVALUATIONS:g}" for k in range(1, epochs * EVALUATIONS // every + 1))
    backend = [] if args.backend == "auto" else [f"run.backend={args.backend}"]
    return Run(
        set=args.data.resolve().name,
        settings=" ".join([*settings.split(), *backend]),
        epochs=schedule,
        stop=epochs if epochs < schedule else None,
        seed=seed,
        marks=marks,
        frames=args.frames,
        judged=args.frames,
    )


def _print_relative(curves: dict[str, list[list[Row]]]) -> None:
    """Print after how many seconds each run is as good as `MARGIN` times the best final error; medians of the seeds."""
    for quantity, unit in (("energy", "meV/atom"), ("force", "meV/Å")):
        final = {
            name: median(fmean(getattr(row, f"{quantity}_rmse_test") for row in rows[-3:]) for rows in seeds)
            for name, seeds in curves.items()
        }
        adam = min((name for name in final if name != "filter"), key=final.__getitem__)
        limit = MARGIN * min(final["filter"], final[adam])
        print(f"\n{quantity}: {limit:.3g} {unit}, {MARGIN} times the lower of two final errors,")
        print(f"{final['filter']:.3g} of the filter and {final[adam]:.3g} of {adam}")
        for name, seeds in curves.items():
            found = [reached(rows, **{quantity: limit}) for rows in seeds]
            print(f"{name:<14} median {median(row.seconds if row else float('inf') for row in found):.2f} s")


if __name__ == "__main__":
    main()
