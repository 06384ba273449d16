#!/usr/bin/env python3
"""Tabulate and draw the errors of ekfcore and of DeePMD-kit against the seconds of training.

    python asv_bench/plot_accuracy.py curves/copper docs/_static/accuracy-copper.png

The folder holds a curve for each run and seed, <run>-s<seed>.csv. Those of ekfcore have the seconds in them; those of
DeePMD-kit count steps, and seconds.csv tells how long one takes (see README.md for how both were measured).
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "experiments"))

from curves import Row, reached, read_curve  # the one place where curves are trained and kept

OURS = "ekfcore-filter"
STYLES = {  # run: label, colour (of Okabe and Ito), line
    OURS: ("ekfcore, filter", "#0072b2", "-"),
    "ekfcore-adam": ("ekfcore, Adam", "#56b4e9", "--"),
    "deepmd-lkf": ("DeePMD-kit, LKF", "#d55e00", "-"),
    "deepmd-lkf-thp": ("DeePMD-kit, LKF, huge pages", "#e69f00", "-"),
    "deepmd-adam": ("DeePMD-kit, Adam", "#7f7f7f", "--"),
    "deepmd-adam-drop2000": ("DeePMD-kit, Adam, earlier drop", "#b0b0b0", "--"),
}
SAME_CURVE = {"deepmd-lkf-thp": "deepmd-lkf"}  # the same numbers in less time
PLAIN = FuncFormatter(lambda value, position: f"{value:g}")


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, help="folder with the curves")
    parser.add_argument("picture", type=Path, help="picture to write")
    parser.add_argument("--energy", type=float, default=1.0, help="threshold [meV/atom] (default 1)")
    parser.add_argument("--force", type=float, default=30.0, help="threshold [meV/Å] (default 30)")
    args = parser.parse_args()
    runs = read_curves(args.curves)
    tabulate(runs, args.energy, args.force)
    draw(runs, args.energy, args.force, args.picture)
    print(f"wrote {args.picture}")


def read_curves(folder: Path) -> dict[str, list[list[Row]]]:
    """Return for each run a curve for each seed."""
    with (folder / "seconds.csv").open(newline="") as file:
        per_step = {row["run"]: float(row["seconds_per_step"]) for row in csv.DictReader(file)}
    runs: dict[str, list[list[Row]]] = defaultdict(list)
    for path in sorted(folder.glob("*-s[0-9].csv")):
        rows = read_curve(path)
        name = path.stem.rpartition("-s")[0]
        for run in [name, *(fast for fast, slow in SAME_CURVE.items() if slow == name and fast in per_step)]:
            step = per_step.get(run)
            runs[run].append(rows if step is None else [row._replace(seconds=row.frames * step) for row in rows])
    return runs


def tabulate(runs: dict[str, list[list[Row]]], energy: float, force: float) -> None:
    """Print when each run is accurate enough, and how many times longer than ours it takes.

    Of ours it is the median of the seeds that counts, of the others the best.
    """
    times = {run: [reached(curve, energy=energy, force=force) for curve in curves] for run, curves in runs.items()}
    ours = median(found.seconds if found else float("inf") for found in times[OURS])
    print(f"test errors below {energy:g} meV/atom and {force:g} meV/Å")
    print(f"{'run':<24}{'steps, seed by seed':<22}{'best [s]':>10}{'median [s]':>12}{'times longer':>14}")
    for run, found in sorted(times.items()):
        steps = ", ".join(str(row.frames) if row else "-" for row in found)
        seconds = [row.seconds if row else float("inf") for row in found]
        taken = median(seconds) if run == OURS else min(seconds)
        print(f"{run:<24}{steps:<22}{min(seconds):10.1f}{median(seconds):12.1f}{taken / ours:14.1f}")


def draw(runs: dict[str, list[list[Row]]], energy: float, force: float, picture: Path) -> None:
    """Draw force and energy errors against the seconds of training."""
    figure = Figure(figsize=(9.0, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, limit, label in ((left, force, "force [meV/Å]"), (right, energy, "energy [meV/atom]")):
        quantity = label.partition(" ")[0]
        for run, (name, colour, line) in STYLES.items():
            for number, curve in enumerate(runs.get(run, [])):
                points = [row for row in curve if row.seconds > 0]
                axes.plot(
                    [row.seconds for row in points],
                    [getattr(row, f"{quantity}_rmse_test") for row in points],
                    line,
                    color=colour,
                    linewidth=1.8 if run == OURS else 1.1,
                    alpha=1.0 if number == 0 else 0.45,
                    label=name if number == 0 else None,
                )
        _finish(axes, limit, label)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(picture, dpi=160)


def _finish(axes: Axes, limit: float, label: str) -> None:
    axes.axhline(limit, color="black", linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel(f"test RMSE, {label}")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(PLAIN)
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
