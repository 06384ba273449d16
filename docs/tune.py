#!/usr/bin/env python3
"""Train on the demonstration's data with one setting changed at a time; write a table and a picture.

    python docs/tune.py [KEY ...]

Everything else is the preset "recommended" in the demonstration's CONFIG, without virials. With KEYs, only their rows
of the table are made anew. One thread; ten minutes for all.
"""

import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ekfcore.errors import FilterError  # after the number of threads has been set
from ekfcore.training import EpochRecord, load_settings, prepare

HERE = Path(__file__).resolve().parent
PICTURE, TABLE = HERE / "_static" / "tune-the-filter.png", HERE / "how-to" / "_tune-the-filter.md"
DEFAULTS = {
    "fitting_gain": 10.0,
    "p0": 1.0,
    "noise_factor": 0.1,
    "noise_power": 3.0,
    "energy_noise": 0.03,
    "rows": 128,
    "block_size": 256,
    "groups": 4,
}
OTHERS = {
    "fitting_gain": (1.0, 30.0),
    "p0": (0.1, 10.0, 100.0),
    "noise_factor": (0.01, 1.0),
    "noise_power": (2.0, 4.0),
    "energy_noise": (0.01, 0.1),
    "rows": (32, 512),
    "block_size": (64, 1024),
    "groups": (2, 8),
}
TABLES = {"fitting_gain": "model"}  # of CONFIG; the others belong to [optimizer]
EPOCHS, SEEDS = 12, (0,)
HEADER = f"""\
| key | value | CPU s/epoch | energy, epoch 2 | epoch {EPOCHS} | forces, epoch 2 | epoch {EPOCHS} |
| --- | --: | --: | --: | --: | --: | --: |
"""
BLUE, GREY = "#0072b2", "#bbbbbb"

Rows = dict[tuple[str, float], str]


def main(keys: Sequence[str]) -> None:
    """Train, tabulate, draw."""
    rows = read_table()
    default = run({})
    for key in keys:
        for value in OTHERS[key]:
            rows[key, value] = run({key: value})
            print(key, value, rows[key, value], flush=True)
    rows |= {(key, DEFAULTS[key]): default for key in OTHERS}
    rows = {place: rows[place] for key in OTHERS for place in sorted(rows) if place[0] == key}
    lines = [f"| `{key}` | {bold(key, value)} | {row} |\n" for (key, value), row in rows.items()]
    TABLE.write_text(HEADER + "".join(lines), encoding="utf-8")
    draw(rows)
    print(f"wrote {TABLE} and {PICTURE}")


def read_table() -> Rows:
    """Return the rows that the table has."""
    text = TABLE.read_text("utf-8") if TABLE.is_file() else ""
    found = re.findall(r"\| `(\w+)` \| \**([\d.]+)\** \| (.*) \|", text)
    return {(key, float(value)): row for key, value, row in found}


def bold(key: str, value: float) -> str:
    """Return a value, bold if it is the default."""
    return f"**{value:g}**" if value == DEFAULTS[key] else f"{value:g}"


def run(changed: dict[str, float]) -> str:
    """Train once for each seed; return processor seconds of an epoch and the errors on the test frames."""
    runs = []
    began = time.process_time()
    for seed in SEEDS:
        try:
            runs.append(train(changed, seed))
        except FilterError:
            return "the filter broke down | | | |"
    cells = [f"{(time.process_time() - began) / EPOCHS / len(SEEDS):.1f}"]
    for name, digits in (("energy_rmse_test", 2), ("force_rmse_test", 1)):
        for epoch in (1, -1):
            errors = [getattr(records[epoch], name) for records in runs]
            cells.append(f"{sum(errors) / len(errors):.{digits}f}")
    return " | ".join(cells)


def train(changed: dict[str, float], seed: int) -> Sequence[EpochRecord]:
    """Return the errors after each epoch."""
    overrides = [f"{TABLES.get(key, 'optimizer')}.{key}={value}" for key, value in changed.items()]
    overrides += ["optimizer.virial_prefactor=0", f"training.epochs={EPOCHS}", f"training.seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = prepare(load_settings(Path(str(files("ekfcore.demo"))) / "demo.toml", overrides), Path(folder))
        trainer.run()
        return trainer.records


def draw(rows: Rows) -> None:
    """Draw the errors after the last epoch against each setting, as they stand in the table."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    grid = figure.subplots(2, len(OTHERS), sharey="row")
    for column, key in enumerate(OTHERS):
        found = {value: row.split(" | ") for (name, value), row in rows.items() if name == key and "broke" not in row}
        for axes, cell, title in ((grid[0, column], 2, "energy [meV/atom]"), (grid[1, column], 4, "forces [meV/Å]")):
            places = range(len(found))
            axes.axvline(list(found).index(DEFAULTS[key]), color=GREY, linewidth=7, alpha=0.5, zorder=0)
            axes.semilogy(places, [float(cells[cell]) for cells in found.values()], "o-", color=BLUE, markersize=4)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda y, position: f"{y:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.set_xticks(list(places), [f"{v:g}" for v in found], fontsize=7)
            axes.grid(alpha=0.25, axis="y")
            axes.spines[["top", "right"]].set_visible(False)
            if column == 0:
                axes.set_ylabel(f"{title}", fontsize=9)
        grid[0, column].set_title(key, fontsize=9)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main(sys.argv[1:] or list(OTHERS))
