#!/usr/bin/env python3
"""Figure 5 of the RLEKF paper on public data: how much the final errors depend on the initial weights.

    python docs/experiments/figure5.py DATA
    python docs/experiments/figure5.py DATA --methods recommended rlekf adam --systems Cu_pwmat Mo

The paper draws its weights from several distributions. Here ten seeds draw them from the default's own, and the order
of frames with them; the first three are those of table1.py. Writes experiments/figure5.md and a picture.
"""

from collections.abc import Iterator, Sequence
from statistics import median

import numpy as np
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

ALT = "Final test errors of each optimizer, a dot for each initialisation."


def main() -> None:
    """Train, tabulate, draw."""
    args = parsed(options(__doc__, sets=["Cu_pwmat"], seeds=10, methods=("recommended", "adam")))
    found = collect(args)
    if not found.curves:
        write_page(args, "figure5", [found.count()], found.footer())
        return
    pairs = [(name, method) for name in args.systems for method in args.methods]
    header = ".system | .optimizer | energy [meV/atom] | largest over smallest | forces [meV/Å] | largest over smallest"
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    for axes, (quantity, (word, unit)) in zip(figure.subplots(1, 2), QUANTITIES.items(), strict=True):
        draw(axes, found, pairs, quantity)
        axes.set_title(f"{word}, test RMSE [{unit}]", loc="left", fontsize=10)
    shown = save(args, figure, "figure5", ALT)
    rest = f"{shown}Test errors after {args.epochs} epochs: the median of the initialisations, with the range.\n\n"
    rest += f"{table(header, _rows(found, pairs))}\n{found.footer()}"
    write_page(args, "figure5", [*verdicts(found, pairs), found.count()], rest)


def verdicts(found: Found, pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield by how much the initialisations differ."""
    for name, method in pairs:
        energies, forces = (found.final(name, method, f"{quantity}_rmse_test") for quantity in QUANTITIES)
        if len(forces) > 1:
            yield (
                f"{name}, {NAMES[method]}: the worst of {len(forces)} initialisations ends at "
                f"{number(max(forces) / median(forces))} times the median error of forces, and "
                f"{number(max(energies) / median(energies))} times that of energy."
            )


def _rows(found: Found, pairs: Sequence[tuple[str, str]]) -> Iterator[list[str]]:
    for name, method in pairs:
        cells = []
        for quantity in QUANTITIES:
            values = found.final(name, method, f"{quantity}_rmse_test")
            cells += [spread(values), number(max(values) / min(values)) if values else "…"]
        yield [name, NAMES[method], *cells]


def draw(axes: Axes, found: Found, pairs: Sequence[tuple[str, str]], quantity: str) -> None:
    """Draw a column for each system and method: a dot for each seed, a line at the median."""
    for k, (name, method) in enumerate(pairs):
        values = [v for v in found.final(name, method, f"{quantity}_rmse_test") if np.isfinite(v)]
        if values:
            aside = np.random.default_rng(k).uniform(-0.15, 0.15, len(values))
            axes.scatter(k + aside, values, s=22, color=COLOURS[method], alpha=0.8)
            axes.hlines(median(values), k - 0.3, k + 0.3, color=COLOURS[method], linewidth=2)
    axes.set_xticks(range(len(pairs)), [f"{name}\n{NAMES[method].strip('`')}" for name, method in pairs])
    axes.set_xlim(-0.6, len(pairs) - 0.4)
    axes.set_yscale("log")
    plain(axes.yaxis)
    clean(axes)


if __name__ == "__main__":
    main()
