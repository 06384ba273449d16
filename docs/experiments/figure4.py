#!/usr/bin/env python3
"""Figure 4 of the RLEKF paper on public data: epochs and seconds to 1.2 times the best error.

    python docs/experiments/figure4.py DATA

Reads the curves of table1.py, and trains what is not there. The limit of a system is 1.2 times the lower of two final
test errors, of the default and of Adam; it is reached at the first evaluation for which the mean of it and the next two
is below. Writes experiments/figure4.md and a picture.
"""

import argparse
import math
from collections.abc import Iterator
from statistics import median

from curves import Row, reached
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from papers import Found, collect, number, options, parsed, picture, plain, table, write_page
from table1 import NAMES, SYSTEMS, WORDS

MARGIN = 1.2
COLOURS = {"recommended": "#0072b2", "rlekf": "#d55e00", "adam": "#7f7f7f"}  # of Okabe and Ito
Times = dict[tuple[str, str], tuple[float, float]]  # system, method: epochs and seconds, infinite if never


def main() -> None:
    """Look up, tabulate, draw."""
    args = parsed(options(__doc__, sets=(system.set for system in SYSTEMS)))
    found = collect(args)
    held, rest = (
        [],
        f"Epochs and processor seconds to {MARGIN} times the lower final test error; medians of the seeds.\n",
    )
    figure = Figure(figsize=(9.0, 1.4 + 0.26 * len(args.systems)), layout="constrained")
    for axes, (quantity, word) in zip(figure.subplots(1, 2, sharey=True), WORDS.items(), strict=True):
        limits = {name: limit for name in args.systems if (limit := _limit(found, name, quantity)) is not None}
        times = {
            (name, method): _time([reached(rows, **{quantity: limit}) for rows in found.of(name, method)])
            for name, limit in limits.items()
            for method in args.methods
            if found.of(name, method)
        }
        held += verdicts(times, word)
        unit = "meV/atom" if quantity == "energy" else "meV/Å"
        header = (
            f".{word} | limit [{unit}] | {' | '.join(NAMES.get(m, m) for m in args.methods)} | seconds of Adam over"
        )
        rest += "\n" + table(header, _rows(args, limits, times))
        draw(axes, args.systems, times)
        axes.set_title(f"{word}: test error below {MARGIN} times the best", loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1, frameon=False, fontsize=9)
    path = picture(args, "figure4")
    figure.savefig(path, dpi=160)
    shown = (
        f"```{{image}} _static/{path.name}\n:alt: Processor seconds of each optimizer to {MARGIN} times the best error.\n"
        ":width: 100%\n```\n\n"
    )
    write_page(args, "figure4", held, f"{shown if found.curves else ''}{rest}\n{found.footer()}")


def _limit(found: Found, name: str, quantity: str) -> float | None:
    """Return the error to reach."""
    column = f"{quantity}_rmse_test"
    errors = [found.final(name, method, column) for method in ("recommended", "adam")]
    return MARGIN * min(map(median, errors)) if all(errors) else None


def _time(rows: list[Row | None]) -> tuple[float, float]:
    """Return the medians of epochs and seconds; a seed that never got there took for ever."""
    epochs, seconds = (
        [math.inf if row is None else getattr(row, column) for row in rows] for column in ("epoch", "seconds")
    )
    return median(epochs), median(seconds)


def verdicts(times: Times, word: str) -> Iterator[str]:
    """Yield how the filters compare with Adam."""
    for method in ("recommended", "rlekf"):
        pairs = [
            (times[name, method], times[name, "adam"]) for name, m in times if m == method and (name, "adam") in times
        ]
        if not pairs:
            yield f"{word}, {NAMES[method]}: no system has been compared with Adam yet."
            continue
        sooner = sum(ours[1] < adam[1] for ours, adam in pairs)
        fewer = sum(ours[0] < adam[0] for ours, adam in pairs)
        ratios = [adam[1] / ours[1] for ours, adam in pairs if math.isfinite(adam[1]) and math.isfinite(ours[1])]
        times_ = f"; median ratio {number(median(ratios))} where both get there ({len(ratios)})" if ratios else ""
        yield (
            f"{word}, {NAMES[method]}: in fewer epochs than Adam in {fewer} of {len(pairs)} systems, in fewer seconds in "
            f"{sooner}{times_}."
        )


def _rows(args: argparse.Namespace, limits: dict[str, float], times: Times) -> Iterator[list[str]]:
    for name in args.systems:
        cells = [_cell(times.get((name, method))) for method in args.methods]
        ours, adam = (times.get((name, method), (math.nan, math.nan))[1] for method in ("recommended", "adam"))
        ratio = number(adam / ours) if math.isfinite(adam / ours) else "never" if math.isfinite(ours) else "…"
        yield [name, number(limits[name]) if name in limits else "…", *cells, ratio]


def _cell(time: tuple[float, float] | None) -> str:
    if time is None:
        return "…"
    return f"{time[0]:.3g}, {number(time[1])} s" if math.isfinite(time[1]) else "never"


def draw(axes: Axes, systems: list[str], times: Times) -> None:
    """Draw a line for each system, with a dot for each method that gets there, and a cross at the edge for the others."""
    seen = [seconds for _, seconds in times.values() if math.isfinite(seconds)]
    edge = 3 * max(seen, default=1.0)
    for method, colour in COLOURS.items():
        here = [(k, times[name, method][1]) for k, name in enumerate(systems) if (name, method) in times]
        if here:
            for mark, inside in (("o", True), ("x", False)):
                points = [(min(s, edge), k) for k, s in here if math.isfinite(s) == inside]
                label = NAMES[method].strip("`") if inside else None
                axes.scatter(
                    *zip(*points or [(math.nan, math.nan)], strict=True), c=colour, marker=mark, s=30, label=label
                )
    axes.axvline(edge / 1.7, color="black", linewidth=0.6, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds of training (right of the line: never)")
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(len(systems) - 0.5, -0.5)
    plain(axes.xaxis)
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    main()
