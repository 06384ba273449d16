#!/usr/bin/env python3
"""How well an uncertainty foretells the errors of forces on DFT data: KPU in three ways, a committee, and distance.

    python docs/experiments/uncertainty.py DATA --work WORK [--seeds 4] [--sets Cu_pwmat Ni Mo H2O LiAl]
    python docs/experiments/uncertainty.py --no-training              # the page, from what is there

DATA is the folder of the sets, with train.xyz.xz and test.xyz.xz in each. Models go to WORK and are not trained again;
what was found of one set stands in experiments/uncertainty/SET.csv, from which experiments/uncertainty.md and a picture
are made. Atoms on which symmetry allows no force are left out: two fifths of those of nickel. One thread; a core
needs hours.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from ase.io import read, write
from curves import BUILT_IN, TINY, one_thread
from foretelling import (
    AFRESH,
    COMMITTEE,
    DISTANCE,
    KPU,
    LAST_LAYER,
    LEVELS,
    OWN,
    Finding,
    Forces,
    bars,
    distances,
    finding,
    keep,
    kpu,
    numbers,
    picked,
    read_findings,
)
from matplotlib.figure import Figure
from numpy.typing import NDArray
from papers import DOCS, clean, plain, save, table, write_page

from ekfcore.atoms import Frame, read_frames
from ekfcore.files import is_vacant
from ekfcore.potentials.committee import force_deviation
from ekfcore.potentials.model_file import LoadedModel
from ekfcore.settings.toml import set_key
from ekfcore.training import Settings, evaluate, load_model, prepare

ALT = "Errors of forces against error bars: those of KPU follow the diagonal, those of a committee lie far above it."
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#56b4e9", "#cc79a7")  # of Okabe and Ito
_AT_REST = 1e-4  # [eV/Å]
_AS_GOOD = 0.01  # of a rank correlation


@dataclass(frozen=True)
class System:
    """What to train on and what to test on, of one set of data."""

    folder: str
    name: str
    train: Callable[[int, str], bool]  # (number, config_type) of a frame of train.xyz.xz
    epochs: int = 10
    fraction: float = 0.5  # of the atoms whose forces are judged
    rest: bool = True  # whether also the frames of train.xyz.xz that are not learned are judged


SYSTEMS = (
    System("Cu_pwmat", "copper, 300 to 500 K", lambda _, kind: kind == "300K"),
    System("Ni", "nickel", lambda number, _: number % 2 == 0),
    System("Mo", "molybdenum", lambda number, _: number % 2 == 0),
    System("H2O", "water", lambda number, _: number % 4 == 0, epochs=7, fraction=0.125, rest=False),
    System("LiAl", "lithium-aluminium", lambda number, _: number % 3 == 0, fraction=0.25, rest=False),
)
QUICK = System("built-in", "built-in silicon", lambda number, _: number % 16 == 0, epochs=2, fraction=0.1, rest=False)


def main() -> None:
    """Train and judge what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=Path())
    parser.add_argument("--work", type=Path, default=Path("uncertainty"), help="folder of the models")
    parser.add_argument("--seeds", type=int, default=4, help="models of each set, and of its committee")
    parser.add_argument("--sets", nargs="+", default=[system.folder for system in SYSTEMS])
    parser.add_argument("--quick", action="store_true", help="see that it runs: built-in data, a tiny network")
    parser.add_argument("--no-training", action="store_true", help="show what is there")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for findings, page and picture (default: docs)")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(work=args.out / "models", sets=[QUICK.folder], seeds=2)
    systems = (QUICK,) if args.quick else SYSTEMS
    for system in systems:
        path = findings_file(args.out, system)
        if system.folder in args.sets and not args.no_training and not path.exists():
            with one_thread():
                keep(path, list(judge(system, args)))
    there = {s: read_findings(path) for s in systems if (path := findings_file(args.out, s)).exists()}
    page(args, there, [system.name for system in systems if system not in there])


def findings_file(out: Path, system: System) -> Path:
    """Return where the findings of a set stand."""
    return out / "experiments" / "uncertainty" / f"{system.folder}.csv"


