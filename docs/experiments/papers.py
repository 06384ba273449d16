"""What the scripts of the papers' tables and figures share: methods, options, curves, and words for numbers."""

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from curves import TINY, Row, Run, curve, maker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

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
QUICK = {"systems": ["built-in"], "epochs": 2, "seeds": 2, "frames": 4, "set": TINY}
COLOURS = {"recommended": "#0072b2", "rlekf": "#d55e00", "adam": "#7f7f7f"}  # of Okabe and Ito
NAMES = {"recommended": "`recommended`", "rlekf": "`rlekf`", "adam": "Adam"}
QUANTITIES = {"energy": ("energy", "meV/atom"), "force": ("forces", "meV/Å")}  # as errors and in words, with the unit


@dataclass
class Found:
    """Curves of each set and method, one a seed; seeds that are missing, and what was said of those that failed."""

    curves: dict[tuple[str, str], list[list[Row]]] = field(default_factory=dict)
    missing: dict[tuple[str, str], list[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    makers: set[str] = field(default_factory=set)

    def of(self, name: str, method: str) -> list[list[Row]]:
        """Return the curves that are there, one a seed."""
        return self.curves.get((name, method), [])

    def final(self, name: str, method: str, column: str) -> list[float]:
        """Return the last errors, one a seed; infinite if the filter broke down."""
        return [finite(getattr(rows[-1], column)) for rows in self.of(name, method)]

    def count(self) -> str:
        """Return how many runs are missing, as a sentence."""
        there, missing = (sum(map(len, some.values())) for some in (self.curves, self.missing))
        return f"{missing} of {there + missing} runs are missing." if missing else f"All {there} runs are there."

    def footer(self) -> str:
        """Return what made the curves, and what is missing of them."""
        text = f"Curves by {', '.join(sorted(self.makers))}.\n" if self.makers else ""
        there = dict.fromkeys(name for name, _ in self.curves)
        absent = [name for name in dict.fromkeys(name for name, _ in self.missing) if name not in there]
        partly = {
            name: [f"{m} ({', '.join(map(str, k))})" for (n, m), k in self.missing.items() if n == name]
            for name in there
        }
        partly = {name: said for name, said in partly.items() if said}
        if absent:
            text += f"\nNot run yet: {', '.join(absent)}.\n"
        if partly:
            text += "\nMissing, with their seeds:\n\n" + items(
                f"{name}: {', '.join(said)}" for name, said in partly.items()
            )
        return text + (f"\nWhat could not be trained:\n\n{items(self.failures)}" if self.failures else "")


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
    known: Iterable[str] = tuple(METHODS),
    settings: str = "",
) -> argparse.ArgumentParser:
    """Return a parser of the options that all scripts have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path(), help="folder of the sets; built-in needs none")
    parser.add_argument("--systems", nargs="+", default=list(sets), metavar="SET", help="which (default: %(default)s)")
    parser.add_argument(
        "--methods", nargs="+", default=list(methods), choices=list(known), help="which (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=epochs, help="of the filters (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=seeds, help="how many, from 0 (default: %(default)s)")
    parser.add_argument("--frames", type=int, help="learn so many of a set at most, evenly spaced (default: all)")
    parser.add_argument(
        "--set", default=settings, metavar="'KEY=VALUE ...'", help="of every run (default: %(default)r)"
    )
    parser.add_argument("--quick", action="store_true", help="see that it runs: built-in data, a tiny network")
    parser.add_argument("--no-training", action="store_true", help="show what is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for curves, page and picture (default: docs)")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the options; --quick stands for a few of them."""
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


def collect(args: argparse.Namespace, methods: dict[str, Method] = METHODS) -> Found:
    """Return the curves of all systems, methods and seeds; train what is not there, the first seed of everything first.

    What cannot be trained is noted, so that hours of other runs are not lost with it. What another process was training
    is read in the end, if it is done by then. Systems without any curve leave `args.systems`: the footer names them.
    """
    wanted = [(name, method, seed) for seed in range(args.seeds) for name in args.systems for method in args.methods]
    runs = {(name, method, seed): _run(args, name, methods[method], seed) for name, method, seed in wanted}
    said: dict[tuple[str, str, int], str] = {}
    if not args.no_training:
        for key, run in runs.items():
            _curve(args, run, key, said)
    found = Found()
    for key, run in runs.items():
        path = _path(args, run)
        rows = _curve(args, run, key, said) if path.exists() else None
        if rows is None:
            found.missing.setdefault(key[:2], []).append(key[2])
            found.failures += [f"{', '.join(map(str, key))}: {said[key]}"] if key in said else []
        else:
            found.curves.setdefault(key[:2], []).append(rows)
            found.makers.add(maker(path))
    args.systems = [name for name in args.systems if any(there == name for there, _ in found.curves)]
    return found


def _curve(
    args: argparse.Namespace, run: Run, key: tuple[str, str, int], said: dict[tuple[str, str, int], str]
) -> list[Row] | None:
    """Return a curve, trained if it is not there; note why there is none."""
    trains = not _path(args, run).exists()
    try:
        rows = curve(run, args.data, _path(args, run))
    except InputError as error:
        said[key] = str(error)
        print(error, file=sys.stderr, flush=True)
        return None
    if trains:
        print(f"{run.path}: {rows[-1].seconds:.0f} s, {_errors(rows[-1])}", flush=True)
    return rows


def _path(args: argparse.Namespace, run: Run) -> Path:
    return Path(args.out) / "experiments" / "curves" / run.path


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


def plain(axis: Axis, subs: Sequence[float] = (1, 2, 5)) -> None:
    """Write these multiples of the powers of ten on a logarithmic axis as plain numbers."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def write_page(args: argparse.Namespace, name: str, held: Sequence[str], rest: str) -> None:
    """Write what held and what did not, and below it all the rest; the site shows the first part on top."""
    path = args.out / "experiments" / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{items(held)}\n{MORE}\n\n{rest}", encoding="utf-8")
    print(f"\n{items(held)}\n{rest}\nwrote {path}")


def clean(axes: Axes) -> None:
    """Leave a light grid and two sides of the frame."""
    axes.grid(True, which="major", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def save(args: argparse.Namespace, figure: Figure, name: str, alt: str) -> str:
    """Save a picture, and return what shows it on a page of docs."""
    path = args.out / "_static" / f"papers-{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    return f"```{{image}} _static/{path.name}\n:alt: {alt}\n:width: 100%\n```\n\n"
