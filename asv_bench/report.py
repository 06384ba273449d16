#!/usr/bin/env python3
"""Turn asv's results into the tables and the picture of the documentation.

    python asv_bench/report.py [FILE] [--out FOLDER]

FILE is one of asv's results, .asv/results/MACHINE/COMMIT-ENVIRONMENT.json; without it, the newest one. Prints tables,
and writes them and the picture to FOLDER, asv_bench/results unless given. To be run right after asv and in the same
environment, since versions and the number of threads are those of this process; `make bench-docs` does both.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import product
from math import isfinite
from pathlib import Path

from machine import describe_machine, describe_versions
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ekfcore.threads import thread_count

HERE = Path(__file__).resolve().parent
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#7f7f7f", "#cc79a7", "#e69f00", "#56b4e9")  # of Okabe and Ito
MEASUREMENTS = ("1", "2", "5")
ROWS = ("0", "32", "128", "512")
COUPLED = ("1", "3", "8")
PRESETS = ("recommended", "rlekf")
EVALUATIONS = {
    "time_predict": "prediction",
    "time_energy_gradient": "gradient of the energy",
    "time_force_group_gradient": "gradient of one force group",
    "time_everything": "prediction and five gradients",
}

Values = Mapping[tuple[str, ...], float]
"""What was measured for each combination of parameters; what was skipped is absent."""


def main() -> None:
    """Print, write, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="results of asv (default: the newest)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="where to write (default: results)")
    args = parser.parse_args()
    results = Results(args.file or newest())
    sections = {
        "machine": f"{describe_machine(thread_count())}. {describe_versions()}.",
        "covariance": covariance(results),
        "coupled": coupled(results),
        "model": model(results),
        "training": training(results),
        "scaling": scaling(results),
        "package": package(results),
    }
    args.out.mkdir(exist_ok=True)
    for name, text in sections.items():
        print(f"{text}\n")
        (args.out / f"{name}.md").write_text(f"{text}\n", encoding="utf-8")
    draw(results, args.out / "covariance.svg")


def newest() -> Path:
    """Return the newest file of results."""
    found = [path for path in HERE.parent.glob(".asv/results/*/*.json") if path.name != "machine.json"]
    if not found:
        raise SystemExit("there are no results yet; run: make bench-docs")
    return max(found, key=lambda path: path.stat().st_mtime)


class Results:
    """The results of one run of asv.

    Parameters
    ----------
    path : Path
        File that asv wrote.
    """

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        self._rows = {
            name: dict(zip(content["result_columns"], row, strict=False)) for name, row in content["results"].items()
        }

    def __getitem__(self, name: str) -> Values:
        """Return what a benchmark gave; nothing if it was not run."""
        row = self._rows.get(name, {"result": [], "params": []})
        keys = product(*([value.strip("'") for value in values] for values in row["params"]))
        values = row["result"] or []
        return {key: value for key, value in zip(keys, values, strict=False) if value is not None and isfinite(value)}


def covariance(results: Results) -> str:
    """Return what an update and a fold-in cost."""
    update, fold = results["covariance.Update.time_update"], results["covariance.Fold.time_fold"]
    cycle, ratio = results["covariance.Cycle.track_update"], results["covariance.Cycle.track_update_over_read"]
    memory = results["covariance.Cycle.peakmem_cycle"]
    header = ["N_b", "backend", "precision", *(f"m = {m} [ms]" for m in MEASUREMENTS), "fold-in [ms]"]
    rows = []
    for backend, size, dtype in sorted(cycle, key=lambda key: (int(key[1]), key[2] == "float32")):
        key = (backend, size, dtype)
        times = [update.get((backend, size, m, dtype)) for m in MEASUREMENTS]
        rows.append(
            [size, backend, dtype]
            + [_number(t, 1e3) for t in (*times, fold.get(key), cycle[key])]
            + [_number(ratio.get(key)), _number(memory.get(key), 2**-20)]
        )
    return _table([*header, "m = 1 with fold-ins [ms]", "over reading P", "peak memory [MiB]"], rows)


def coupled(results: Results) -> str:
    """Return what rows that join the blocks cost; with none of them, the same without."""
    update, mean = results["coupled.Update.time_update"], results["coupled.Update.track_update"]
    age, memory = results["coupled.Age.time_age"], results["coupled.Memory.track_memory"]
    rows = [
        [
            backend,
            count,
            *(_number(values.get((backend, count, m)), 1e3) for values in (update, mean) for m in COUPLED),
            _number(age.get((backend, count)), 1e3),
            _number(memory.get((backend, count)), 2**-20),
        ]
        for backend in dict.fromkeys(name for name, _ in age)
        for count in ROWS
    ]
    alone = [f"m = {m} [ms]" for m in COUPLED]
    whole = [f"m = {m} with ageing [ms]" for m in COUPLED]
    return _table(["backend", "rows", *alone, *whole, "ageing or fold-in [ms]", "memory [MiB]"], rows)


