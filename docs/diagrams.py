#!/usr/bin/env python3
"""Draw the diagrams of the documentation: the blocks of P, what an update does, the loop of active learning.

python docs/diagrams.py
"""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

import ekfcore as ek

STATIC = Path(__file__).resolve().parent / "_static"
BLUE, ORANGE, GREY, PALE = "#0072b2", "#e69f00", "#7f7f7f", "#dcebf5"
PARTS = (25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1)
STRATEGIES = {
    "global": "global (GEKF)",
    "even": "even (SEKF), $N_b$ = 5120",
    "layer": "layer (LEKF)",
    "rlekf": "rlekf, $N_b$ = 5120",
    "recommended": "rlekf, $N_b$ = 256: the default",
}


def main() -> None:
    """Draw all of them."""
    for name, draw in {"blocks": blocks, "update": update, "loop": loop}.items():
        path = STATIC / f"{name}.png"
        draw().savefig(path, dpi=150)
        print(f"wrote {path}")


def blocks() -> Figure:
    """Draw the blocks of P for the network of the paper, and print how many numbers they hold."""
    figure = Figure(figsize=(10.0, 2.6), layout="constrained")
    for axes, (strategy, title) in zip(figure.subplots(1, len(STRATEGIES)), STRATEGIES.items(), strict=True):
        size = 256 if strategy == "recommended" else 5120
        rule = "rlekf" if strategy == "recommended" else strategy
        layout = ek.partition(PARTS, block_size=size, strategy=rule)
        start = 0
        for width in layout.sizes:
            axes.add_patch(Rectangle((start, start), width, width, facecolor=BLUE, edgecolor="white", linewidth=0.4))
            start += width
        gigabytes = 8 * sum(width**2 for width in layout.sizes) / 1e9
        told = f"{len(layout.sizes)} block{'s' * (len(layout.sizes) > 1)}, {gigabytes:.2g} GB"
        print(f"{title}: {told}; largest {max(layout.sizes)}")
        axes.set(xlim=(0, start), ylim=(start, 0), aspect="equal", xticks=[], yticks=[], facecolor="#f2f2f2")
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(told, fontsize=9)
    return figure


def update() -> Figure:
    """Draw what becomes of a frame in one update of the pinned sequence."""
    figure, axes = canvas(8.8, 2.9)
    box(axes, 0.9, 2.2, "frame", "positions, labels")
    box(axes, 3.2, 2.2, "geometry", "neighbours, once")
    box(axes, 5.5, 2.2, "model", "energy, forces")
    box(axes, 7.9, 2.2, "measurement", "energy, two\nforce groups")
    box(axes, 7.9, 0.7, "filter", "update of w and P", colour=ORANGE)
    box(axes, 3.2, 0.7, "uncertainty", "$H P H^T$, no label")
    for start, end, text in (
        ((1.75, 2.2), (2.35, 2.2), ""),
        ((4.05, 2.2), (4.65, 2.2), ""),
        ((6.35, 2.2), (7.05, 2.2), ""),
        ((7.9, 1.72), (7.9, 1.18), "H, e"),
        ((7.05, 0.7), (5.7, 1.72), "new w"),
        ((7.05, 0.55), (4.05, 0.55), "P"),
    ):
        arrow(axes, start, end, text)
    return figure


def loop() -> Figure:
    """Draw the rounds of active learning."""
    figure, axes = canvas(9.4, 2.9)
    box(axes, 0.95, 2.2, "start", "rattled copies\nor your labels")
    box(axes, 3.4, 2.2, "train", "filter, all labels", colour=ORANGE)
    box(axes, 5.9, 2.2, "explore", "dynamics with\nthe model")
    box(axes, 8.4, 2.2, "judge", "KPU of each frame")
    box(axes, 8.4, 0.7, "select", "greedy, between\ntwo thresholds")
    box(axes, 5.9, 0.7, "label", "your calculator")
    box(axes, 3.4, 0.7, "labels.db", "none is lost, none\ncomputed twice")
    for start, end, text in (
        ((1.8, 2.2), (2.55, 2.2), ""),
        ((4.25, 2.2), (5.05, 2.2), "w"),
        ((6.75, 2.2), (7.55, 2.2), "frames"),
        ((8.4, 1.72), (8.4, 1.18), ""),
        ((7.55, 0.7), (6.75, 0.7), ""),
        ((5.05, 0.7), (4.25, 0.7), ""),
        ((3.4, 1.18), (3.4, 1.72), "next round"),
    ):
        arrow(axes, start, end, text)
    return figure


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure whose axes count inches."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    return figure, axes


def box(axes: Axes, x: float, y: float, title: str, text: str, *, colour: str = BLUE) -> None:
    """Draw a box with a title, its centre at (x, y)."""
    shape = FancyBboxPatch((x - 0.8, y - 0.43), 1.6, 0.86, boxstyle="round,pad=0.05", facecolor=PALE, edgecolor=colour)
    axes.add_patch(shape)
    axes.text(x, y + 0.2, title, ha="center", va="center", fontsize=11, weight="bold")
    axes.text(x, y - 0.17, text, ha="center", va="center", fontsize=8.5)


def arrow(axes: Axes, start: Sequence[float], end: Sequence[float], text: str) -> None:
    """Draw an arrow with a word above it or beside it."""
    style = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.5}
    axes.annotate("", (end[0], end[1]), (start[0], start[1]), arrowprops=style)
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    if start[1] == end[1]:
        axes.text(x, y + 0.1, text, fontsize=9, ha="center", va="center")
    else:
        slanted = start[0] != end[0]
        axes.text(x + (-0.15 if slanted else 0.1), y, text, fontsize=9, ha="right" if slanted else "left", va="center")


if __name__ == "__main__":
    main()
