#!/usr/bin/env python3
"""Accuracy against processor time for small data sets: those of Zuo et al., J. Phys. Chem. A 124, 731 (2020).

    python docs/experiments/accuracy_time.py DATA

Trains the default and Adam on copper, nickel, lithium, molybdenum and silicon, and draws the test errors against the
processor seconds of training from nothing, beside the potentials that the authors of that paper and of mlearn have
published. The dots are 1, 3, 10 and 30 epochs: a shorter training of the default is the beginning of a longer one. The
curve of another program belongs into curves/SET/others/NAME-sSEED.csv, with the columns epoch, frames, seconds,
energy_rmse_test and force_rmse_test. Writes experiments/accuracy-time.md and a picture.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from curves import Row, read_curve
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from papers import (
    COLOURS,
    NAMES,
    QUANTITIES,
    Found,
    clean,
    collect,
    number,
    options,
    parsed,
    plain,
    save,
    spread,
    table,
    write_page,
)

EPOCHS = (1, 3, 10, 30)
# Test errors (RMSE) of the authors' files on these test frames, energy [meV/atom] and force [meV/Å]. MTP: maml,
# mvl_models/pes/*/mtp.2020.01 @ f7c0b6f, with motep; NNP: mlearn, mvl_models/*/nnp @ 10c427a, with an evaluator of our
# own; SNAP, qSNAP: mlearn, mvl_models @ 10c427a, with LAMMPS.
PUBLISHED = {
    "Cu": {"MTP": (0.52, 13.5), "NNP": (1.68, 63.1), "SNAP": (0.75, 82.9), "qSNAP": (0.77, 54.9)},
    "Ni": {"MTP": (0.75, 26.9), "NNP": (2.25, 67.1), "SNAP": (1.17, 84.7), "qSNAP": (1.04, 74.8)},
    "Li": {"MTP": (0.66, 13.2), "NNP": (0.98, 23.4), "SNAP": (1.31, 37.9), "qSNAP": (0.85, 44.3)},
    "Mo": {"MTP": (3.98, 151.0), "NNP": (5.43, 204.0), "SNAP": (9.25, 376.0), "qSNAP": (4.04, 332.7)},
    "Si": {"MTP": (3.03, 88.0), "NNP": (6.93, 170.0), "SNAP": (8.06, 205.3), "qSNAP": (5.51, 176.9)},
}
LINES = {"MTP": "-", "NNP": "--", "SNAP": "-.", "qSNAP": ":"}
OTHERS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ALT = "Test errors of the sets of Zuo et al. against the processor seconds of training; published potentials as lines."
Curves = dict[str, list[list[Row]]]  # by the name of what was trained, one a seed


def main() -> None:
    """Train, tabulate, draw."""
    args = parsed(options(__doc__, sets=PUBLISHED, methods=("recommended", "adam"), epochs=EPOCHS[-1]))
    found = collect(args)
    if not found.curves:
        write_page(args, "accuracy-time", [found.count()], found.footer())
        return
    curves = {name: _curves(args, found, name) for name in args.systems}
    figure = Figure(figsize=(2.6 * len(args.systems) + 0.6, 5.4), layout="constrained")
    grid = figure.subplots(2, len(args.systems), squeeze=False, sharex=True)
    for column, name in enumerate(args.systems):
        for place, (row, (quantity, (word, unit))) in enumerate(zip(grid, QUANTITIES.items(), strict=True)):
            draw(row[column], curves[name], quantity, {m: e[place] for m, e in PUBLISHED.get(name, {}).items()})
            if column == 0:
                row[0].set_ylabel(f"{word}, test RMSE [{unit}]")
        grid[0][column].set_title(name, loc="left", fontsize=10)
        grid[1][column].set_xlabel("processor seconds")
    drawn = {label: line for axes in grid[0] for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(drawn.values(), drawn, loc="outside lower center", ncols=len(drawn) or 1, frameon=False, fontsize=9)
    shown = save(args, figure, "accuracy-time", ALT)
    header = ".set | .potential | epochs | energy [meV/atom] | forces [meV/Å] | processor s"
    rest = f"{shown}Medians of the seeds that are there, with the range.\n\n{table(header, _rows(args, curves))}"
    write_page(args, "accuracy-time", [*verdicts(found, args.systems), found.count()], f"{rest}\n{found.footer()}")


def _curves(args: argparse.Namespace, found: Found, name: str) -> Curves:
    """Return our own curves, and those of others that somebody has put beside them."""
    curves: Curves = defaultdict(list)
    for method in args.methods:
        curves[method] += found.of(name, method)
    for path in sorted((args.out / "experiments" / "curves" / name / "others").glob("*-s*.csv")):
        curves[path.stem.rpartition("-s")[0]].append(read_curve(path))
    return curves


def verdicts(found: Found, names: Sequence[str]) -> Iterator[str]:
    """Yield on which sets the default ends below each of the published potentials."""
    judged = [name for name in names if name in PUBLISHED and found.of(name, "recommended")]
    if not judged:
        yield "No set has been trained yet."
        return
    for place, (quantity, (word, _)) in enumerate(QUANTITIES.items()):
        ours = {name: median(found.final(name, "recommended", f"{quantity}_rmse_test")) for name in judged}
        said = []
        for potential in LINES:
            below = [name for name in judged if ours[name] < PUBLISHED[name][potential][place]]
            said.append(f"{potential} on {len(below)} of {len(judged)}" + (f" ({', '.join(below)})" if below else ""))
        yield f"{word}: the default ends with a lower test error than {'; '.join(said)}."


def _rows(args: argparse.Namespace, curves: dict[str, Curves]) -> Iterator[list[str]]:
    for name in args.systems:
        for method, seeds in curves[name].items():
            for epoch in EPOCHS if method == "recommended" else [None]:
                rows = [row for one in seeds if (row := _at(one, epoch)) is not None]
                if epoch is not None and epoch > args.epochs:
                    continue
                cells = [spread([getattr(row, f"{quantity}_rmse_test") for row in rows]) for quantity in QUANTITIES]
                seconds = number(median(row.seconds for row in rows)) if rows else "…"
                yield [name, NAMES.get(method, method), f"{rows[0].epoch:g}" if rows else "…", *cells, seconds]
        for potential, (energy, force) in PUBLISHED.get(name, {}).items():
            yield [name, f"{potential}, published", "", number(energy), number(force), ""]


def _at(rows: Sequence[Row], epoch: int | None) -> Row | None:
    """Return the row of this epoch; the last one for None."""
    return rows[-1] if epoch is None else next((row for row in rows if row.epoch == epoch), None)


def draw(axes: Axes, curves: Curves, quantity: str, published: dict[str, float]) -> None:
    """Draw a curve for each seed, a dot at the epochs of the default, and a line for each published potential."""
    colours = iter(OTHERS)
    for method, seeds in curves.items():
        colour = COLOURS.get(method) or next(colours, "black")
        for number_, rows in enumerate(seeds):
            drawn = [row for row in rows if row.seconds > 0 and not math.isnan(getattr(row, f"{quantity}_rmse_test"))]
            seconds, errors = [row.seconds for row in drawn], [getattr(row, f"{quantity}_rmse_test") for row in drawn]
            label = NAMES.get(method, method).strip("`") if number_ == 0 else None
            axes.plot(seconds, errors, color=colour, linewidth=1.2, alpha=1.0 if number_ == 0 else 0.4, label=label)
            if method == "recommended":
                dots = [k for k, row in enumerate(drawn) if row.epoch in EPOCHS]
                axes.plot([seconds[k] for k in dots], [errors[k] for k in dots], "o", color=colour, markersize=4)
    for potential, error in published.items():
        axes.axhline(error, color="black", linewidth=0.9, linestyle=LINES[potential], label=potential)
    axes.set_xscale("log")
    axes.set_yscale("log")
    plain(axes.xaxis, (1,))
    plain(axes.yaxis)
    clean(axes)


if __name__ == "__main__":
    main()
