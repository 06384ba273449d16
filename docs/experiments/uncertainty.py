#!/usr/bin/env python3
"""How well an uncertainty foretells the errors of forces on DFT data: KPU in four ways, a committee, and distance.

    python docs/experiments/uncertainty.py DATA --work WORK [--seeds 4] [--sets Cu_pwmat Ni Mo H2O LiAl]
    python docs/experiments/uncertainty.py --no-training              # the page, from what is there

DATA is the folder of the sets, with train.xyz.xz and test.xyz.xz in each. Models go to WORK and are not trained again;
what was found of one set stands in experiments/uncertainty/SET.csv, from which experiments/uncertainty.md and a picture
are made. Atoms on which symmetry allows no force are left out: two fifths of those of nickel. One thread; a core needs
two hours.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from ase.io import read, write
from curves import BUILT_IN, TINY, one_thread
from matplotlib.figure import Figure
from numpy.typing import NDArray
from papers import DOCS, clean, plain, save, table, write_page
from scipy.spatial.distance import cdist
from scipy.stats import norm

from ekfcore.atoms import Frame, read_frames
from ekfcore.files import is_vacant
from ekfcore.models.deep_potential import DeepPotential
from ekfcore.models.deep_potential.descriptor import descriptor
from ekfcore.potentials.calibration import force_errors, rank_correlation
from ekfcore.potentials.committee import force_deviation
from ekfcore.potentials.kpu import FrameUncertainty, KalmanUncertainty
from ekfcore.potentials.model_file import LoadedModel
from ekfcore.settings.toml import set_key
from ekfcore.training import Settings, evaluate, load_model, prepare

ALT = "Errors of forces against error bars: those of KPU follow the diagonal, those of a committee lie far above it."
OWN, AFRESH, LAST_LAYER = "KPU", "KPU of P computed afresh", "KPU of the last layer"
KPU = {OWN: "", AFRESH: "afresh", LAST_LAYER: "last layer"}
COMMITTEE, DISTANCE = "committee", "distance in descriptor space"
LEVELS = (50, 68, 90, 95)  # per cent
N_BINS = 10  # of atoms, by their error bars
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


@dataclass(frozen=True)
class Finding:
    """How well one uncertainty foretells the errors of one model.

    Parameters
    ----------
    method : str
        Name of the uncertainty.
    seed : int
        Of the model whose errors are foretold.
    n_train, n_test : int
        Frames.
    force_rmse : float
        Of the atoms that are judged [meV/Å].
    rank_frames, rank_atoms : float
        Spearman's rank correlation of uncertainty and error.
    ratio : float
        Root mean square error over root mean square error bar; NaN for what is no error bar.
    within_50, within_68, within_90, within_95 : float
        How many errors lie within the bar that should hold so many [%].
    area : float
        Mean distance of the share that is found from the share that should be, over all shares.
    seconds : float
        Of the processor, beyond the training of one model.
    bars, errors : str
        Root mean square of bars and of errors [meV/Å] in `N_BINS` bins of atoms of rising bars, with spaces between.
    """

    method: str
    seed: int
    n_train: int
    n_test: int
    force_rmse: float
    rank_frames: float
    rank_atoms: float
    ratio: float
    within_50: float
    within_68: float
    within_90: float
    within_95: float
    area: float
    seconds: float
    bars: str
    errors: str


Forces = list[NDArray[np.float64]]
Found = list[FrameUncertainty]


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


def keep(path: Path, found: Sequence[Finding]) -> None:
    """Write findings, all or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Finding)], lineterminator="\n")
        writer.writeheader()
        for one in found:
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(one).items()})
    part.replace(path)


def read_findings(path: Path) -> list[Finding]:
    """Return the findings in a file."""
    kinds: dict[str, Any] = {field.name: field.type for field in fields(Finding)}
    with path.open(newline="", encoding="utf-8") as file:
        return [Finding(**{k: kinds[k](v) for k, v in line.items()}) for line in csv.DictReader(file)]


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


def kpu(
    one: LoadedModel, known: Sequence[Frame], test: Sequence[Frame], fraction: float, settings: str
) -> list[FrameUncertainty]:
    """Return KPU of the P of the training, of one computed afresh, or of the last layer's weights alone."""
    return KalmanUncertainty.load(
        one,
        fraction=fraction,
        refresh=known if settings == "afresh" else (),
        parameters=deep_potential(one).last_layer() if settings == "last layer" else None,
    ).many(test)