def model(results: Results) -> str:
    """Return what an evaluation of the model costs."""
    columns = [results[f"model.Model.{name}"] for name in EVALUATIONS]
    rows = [[*key, *(_number(values.get(key), 1e3) for values in columns)] for key in columns[0]]
    return _table(["library", "embedding", "precision", *(f"{text} [ms]" for text in EVALUATIONS.values())], rows)


def training(results: Results) -> str:
    """Return what a step and an epoch cost."""
    step = results["training.Step.track_step"]
    epoch, memory = results["training.Epoch.time_epoch"], results["training.Epoch.peakmem_epoch"]
    steps = [
        [backend, *(_number(step.get((backend, preset)), 1e3) for preset in PRESETS)]
        for backend in dict.fromkeys(name for name, _ in step)
    ]
    epochs = [[*key, _number(epoch[key]), _number(memory.get(key), 2**-20)] for key in epoch]
    return "\n\n".join(
        [
            _table(["backend", *(f"a step of {preset} [ms]" for preset in PRESETS)], steps),
            _table(["backend", "an epoch of 8 frames [s]", "peak memory [MiB]"], epochs),
        ]
    )


def scaling(results: Results) -> str:
    """Return how time and memory grow with the number of weights."""
    seconds, memory = results["scaling.Scaling.track_update"], results["scaling.ScalingMemory.track_memory"]
    slopes = [results[f"scaling.Slope.track_slope_of_{cost}"] for cost in ("time", "memory")]
    sizes = list(dict.fromkeys(n for *_, n in seconds))
    rows = []
    for key in dict.fromkeys(key[:2] for key in seconds):
        rows.append([*key, "time [ms]", *(_number(seconds.get((*key, n)), 1e3) for n in sizes)])
        rows[-1].append(_number(slopes[0].get(key)))
        if any(other[:2] == key for other in memory):
            rows.append([*key, "memory [MiB]", *(_number(memory.get((*key, n)), 2**-20) for n in sizes)])
            rows[-1].append(_number(slopes[1].get(key)))
    return _table(["backend", "rows", "", *(f"{int(n):,} weights" for n in sizes), "slope"], rows)


def package(results: Results) -> str:
    """Return what an import costs."""
    names = {"timeraw_import": "import ekfcore", "timeraw_import_command_line": "import ekfcore.cli"}
    rows = [[f"`{text}`", _number(results[f"package.{name}"].get(()), 1e3)] for name, text in names.items()]
    return _table(["", "[ms]"], rows)


def draw(results: Results, picture: Path) -> None:
    """Draw an update's cost against the number of measurements, and against the number of weights."""
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    update = results["covariance.Update.time_update"]
    _lines(left, {(key[0], key[2]): 1e3 * t for key, t in update.items() if key[1] == "5120" and key[3] == "float64"})
    left.set_title("26,551 weights, blocks of 5120", loc="left", fontsize=10)
    left.set_xlabel("measurements in an update")
    left.set_ylim(bottom=0)
    scaled = results["scaling.Scaling.track_update"].items()
    _lines(right, {(key[0], key[2]): 1e3 * t for key, t in scaled if key[1] == "0"})
    right.set_title("one measurement, blocks of 1024, no rows between them", loc="left", fontsize=10)
    right.set_xlabel("weights")
    right.set_xscale("log")
    right.set_yscale("log")
    left.set_ylabel("an update [ms]")
    right.legend(frameon=False, fontsize=9)
    figure.savefig(picture, metadata={"Date": None})


def _lines(axes: Axes, points: Values) -> None:
    """Draw a line for each backend."""
    for colour, backend in zip(COLOURS, dict.fromkeys(name for name, _ in points), strict=False):
        line = sorted((float(x), y) for (name, x), y in points.items() if name == backend)
        axes.plot(*zip(*line, strict=True), "o-", color=colour, label=backend, markersize=4)
    axes.grid(True, alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _number(value: float | None, factor: float = 1.0) -> str:
    return "" if value is None else f"{value * factor:.3g}" if value * factor < 1000 else f"{value * factor:.0f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
