#!/usr/bin/env python3
"""Compare ALKPU with a committee and with random selection, on a crystal that gets hotter from stage to stage.

    python docs/experiments/active_learning.py run OUT           # all methods and seeds; an hour on two cores
    python docs/experiments/active_learning.py report OUT        # tables on the terminal, the picture in docs/_static

The stages are those of the ALKPU paper's Table 2, scaled to an afternoon: a supercell of 32 atoms, a small network,
tens of labels a round. Copper is labelled by ASE's EMT potential, so that everything can be repeated anywhere;
`--system aluminium` is labelled by Quantum ESPRESSO, whose pw.x should be linked with a fast BLAS. The test sets are
molecular dynamics with EMT. A run that was stopped goes on where it was. `keep OUT` copies the labels of aluminium, and
what `report` reads, into docs/experiments/dft.
"""

import argparse
import csv
import shutil
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

from active_systems import MAXIMUM, ROUNDS, START, SYSTEMS, System, label_into, settings_of, write_test_set
from ase.io import read, write
from matplotlib.figure import Figure

from ekfcore.active.learner import Learner
from ekfcore.active.rattle import rattled
from ekfcore.active.report import read_report
from ekfcore.atoms import read_frames
from ekfcore.labelling.ledger import Ledger

HERE = Path(__file__).resolve().parent
NAMES = {"kpu": "ALKPU", "committee": "committee of four", "random": "random", "sparse": "random, one a round"}
SELECT: dict[str, dict[str, Any]] = {
    "kpu": {"method": "kpu"},
    "committee": {"method": "committee"},
    "random": {"method": "random"},
    "sparse": {"method": "random", "maximum": 1},  # about as many labels as ALKPU asks for, at the same temperatures
}


