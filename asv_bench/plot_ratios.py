#!/usr/bin/env python3
"""Draw how many times faster than DeePMD-kit the parts of a training are, from the tables of compare_deepmd.py.

    python asv_bench/plot_ratios.py docs/_static/ratios.png

Reads results/deepmd-1.md and results/deepmd-2.md, of one thread and of two.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

HERE = Path(__file__).resolve().parent
RIVAL = "DeePMD-kit, "
THREADS = {1: ("one thread", "#56b4e9"), 2: ("two threads", "#0072b2")}  # label, colour (of Okabe and Ito)
PLAIN = FuncFormatter(lambda value, position: f"{value:g}")


class Ratio(NamedTuple):
    """How many times faster ours is: the median of the turns, the lowest and the highest."""

    ours: str
    rival: str
    median: float
    lowest: float
    highest: float


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="picture to write")
    picture = parser.parse_args().picture
    draw({n: list(read_ratios((HERE / "results" / f"deepmd-{n}.md").read_text("utf-8"))) for n in THREADS}, picture)
    print(f"wrote {picture}")


def read_ratios(text: str) -> Iterator[Ratio]:
    """Yield what the tables tell about DeePMD-kit, in the order of the rows."""
    longer = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "ekfcore":
            longer = "times as long" in cells
        elif len(cells) > 5 and cells[2].startswith(RIVAL):
            lowest, median, highest = sorted(float(x) for x in re.findall(r"[\d.]+", f"{cells[4]} {cells[5]}"))
            if longer:
                lowest, median, highest = 1 / highest, 1 / median, 1 / lowest
            yield Ratio(cells[0], cells[2].removeprefix(RIVAL), median, lowest, highest)


def draw(ratios: dict[int, list[Ratio]], picture: Path) -> None:
    """Draw a bar for each comparison and number of threads, the fastest at the top, with a whisker over all turns."""
    medians = {(r.ours, r.rival): r.median for some in ratios.values() for r in some}
    rows = sorted(medians, key=lambda pair: medians[pair])
    figure = Figure(figsize=(8.0, 1.2 + 0.55 * len(rows)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(ratios)
    for number, (threads, some) in enumerate(sorted(ratios.items())):
        label, colour = THREADS[threads]
        places = [rows.index((r.ours, r.rival)) + (number - (len(ratios) - 1) / 2) * height for r in some]
        middle = [r.median for r in some]
        whiskers = [[r.median - r.lowest for r in some], [r.highest - r.median for r in some]]
        # From one, as fast as each other: to the right where ours is faster, to the left where it is slower.
        axes.barh(places, [m - 1 for m in middle], height, left=1, color=colour, label=label)
        axes.errorbar(middle, places, xerr=whiskers, fmt="none", ecolor="#444444")
        for place, ratio in zip(places, some, strict=True):
            at = max(ratio.highest, 1)
            axes.annotate(_short(ratio.median), (at, place), (5, 0), textcoords="offset points", va="center")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{ours}\nagainst {rival}" for ours, rival in rows], fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(0.3, 1000)
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlabel("times faster than DeePMD-kit")
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=160)


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    main()
