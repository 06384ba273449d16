#!/usr/bin/env python3
"""Compare ALKPU with a committee and with random selection, on copper from 500 to 1400 K.

    python docs/experiments/active_learning.py run OUT           # all methods and seeds; an hour on two cores
    python docs/experiments/active_learning.py report OUT        # tables on the terminal, the picture in docs/_static

The stages are those of the ALKPU paper's Table 2, scaled to an afternoon: a supercell of 32 atoms, a small network,
tens of labels a round. Labels come from ASE's EMT potential, so that everything can be repeated anywhere; the
validation sets are molecular dynamics with EMT itself at 1200 and 1400 K. A run that was stopped goes on where it was.
"""

import argparse
import json
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
METHODS = ("kpu", "committee", "random", "sparse")
NAMES = {"kpu": "ALKPU", "committee": "committee of four", "random": "random", "sparse": "random, one a round"}
VALIDATION = (1200, 1400)
MAXIMUM, START = 4, 10  # labels a round, and before the first
STAGES = [{"temperatures": [float(t)], "rounds": 3} for t in (500, 800, 1200, 1400)]
SELECT: dict[str, dict[str, Any]] = {
    "kpu": {"method": "kpu"},
    "committee": {"method": "committee"},
    "random": {"method": "random"},
    "sparse": {"method": "random", "maximum": 1},  # about as many labels as ALKPU asks for, at the same temperatures
}


