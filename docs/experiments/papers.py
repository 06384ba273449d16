"""What the scripts of the papers' tables and figures share: methods, options, curves, and words for numbers."""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from curves import TINY, Row, Run, curve, maker
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

from ekfcore.errors import InputError

DOCS = Path(__file__).resolve().parents[1]
MORE = "<!-- more -->"  # the first lines of a page end here


@dataclass(frozen=True)
class Method:
    """An optimizer, and how many times the epochs of the others it takes."""

    settings: str
    times: int = 1


# A step of Adam takes about a tenth of the seconds of one of the default: both end at about the same time.
METHODS = {
    "recommended": Method(""),
    "rlekf": Method("preset=rlekf"),
    "adam": Method("preset=adam final_learning_rate=1e-8", times=10),
}


@dataclass
class Found:
    """Curves of each set and method, one a seed, and what is missing."""

    curves: dict[tuple[str, str], list[list[Row]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    makers: set[str] = field(default_factory=set)

    def of(self, name: str, method: str) -> list[list[Row]]:
        """Return the curves that are there, one a seed."""
        return self.curves.get((name, method), [])

    def final(self, name: str, method: str, column: str) -> list[float]:
        """Return the last errors, one a seed; infinite if the filter broke down."""
        return [finite(getattr(rows[-1], column)) for rows in self.of(name, method)]

    def footer(self) -> str:
        """Return what made the curves, and what is missing of them."""
        made = f"Curves by {', '.join(sorted(self.makers))}.\n" if self.makers else ""
        return made + ("\nMissing, shown as …:\n\n" + items(self.missing) if self.missing else "")


def finite(value: float) -> float:
    """Return infinity for NaN, which is no error to compare with."""
    return math.inf if math.isnan(value) else value


def options(
    doc: str,
    *,
    sets: Iterable[str],
    epochs: int = 30,
    seeds: int = 3,
    methods: Iterable[str] = tuple(METHODS),
) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with a folder for each set; not read for the set built-in")
    parser.add_argument("--systems", nargs="+", default=list(sets), metavar="SET", help="which (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(methods), help="which (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=epochs, help="of the filters (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many, from 0 (default: %(default)s)")
    parser.add_argument("--frames", type=int, help="learn so many of a set at most, evenly spaced (default: all)")
    parser.add_argument("--set", default="", metavar="'KEY=VALUE ...'", help="settings of every run")
    parser.add_argument("--quick", action="store_true", help="see that it runs: built-in data, a tiny network")
    parser.add_argument("--no-training", action="store_true", help="show what is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for curves, page and picture (default: docs)")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options; --quick stands for a few of them."""
    args = parser.parse_args()
    if args.quick:
        args.systems, args.epochs, args.seeds, args.frames, args.set = (
            ["built-in"],
            2,
            2,
            4,
            f"{args.set} {TINY}".strip(),
        )
    return args


def collect(args: argparse.Namespace, methods: dict[str, Method] = METHODS) -> Found:
    """Return the curves of all systems, methods and seeds; train what is not there, the first seed of everything first.

    What cannot be trained is named in `Found.missing`, so that hours of other runs are not lost with it.
    """
    found = Found()
    for seed in range(args.seeds):
        for name in args.systems:
            for method in args.methods:
                run = _run(args, name, methods[method], seed)
                path = args.out / "experiments" / "curves" / run.path
                if args.no_training and not path.exists():
                    found.missing.append(f"{name}, {method}, seed {seed}")
                    continue
                try:
                    rows = curve(run, args.data, path)
                except InputError as error:
                    found.missing.append(f"{name}, {method}, seed {seed}: {error}")
                    print(error, file=sys.stderr, flush=True)
                    continue
                print(f"{run.path}: {rows[-1].seconds:.0f} s, {_errors(rows[-1])}", flush=True)
                found.curves.setdefault((name, method), []).append(rows)
                found.makers.add(maker(path))
    return found


def _run(args: argparse.Namespace, name: str, method: Method, seed: int) -> Run:
    epochs = args.epochs * method.times
    return Run(
        set=name,
        settings=f"{method.settings} {args.set}".strip(),
        epochs=epochs,
        seed=seed,
        marks=marks(epochs),
        frames=args.frames,
    )


def _errors(row: Row) -> str:
    return f"{number(row.energy_rmse_test)} meV/atom, {number(row.force_rmse_test)} meV/Å"


def marks(epochs: int) -> tuple[str, ...]:
    """Return when to judge, in epochs: often in the first ones, then whenever a quarter more are done.

    Three stand close together at the end, so that what is reached only there is seen by the mean of three.
    """
    found, whole = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 1.5], 2
    while whole < epochs:
        found.append(whole)
        whole = max(whole + 1, round(1.25 * whole))
    return tuple(f"{mark:g}" for mark in [*(m for m in found if m < 0.88 * epochs), 0.9 * epochs, 0.95 * epochs])


def number(value: float) -> str:
    """Return three digits."""
    if math.isinf(finite(value)):
        return "broke down"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def spread(values: Sequence[float]) -> str:
    """Return the median with the range; … if there is no value."""
    if not values:
        return "…"
    text = number(median(values))
    return text if len(values) == 1 else f"{text} ({number(min(values))} to {number(max(values))})"


def table(header: str, rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns, but for those of the header that begin with a dot, stand right."""
    names = header.split(" | ")
    rule = ["---" if name.startswith(".") else "--:" for name in names]
    lines = [[name.lstrip(".") for name in names], rule, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def items(lines: Iterable[str]) -> str:
    """Return a Markdown list."""
    return "".join(f"- {line}\n" for line in lines)


def plain(axis: Axis) -> None:
    """Write the numbers of an axis without powers of ten."""
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_page(args: argparse.Namespace, name: str, held: Sequence[str], rest: str) -> None:
    """Write what held and what did not, and below it all the rest; the site shows the first part on top."""
    path = args.out / "experiments" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{items(held)}\n{MORE}\n\n{rest}", encoding="utf-8")
    print(f"\n{items(held)}\n{rest}\nwrote {path}")


def picture(args: argparse.Namespace, name: str) -> Path:
    """Return where the picture goes."""
    path: Path = args.out / "_static" / f"papers-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