def distances(one: LoadedModel, known: Sequence[Frame], test: Sequence[Frame]) -> list[NDArray[np.float64]]:
    """Return how far the descriptor of each atom is from the nearest one of an atom of its element in training."""
    there = [descriptors(one, frame) for frame in known]
    near = {
        element: np.concatenate([D[of_element(frame, element)] for frame, D in zip(known, there, strict=True)])
        for element in {element for frame in known for element in frame.symbols}
    }
    found = []
    for frame in test:
        D, away = descriptors(one, frame), np.empty(frame.n_atoms)
        for element in set(frame.symbols):
            here = of_element(frame, element)
            away[here] = cdist(D[here], near[element]).min(axis=1)
        found.append(away)
    return found


def deep_potential(one: LoadedModel) -> DeepPotential:
    """Return the model, which has layers and a descriptor."""
    assert isinstance(one.model, DeepPotential)  # the default, which `train` trains
    return one.model


def of_element(frame: Frame, element: str) -> NDArray[np.bool_]:
    """Return which atoms are of an element."""
    return np.array([symbol == element for symbol in frame.symbols])


def descriptors(one: LoadedModel, frame: Frame) -> NDArray[np.float64]:
    """Return the descriptor of each atom, flat."""
    exact = deep_potential(one).exact
    sample, rows = exact.environment(frame, like=one.weights), {}
    for group in sample.groups:
        A = exact._evaluate(np, one.weights, group).A  # no public function of the model returns it
        for atom, D in zip(group.atoms, descriptor(A, exact.architecture.axis), strict=True):
            rows[int(atom)] = D.ravel()
    return np.stack([rows[atom] for atom in range(frame.n_atoms)])


def picked(deviations: Sequence[NDArray[np.float64]], chosen: Sequence[NDArray[np.int64]]) -> list[FrameUncertainty]:
    """Return the uncertainty of the chosen atoms of each frame from the deviations of all atoms."""
    return [
        FrameUncertainty(energy=0.0, forces=all_atoms[atoms] ** 2, atoms=atoms)
        for all_atoms, atoms in zip(deviations, chosen, strict=True)
    ]


def bars(found: FrameUncertainty) -> NDArray[np.float64]:
    """Return the error bar of a component of the force on each chosen atom."""
    return np.sqrt(found.forces / 3)


def finding(
    method: str,
    seed: int,
    found: Sequence[FrameUncertainty],
    free: Sequence[NDArray[np.bool_]],
    forces: Forces,
    test: Sequence[Frame],
    n_train: int,
    seconds: float,
) -> Finding:
    """Hold an uncertainty against the errors of a model, over the atoms that are free to feel a force."""
    mask = np.concatenate(free)
    bar = np.concatenate([bars(u) for u in found])[mask]
    pairs = zip(found, forces, test, strict=True)
    away = np.concatenate([force_errors(u, predicted, frame) for u, predicted, frame in pairs])[mask]
    true = [rms(predicted - np.asarray(frame.forces)) for predicted, frame in zip(forces, test, strict=True)]
    size = np.sort((np.abs(away) / bar[:, None]).ravel())
    within = {f"within_{level}": share_within(size, level / 100) for level in LEVELS}
    binned = np.array_split(np.argsort(bar), N_BINS)
    is_bar = method != DISTANCE
    return Finding(
        method=method,
        seed=seed,
        n_train=n_train,
        n_test=len(test),
        force_rmse=1e3 * rms(away),
        rank_frames=rank_correlation([u.force_mean for u in found], true),
        rank_atoms=rank_correlation(bar, np.linalg.norm(away, axis=1)),
        ratio=rms(away) / rms(bar) if is_bar else np.nan,
        **{name: 100 * share if is_bar else np.nan for name, share in within.items()},
        area=miscalibration(size) if is_bar else np.nan,
        seconds=seconds,
        bars=" ".join(f"{1e3 * rms(bar[k]):.4g}" for k in binned),
        errors=" ".join(f"{1e3 * rms(away[k]):.4g}" for k in binned),
    )


def rms(values: NDArray[np.float64]) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(values**2)))


def share_within(size: NDArray[np.float64], level: float) -> float:
    """Return the share of errors, sorted by size in error bars, within the bars that hold `level` of a Gaussian."""
    return float(np.searchsorted(size, norm.ppf((1 + level) / 2)) / len(size))


def miscalibration(size: NDArray[np.float64]) -> float:
    """Return the mean distance of the share within an interval from what it should be, over all intervals."""
    levels = (np.arange(1000) + 0.5) / 1000
    return float(np.mean([abs(share_within(size, level) - level) for level in levels]))


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


def numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers of a cell."""
    return np.array(text.split(), dtype=float)


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