def main() -> None:
    """Run the experiment, or tell what it brought."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    if args.what == "run":
        args.out.mkdir(parents=True, exist_ok=True)
        _write_data(args.out)
        for seed in args.seeds:
            for method in args.methods:
                _run(args.out, method, seed)
    else:
        _report(args.out)


def _write_data(out: Path) -> None:
    """Write the structure and the validation sets."""
    from ase import units
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

    crystal = bulk("Cu", cubic=True).repeat(2)
    write(out / "copper.xyz", crystal)
    for temperature in VALIDATION:
        path = out / f"md-{temperature}.xyz"
        if path.exists():
            continue
        atoms, rng = crystal.copy(), np.random.default_rng(temperature)
        atoms.calc = EMT()
        MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
        dynamics = Langevin(atoms, 2 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)
        dynamics.run(500)
        frames = []
        for _ in range(100):
            dynamics.run(50)
            frames.append(atoms.copy())
            frames[-1].calc = EMT()
            frames[-1].get_forces()
        write(path, frames)


def _settings(out: Path, method: str, seed: int) -> dict[str, Any]:
    validation = {f"{t} K": [str(out.resolve() / f"md-{t}.xyz")] for t in VALIDATION}
    return {
        "data": {"structures": [str(out.resolve() / "copper.xyz")], "rattled": START, "validation": validation},
        "stages": STAGES,
        "explore": {"time_step": 2.0, "steps": 2000, "every": 10},
        "select": {"maximum": MAXIMUM, **SELECT[method]},
        "label": {"calculator": "emt"},
        "model": {"cutoff": 5.0, "embedding": [8, 16], "axis": 8, "fitting": [32, 32], "fitting_gain": 1.0},
        "training": {"epochs": 20, "seed": seed},
        "run": {"threads": 1},
    }


def _run(out: Path, method: str, seed: int) -> None:
    from ekfcore.active.learner import Learner
    from ekfcore.active.settings import LearnSettings

    folder = out / f"{method}-{seed}"
    folder.mkdir(exist_ok=True)
    if (folder / "rows.json").exists():
        return
    print(f"=== {NAMES[method]}, seed {seed}", flush=True)
    learner = Learner(LearnSettings.model_validate(_settings(out, method, seed)), folder)
    learner.run()
    (folder / "rows.json").write_text(json.dumps([report.row() for report in learner.reports]))


def _report(out: Path) -> None:
    """Print tables, and draw errors against labels."""
    runs = {
        method: [json.loads(path.read_text()) for path in sorted(out.glob(f"{method}-*/rows.json"))]
        for method in METHODS
    }
    for temperature in VALIDATION:
        key = f"force_rmse {temperature} K"
        print(f"\nForce RMSE at {temperature} K [meV/Å]: median (lowest to highest) of the seeds\n")
        _table_of_errors(runs, key)
    print("\nLabels and processor seconds until the force RMSE at 1400 K stays below a threshold\n")
    _table_of_thresholds(runs)
    print("\nProcessor seconds of a whole run: median of the seeds\n")
    _table_of_costs(runs)
    _draw(runs, HERE.parent / "_static" / "active-learning.png")


Runs = dict[str, list[list[dict[str, Any]]]]


def _table_of_errors(runs: Runs, key: str) -> None:
    budgets = sorted({b for rows in runs["random"] for b in (row["trained_on"] for row in rows)})
    print(f"| labels | {' | '.join(NAMES[method] for method in METHODS)} |")
    print(f"|---|{'---|' * len(METHODS)}")
    for budget in budgets:
        # A run that ended with fewer labels has nothing to say about this number.
        reached = {method: [r for r in runs[method] if r[-1]["trained_on"] > budget - MAXIMUM] for method in METHODS}
        cells = [[_at(rows, key, budget) for rows in reached[method]] for method in METHODS]
        print(f"| {budget} | {' | '.join(_spread(values) for values in cells)} |")


def _at(rows: list[dict[str, Any]], key: str, budget: int) -> float:
    """Return the error of the last model that had at most so many labels."""
    return [row[key] for row in rows if row["trained_on"] <= budget][-1]


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})" if values else ""


def _table_of_thresholds(runs: Runs) -> None:
    print(f"| below [meV/Å] | {' | '.join(NAMES[method] for method in METHODS)} |")
    print(f"|---|{'---|' * len(METHODS)}")
    for threshold in (100, 50, 40, 30, 25, 20):
        cells = [[_reach(rows, threshold) for rows in runs[method]] for method in METHODS]
        print(f"| {threshold} | {' | '.join(_reached(found) for found in cells)} |")


def _reach(rows: list[dict[str, Any]], threshold: float) -> tuple[int, float] | None:
    """Return labels and processor seconds after which the error stays below a threshold."""
    above = [k for k, row in enumerate(rows) if row["force_rmse 1400 K"] > threshold]
    first = above[-1] + 1 if above else 0
    if first == len(rows):
        return None
    seconds = sum(row[f"{step}_cpu_s"] for row in rows[:first] for step in ("train", "explore", "judge"))
    return rows[first]["trained_on"], seconds + rows[first]["train_cpu_s"]


def _reached(found: list[tuple[int, float] | None]) -> str:
    hit = [f for f in found if f is not None]
    if not hit or len(hit) <= len(found) / 2:
        return f"{len(hit)} of {len(found)} seeds"
    return f"{median(f[0] for f in hit):.0f} labels, {median(f[1] for f in hit):.0f} s"


def _table_of_costs(runs: Runs) -> None:
    steps = ("train", "explore", "judge")
    print(f"| | {' | '.join(steps)} | labels |")
    print(f"|---|{'---|' * len(steps)}---|")
    for method in METHODS:
        costs = [median(sum(row[f"{step}_cpu_s"] for row in rows) for rows in runs[method]) for step in steps]
        labels = median(rows[-1]["trained_on"] for rows in runs[method])
        print(f"| {NAMES[method]} | {' | '.join(f'{cost:.0f}' for cost in costs)} | {labels:.0f} |")


def _draw(runs: Runs, path: Path) -> None:
    from matplotlib.figure import Figure

    colours = {"kpu": "#0072b2", "committee": "#d55e00", "random": "#666666", "sparse": "#cc79a7"}
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, temperature in zip(figure.subplots(1, 2, sharey=True), VALIDATION, strict=True):
        for method, several in runs.items():
            for k, rows in enumerate(several):
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
