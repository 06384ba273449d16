#!/usr/bin/env python3
"""Figure 4 of the RLEKF paper on public data: epochs and seconds to 1.2 times the best error.

    python docs/experiments/figure4.py DATA

Reads the curves of table1.py, and trains what is not there. The limit of a system is 1.2 times the lower of two final
test errors, of the default and of Adam; it is reached at the first evaluation for which the mean of it and the next two
is below. Writes experiments/figure4.md and a picture.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from statistics import median

from curves import Row, reached
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
    table,
    write_page,
)
from table1 import SYSTEMS

MARGIN = 1.2
ALT = f"Processor seconds of each optimizer to {MARGIN} times the best error, system by system."
Times = dict[tuple[str, str], tuple[float, float]]  # system, method: epochs and seconds, infinite if never


def main() -> None:
    """Look up, tabulate, draw."""
    args = parsed(options(__doc__, sets=(system.set for system in SYSTEMS)))
    found = collect(args)
    if not found.curves:
        write_page(args, "figure4", [found.count()], found.footer())
        return
    held: list[str] = []
    tables = ""
    drawn = [name for name in args.systems if limit_of(found, name, "force") is not None]
    figure = Figure(figsize=(9.0, 1.6 + 0.26 * len(drawn)), layout="constrained")
    for axes, (quantity, (word, unit)) in zip(figure.subplots(1, 2, sharey=True), QUANTITIES.items(), strict=True):
        limits = {name: limit for name in args.systems if (limit := limit_of(found, name, quantity)) is not None}
        times = {
            (name, method): time_of([reached(rows, **{quantity: limit}) for rows in found.of(name, method)])
            for name, limit in limits.items()
            for method in args.methods
            if found.of(name, method)
        }
        held += verdicts(times, word)
        header = f".{word} | limit [{unit}] | {' | '.join(map(NAMES.__getitem__, args.methods))} | s, Adam over default"
        tables += "\n" + table(header, _rows(args, limits, times))
        draw(axes, drawn, times)
        axes.set_title(f"{word} within {MARGIN} times the best", loc="left", fontsize=10)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) or 1, frameon=False, fontsize=9)
    shown = save(args, figure, "figure4", ALT) if drawn else ""
    rest = f"{shown}Epochs and processor seconds to {MARGIN} times the lower final test error; medians of the seeds.\n"
    write_page(args, "figure4", [*held, found.count()], f"{rest}{tables}\n{found.footer()}")


def limit_of(found: Found, name: str, quantity: str) -> float | None:
    """Return the error to reach; None without both of the optimizers that it comes from."""
    errors = [found.final(name, method, f"{quantity}_rmse_test") for method in ("recommended", "adam")]
    return MARGIN * min(map(median, errors)) if all(errors) else None


def time_of(rows: Sequence[Row | None]) -> tuple[float, float]:
    """Return the medians of epochs and seconds; a seed that never got there took for ever."""
    epochs, seconds = (
        [math.inf if row is None else getattr(row, column) for row in rows] for column in ("epoch", "seconds")
    )
    return median(epochs), median(seconds)


def verdicts(times: Times, word: str) -> Iterator[str]:
    """Yield how the filters compare with Adam."""
    for method in ("recommended", "rlekf"):
        names = [name for name, m in times if m == method and (name, "adam") in times]
        if not names:
            yield f"{word}, {NAMES[method]}: no system has been compared with Adam yet."
            continue
        ours, adam = ([times[name, m] for name in names] for m in (method, "adam"))
        fewer, sooner = (sum(a[k] < b[k] for a, b in zip(ours, adam, strict=True)) for k in (0, 1))
        ratios = [b[1] / a[1] for a, b in zip(ours, adam, strict=True) if math.isfinite(a[1]) and math.isfinite(b[1])]
        said = f"there in fewer epochs than Adam in {fewer} of {len(names)} systems, in fewer seconds in {sooner}"
        if ratios:
            said += (
                f"; where both get there ({len(ratios)}), Adam takes {number(median(ratios))} times as long (median)"
            )
        yield f"{word}, {NAMES[method]}: {said}."


def _rows(args: argparse.Namespace, limits: dict[str, float], times: Times) -> Iterator[list[str]]:
    for name in args.systems:
        cells = [_cell(times.get((name, method))) for method in args.methods]
        ours, adam = (times.get((name, method), (math.nan, math.nan))[1] for method in ("recommended", "adam"))
        ratio = number(adam / ours) if math.isfinite(adam / ours) else ""
        yield [name, number(limits[name]) if name in limits else "…", *cells, ratio]


def _cell(time: tuple[float, float] | None) -> str:
    if time is None:
        return "…"
    return f"{time[0]:.3g}, {number(time[1])} s" if math.isfinite(time[1]) else "never"


def draw(axes: Axes, systems: Sequence[str], times: Times) -> None:
    """Draw a line for each system, with a dot where a method gets there, and a cross at the edge where it does not."""
    seen = [seconds for _, seconds in times.values() if math.isfinite(seconds)]
    edge = 3 * max(seen, default=1.0)
    for number_, (method, colour) in enumerate(COLOURS.items()):
        shift = 0.2 * (number_ - 1)  # what coincides stays visible
        for k, name in enumerate(systems):
            _, seconds = times.get((name, method), (math.nan, math.nan))
            mark = "x" if math.isinf(seconds) else "o"
            axes.plot(min(seconds, edge), k + shift, mark, color=colour, markersize=5)
        axes.plot([], [], "o", color=colour, label=NAMES[method].strip("`"))
    axes.axvline(edge / 1.7, color="black", linewidth=0.6, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds of training (crosses: never)")
    axes.set_yticks(range(len(systems)), systems)
    axes.set_ylim(max(len(systems), 1) - 0.5, -0.5)
    plain(axes.xaxis)
    clean(axes)


if __name__ == "__main__":
    main()