def judge(system: System, args: argparse.Namespace) -> Iterator[Finding]:
    """Train the models of a set, and judge each way of foretelling their errors."""
    split(system, args.data, args.work)
    spent = [train(system, args.work, seed) for seed in range(args.seeds)]
    known, test = (read_frames(args.work / f"{system.folder}_{part}.xyz") for part in ("train", "test"))
    models = [load_model(args.work / f"{system.folder}_{seed}") for seed in range(args.seeds)]
    forces, predicting = timed(lambda: [predicted(one, test) for one in models])
    deviations = [force_deviation(np.stack(several)) for several in zip(*forces, strict=True)]
    free: list[NDArray[np.bool_]] = []  # atoms on which symmetry allows a force, by the bars of the first method
    for seed, (one, mine) in enumerate(zip(models, forces, strict=True)):
        for method, settings in KPU.items():
            print(f"{system.folder}, seed {seed}: {method}", flush=True)
            found, seconds = timed(partial(kpu, one, known, test, system.fraction, settings))
            free = free if method != OWN else [bars(u) > _AT_REST for u in found]
            yield finding(method, seed, found, free, mine, test, len(known), seconds)
        chosen = [u.atoms for u in found]
        away, seconds = timed(partial(distances, one, known, test))
        yield finding(DISTANCE, seed, picked(away, chosen), free, mine, test, len(known), seconds)
        seconds = predicting + sum(spent) - spent[seed]
        yield finding(COMMITTEE, seed, picked(deviations, chosen), free, mine, test, len(known), seconds)


def split(system: System, data: Path, work: Path) -> None:
    """Write the frames to train on, and all others to test on."""
    folder, prefix = (BUILT_IN, "silicon_") if system is QUICK else (data / system.folder, "")
    frames = read(folder / f"{prefix}train.xyz.xz", ":")
    chosen = [system.train(k, str(frame.info.get("config_type"))) for k, frame in enumerate(frames)]
    rest = [frame for frame, taken in zip(frames, chosen, strict=True) if not taken]
    work.mkdir(parents=True, exist_ok=True)
    write(work / f"{system.folder}_train.xyz", [frame for frame, taken in zip(frames, chosen, strict=True) if taken])
    held_out = read(folder / f"{prefix}test.xyz.xz", ":")
    judged = (rest if system.rest else []) + [f for f in held_out if f.info.get("config_type") != "300K"]
    write(work / f"{system.folder}_test.xyz", judged)


def train(system: System, work: Path, seed: int) -> float:
    """Train one model unless it is there, and return the processor seconds that it took."""
    folder = work / f"{system.folder}_{seed}"
    note = folder.with_suffix(".seconds")
    if not note.exists():
        data = {name: [str(work / f"{system.folder}_{name}.xyz")] for name in ("train", "test")}
        table: dict[str, Any] = {"data": data, "training": {"epochs": system.epochs, "seed": seed}}
        for item in TINY.split() if system is QUICK else ():
            set_key(table, item)
        trainer = prepare(Settings.from_json(table), folder, resume=not is_vacant(folder))
        start = time.process_time()
        trainer.run()
        note.write_text(f"{time.process_time() - start:.1f}")
        last = trainer.records[-1]
        print(f"{folder.name}: {last.energy_rmse_test:.2f} meV/atom, {last.force_rmse_test:.1f} meV/Å", flush=True)
    return float(note.read_text())


