#!/usr/bin/env python3
"""Figure 2 of the RLEKF paper on public data: what the blocks of P cost, and what they leave out.

    python docs/experiments/figure2.py DATA
    python docs/experiments/figure2.py DATA --set "" --methods RLEKF today --epochs 10    # the paper's network

- GEKF: one block, no correlation is left out; the paper could not run it on its network;
- SEKF: blocks as equal as possible, wherever they cut a layer;
- LEKF: a block for each matrix and each bias;
- RLEKF: small layers gathered, large ones cut at N_b;
- today: the preset "recommended", blocks of 256 joined by the last 128 measurements;
- today, exact: the same in one block.

The first four have the paper's filter, R = L, and N_b of a fifth of the network, as in the paper. The network is small
enough for one block: 3 877 weights for one element. Writes experiments/figure2.md and a picture.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from papers import (
    QUANTITIES,
    Found,
    Method,
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

SMALL = "model.embedding=[8,16] model.axis=8 model.fitting=[24,24]"
BLOCKS = {
    "GEKF": Method("preset=rlekf strategy=global"),
    "SEKF": Method("preset=rlekf strategy=even block_size=768"),
    "LEKF": Method("preset=rlekf strategy=layer"),
    "RLEKF": Method("preset=rlekf block_size=768"),
    "today": Method(""),
    "today, exact": Method("strategy=global rows=0"),
}
ALT = "Test errors and seconds of an epoch with each way of cutting P into blocks."
EXACT, ROUGHLY = "GEKF", 1.1  # what the others are compared with, and the factor that "comparable" allows


def main() -> None:
    """Train, tabulate, draw."""
    args = parsed(
        options(__doc__, sets=["Cu_pwmat", "Si_pwmat"], epochs=10, methods=BLOCKS, known=BLOCKS, settings=SMALL)
    )
    found = collect(args, BLOCKS)
    if not found.curves:
        write_page(args, "figure2", [found.count()], found.footer())
        return
    figure = Figure(figsize=(10.0, 3.6), layout="constrained")
    columns = [(f"{q}_rmse_test", f"{word}, test RMSE [{unit}]") for q, (word, unit) in QUANTITIES.items()]
    for axes, (column, title) in zip(
        figure.subplots(1, 3), [*columns, ("seconds", "processor s per epoch")], strict=True
    ):
        draw(axes, found, args.systems, args.methods, column, args.epochs)
        axes.set_title(title, loc="left", fontsize=10)
    figure.legend(loc="outside lower center", ncols=len(args.systems), frameon=False, fontsize=9)
    shown = save(args, figure, "figure2", ALT)
    header = ".system | .blocks | energy [meV/atom] | forces [meV/Å] | s per epoch"
    rest = f"{shown}Test errors after {args.epochs} epochs; medians of the seeds that are there, with the range.\n\n"
    rest += f"{table(header, _rows(found, args.systems, args.methods, args.epochs))}\n{found.footer()}"
    write_page(args, "figure2", [*verdicts(found, args.systems), found.count()], rest)


def verdicts(found: Found, names: Sequence[str]) -> Iterator[str]:
    """Yield whether RLEKF is comparable to GEKF or better, as the paper says, and what the exact filter gains today."""
    for name in names:
        for ours, exact in (("RLEKF", EXACT), ("today", "today, exact"), ("today", EXACT)):
            said = []
            for quantity, (word, _) in QUANTITIES.items():
                mine, other = (found.final(name, method, f"{quantity}_rmse_test") for method in (ours, exact))
                if mine and other:
                    ratio = median(mine) / median(other)
                    judged = "comparable or better" if ratio <= ROUGHLY else "worse"
                    said.append(f"{word} {number(ratio)} times ({judged})")
            if said:
                yield f"{name}: the test error of {ours} over that of {exact} is, in {' and in '.join(said)}."


def _seconds(found: Found, name: str, method: str, epochs: int) -> list[float]:
    return [rows[-1].seconds / epochs for rows in found.of(name, method)]


def _rows(found: Found, names: Sequence[str], methods: Sequence[str], epochs: int) -> Iterator[list[str]]:
    for name in names:
        for method in methods:
            errors = [spread(found.final(name, method, f"{quantity}_rmse_test")) for quantity in QUANTITIES]
            yield [name, method, *errors, spread(_seconds(found, name, method, epochs))]


def draw(axes: Axes, found: Found, names: Sequence[str], methods: Sequence[str], column: str, epochs: int) -> None:
    """Draw a dot for each seed, in a column for each way, and a colour for each system."""
    for number_, (name, colour) in enumerate(zip(names, ("#0072b2", "#d55e00", "#009e73", "#cc79a7"), strict=False)):
        shift = 0.2 * (number_ - (len(names) - 1) / 2)
        for k, method in enumerate(methods):
            seconds = column == "seconds"
            values = _seconds(found, name, method, epochs) if seconds else found.final(name, method, column)
            axes.plot([k + shift] * len(values), values, "o", color=colour, markersize=5, alpha=0.8)
        axes.plot([], [], "o", color=colour, label=name if column == "seconds" else None)
    axes.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    axes.set_yscale("log")
    plain(axes.yaxis)
    clean(axes)


if __name__ == "__main__":
    main()