def main() -> None:
    """Run the experiment, or tell what it brought."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report", "keep"))
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--system", choices=SYSTEMS, default="copper", help="crystal (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=SELECT, default=list(SELECT))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    system = SYSTEMS[args.system]
    if args.what == "run":
        args.out.mkdir(parents=True, exist_ok=True)
        write(args.out / "crystal.xyz", system.crystal)
        for temperature in system.validation:
            write_test_set(system, temperature, args.out)
        for seed in args.seeds:
            for method in args.methods:
                _run(system, args.out, method, seed)
    elif args.what == "keep":
        _keep(args.out, HERE / "dft")
    else:
        picture = "active-learning.png" if args.system == "copper" else f"active-learning-{args.system}.png"
        _report(system, args.out, HERE.parent / "_static" / picture)


def _run(system: System, out: Path, method: str, seed: int) -> None:
    folder = out / f"{method}-{seed}"
    if (folder / "final" / "report.json").exists():
        return
    print(f"=== {NAMES[method]}, seed {seed}", flush=True)
    config = settings_of(system, SELECT[method], seed, out)
    folder.mkdir(exist_ok=True)
    start = out / f"start-{seed}.db"  # all methods begin with the same labels
    label_into(start, rattled(read_frames(config.data.structures, require=()), config.data, seed), system)
    if not (folder / "labels.db").exists():
        shutil.copyfile(start, folder / "labels.db")
    Learner(config, folder, on_message=lambda line: print(line, flush=True)).run()


def _keep(out: Path, kept: Path) -> None:
    """Copy what the report needs, the labels with the round that asked for them, and the test sets."""
    kept.mkdir(exist_ok=True)
    for path in out.glob("md-*.xyz"):
        write(kept / f"{path.name}.xz", read(path, ":"))
    for table in sorted(out.glob("*-*/report.csv")):
        folder = kept / table.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, folder / table.name)
        reports = [read_report(path) for path in sorted(table.parent.glob("round-*/report.json"))]
        rounds = {key: report.round for report in reports for key in report.labelled}
        seed = folder.name.rpartition("-")[2]
        ledger, start = Ledger(table.with_name("labels.db")), Ledger(out / f"start-{seed}.db")
        frames = []
        for key in ledger:
            frames.append(ledger.get(key).to_ase())
            unfinished = len(reports) + 1  # a round that was stopped has labels, but no report yet
            frames[-1].info["round"] = 0 if key in start else rounds.get(key, unfinished)
        write(folder / "labels.xyz.xz", frames)


Row = dict[str, float]
Runs = dict[str, dict[str, list[Row]]]  # by method and seed


def _report(system: System, out: Path, picture: Path) -> None:
    """Print tables, and draw errors against labels."""
    runs = read_runs(out)
    for temperature in system.validation:
        print(f"\nForce RMSE at {temperature} K [meV/Å]: median (lowest to highest) of the seeds\n")
        _table_of_errors(runs, f"force_rmse {temperature} K")
    done = {m: {seed: rows for seed, rows in several.items() if is_finished(rows)} for m, several in runs.items()}
    done = {method: several for method, several in done.items() if several}
    if done:
        hottest = f"{system.validation[-1]} K"
        print(f"\nLabels and processor seconds until the force RMSE at {hottest} stays below a threshold\n")
        _table_of_thresholds(done, system)
        print("\nProcessor seconds of a whole run: median of the seeds\n")
        _table_of_costs(done, system)
    for line in missing(runs, system):
        print(f"\n{line}")
    _draw(runs, system, picture)


def read_runs(out: Path) -> Runs:
    """Return the rounds of all runs that are there, by method and seed."""
    runs: Runs = {}
    for method in SELECT:
        for path in sorted(out.glob(f"{method}-*/report.csv")):
            with path.open(encoding="utf-8", newline="") as file:
                rows = [
                    {key: float(value) for key, value in row.items() if key != "temperatures"}
                    for row in csv.DictReader(file)
                ]
            runs.setdefault(method, {})[path.parent.name.removeprefix(f"{method}-")] = rows
    return runs


def is_finished(rows: list[Row]) -> bool:
    """Return whether the last model was trained on all labels."""
    return rows[-1]["stage"] == 0


def missing(runs: Runs, system: System) -> list[str]:
    """Return what the tables lack, in sentences."""
    rounds = ROUNDS * len(system.temperatures)
    said = []
    for method, several in runs.items():
        for seed, rows in several.items():
            if not is_finished(rows):
                said.append(f"Not finished: {NAMES[method]}, seed {seed}, after {len(rows)} of {rounds} rounds.")
    failed = sum(row["quarantined"] for several in runs.values() for rows in several.values() for row in rows)
    return [*said, f"Frames that could not be labelled: {failed:.0f}."] if "label" in system.steps else said


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _table_of_errors(runs: Runs, key: str) -> None:
    print(_line(["labels", *(NAMES[method] for method in runs)]))
    print(f"|---|{'---|' * len(runs)}")
    most = max(rows[-1]["trained_on"] for several in runs.values() for rows in several.values())
    for budget in range(START, int(most) + MAXIMUM, MAXIMUM):
        # A run that ended with fewer labels has nothing to say about this number.
        reached = [[r for r in runs[method].values() if r[-1]["trained_on"] > budget - MAXIMUM] for method in runs]
        print(_line([str(budget), *(spread([_at(rows, key, budget) for rows in several]) for several in reached)]))


def _at(rows: list[Row], key: str, budget: int) -> float:
    """Return the error of the last model that had at most so many labels."""
    return [row[key] for row in rows if row["trained_on"] <= budget][-1]


def spread(values: list[float]) -> str:
    """Return the median with the extremes."""
    if len(values) < 2:
        return "".join(f"{value:.1f}" for value in values)
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _table_of_thresholds(runs: Runs, system: System) -> None:
    print(_line(["below [meV/Å]", *(NAMES[method] for method in runs)]))
    print(f"|---|{'---|' * len(runs)}")
    for threshold in system.thresholds:
        cells = [[reach(rows, threshold, system) for rows in several.values()] for several in runs.values()]
        print(_line([str(threshold), *(_reached(found) for found in cells)]))


def reach(rows: list[Row], threshold: float, system: System) -> tuple[int, float] | None:
    """Return labels and processor seconds after which the error at the last temperature stays below a threshold."""
    key = f"force_rmse {system.validation[-1]} K"
    above = [k for k, row in enumerate(rows) if row[key] > threshold]
    first = above[-1] + 1 if above else 0
    if first == len(rows):
        return None
    seconds = sum(row[f"{step}_cpu_s"] for row in rows[:first] for step in system.steps)
    return int(rows[first]["trained_on"]), seconds + rows[first]["train_cpu_s"]


def _reached(found: list[tuple[int, float] | None]) -> str:
    hit = [f for f in found if f is not None]
    if not hit or len(hit) <= len(found) / 2:
        return f"{len(hit)} of {len(found)} seeds"
    return f"{median(f[0] for f in hit):.0f} labels, {median(f[1] for f in hit):.0f} s"


def _table_of_costs(runs: Runs, system: System) -> None:
    print(_line(["", *system.steps, "labels"]))
    print(f"|---|{'---|' * len(system.steps)}---|")
    for method, several in runs.items():
        costs = [
            median(sum(row[f"{step}_cpu_s"] for row in rows) for rows in several.values()) for step in system.steps
        ]
        labels = median(rows[-1]["trained_on"] for rows in several.values())
        print(_line([NAMES[method], *(f"{cost:.0f}" for cost in [*costs, labels])]))


def _draw(runs: Runs, system: System, path: Path) -> None:
    colours = {"kpu": "#0072b2", "committee": "#d55e00", "random": "#666666", "sparse": "#cc79a7"}
    count = len(system.validation)
    figure = Figure(figsize=(1.0 + 4.0 * count, 3.6), layout="constrained")
    (panels,) = figure.subplots(1, count, sharey=True, squeeze=False)
    for axes, temperature in zip(panels, system.validation, strict=True):
        for method, several in runs.items():
            for k, rows in enumerate(several.values()):
                labels = [row["trained_on"] for row in rows]
                errors = [row[f"force_rmse {temperature} K"] for row in rows]
                name = NAMES[method] if k == 0 else None
                axes.plot(labels, errors, color=colours[method], marker="o", ms=3, lw=1, alpha=0.8, label=name)
        axes.set_yscale("log")
        axes.set_title(f"{temperature} K", loc="left", fontsize=11)
        axes.set_xlabel("labelled frames")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("Force RMSE [meV/Å]")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