def predicted(one: LoadedModel, frames: Sequence[Frame]) -> Forces:
    """Return the forces that a model predicts [eV/Å]."""
    return [p["forces"] for p in evaluate(one.model, one.weights, frames)]


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a call returns, and its processor seconds."""
    start = time.process_time()
    return call(), time.process_time() - start


def page(args: argparse.Namespace, findings: dict[System, list[Finding]], missing: Sequence[str]) -> None:
    """Write what held, what is missing, a table for each set, and the picture."""
    if not findings:
        write_page(args, "uncertainty", ["Nothing was run yet."], "")
        return
    shown = save(args, draw(findings), "uncertainty", ALT)
    header = ".uncertainty | rank, frames | rank, atoms | error / bar | 50 % | 68 % | 90 % | 95 % | area | CPU s"
    text = shown
    for system, found in findings.items():
        first = found[0]
        errors = mean(one.force_rmse for one in found if one.method == OWN)
        text += f"### {system.name[0].upper()}{system.name[1:]}\n\n"
        text += f"{first.n_train} frames to train on, {first.n_test} to test on, force RMSE {errors:.1f} meV/Å, "
        text += f"{len({one.seed for one in found})} models.\n\n{table(header, rows(found))}\n"
    absent = [f"Not run yet: {', '.join(missing)}."] if missing else []
    write_page(args, "uncertainty", [*verdicts(findings), *absent], text)


def rows(found: Sequence[Finding]) -> Iterator[list[str]]:
    """Yield a line of the table for each uncertainty: medians over the models, ranks with the range."""
    for method in (*KPU, COMMITTEE, DISTANCE):
        mine = [one for one in found if one.method == method]
        ranks = [ranged([getattr(one, name) for one in mine]) for name in ("rank_frames", "rank_atoms")]
        shares = [median(getattr(one, f"within_{level}") for one in mine) for level in LEVELS]
        cells = [f"{median(one.ratio for one in mine):.2f}", *(f"{share:.0f}" for share in shares)]
        cells += [f"{median(one.area for one in mine):.2f}"]
        cells = ["" if cell == "nan" else cell for cell in cells]
        yield [method, *ranks, *cells, f"{median(one.seconds for one in mine):.0f}"]


def ranged(values: Sequence[float]) -> str:
    """Return the median with the range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def verdicts(findings: dict[System, list[Finding]]) -> Iterator[str]:
    """Yield what held: ranks beside those of the rivals, and how long the bars are."""
    middle = {
        (system.folder, method): {
            name: median(getattr(one, name) for one in found if one.method == method)
            for name in ("rank_frames", "rank_atoms", "ratio", "within_90", "seconds")
        }
        for system, found in findings.items()
        for method in (*KPU, COMMITTEE, DISTANCE)
    }
    sets = [system.folder for system in findings]
    for rival in (COMMITTEE, DISTANCE, AFRESH, LAST_LAYER):
        won = {
            name: sum(middle[s, OWN][name] >= middle[s, rival][name] - _AS_GOOD for s in sets)
            for name in ("rank_frames", "rank_atoms")
        }
        tail = f" (to {_AS_GOOD} of the correlation)." if rival == COMMITTEE else "."
        yield (
            f"KPU ranks frames as well as {named(rival)}, or better, in {won['rank_frames']} of {len(sets)} sets, and "
            f"atoms in {won['rank_atoms']}{tail}"
        )
    for method in (OWN, COMMITTEE):
        ratios, shares = ([middle[s, method][name] for s in sets] for name in ("ratio", "within_90"))
        yield (
            f"Errors are {extremes(ratios, '.2f')} times the bars of {named(method)}, whose 90 % intervals hold "
            f"{extremes(shares, '.0f')} % of them; no factor was fitted to them."
        )


def named(method: str) -> str:
    """Return how a sentence calls an uncertainty."""
    return f"the {method}" if method == COMMITTEE else method


def extremes(values: Sequence[float], form: str) -> str:
    """Return the smallest and the largest, once if they are the same."""
    return " to ".join(dict.fromkeys(format(value, form) for value in (min(values), max(values))))


def draw(findings: dict[System, list[Finding]]) -> Figure:
    """Draw for each set the errors of atoms with about the same error bar against that bar."""
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    for part, method in zip(axes, (OWN, COMMITTEE), strict=True):
        for k, (system, found) in enumerate(findings.items()):
            mine = [one for one in found if one.method == method]
            points = (np.mean([numbers(getattr(one, name)) for one in mine], axis=0) for name in ("bars", "errors"))
            part.plot(*points, marker="o", ms=4, lw=1, color=COLOURS[k], label=system.name)
        part.set_xscale("log")
        part.set_yscale("log")
        part.set_title(method, loc="left", fontsize=11)
        part.set_xlabel("error bar of a force component [meV/Å]")
        clean(part)
    low = min(min(part.get_xlim()[0], part.get_ylim()[0]) for part in axes)
    high = max(max(part.get_xlim()[1], part.get_ylim()[1]) for part in axes)
    for part in axes:
        part.plot([low, high], [low, high], color="#999999", lw=1, ls="--", zorder=0)
        part.set_aspect("equal")
        plain(part.xaxis, subs=(1,))
        plain(part.yaxis, subs=(1,))
    axes[0].set_ylabel("error that was found, RMS [meV/Å]")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


if __name__ == "__main__":
    main()
