"""Ways to foretell the errors of forces, and how well they did: the parts of uncertainty.py that know no page."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import norm

from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential
from ekfcore.models.deep_potential.descriptor import descriptor
from ekfcore.potentials.calibration import force_errors, rank_correlation
from ekfcore.potentials.kpu import FrameUncertainty, KalmanUncertainty
from ekfcore.potentials.model_file import LoadedModel

OWN, AFRESH, LAST_LAYER = "KPU", "KPU of P computed afresh", "KPU of the last layer"
KPU = {OWN: "", AFRESH: "afresh", LAST_LAYER: "last layer"}
COMMITTEE, DISTANCE = "committee", "distance in descriptor space"
LEVELS = (50, 68, 90, 95)  # per cent
N_BINS = 10  # of atoms, by their error bars

Forces = list[NDArray[np.float64]]


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


def numbers(text: str) -> NDArray[np.float64]:
    """Return the numbers of a cell."""
    return np.array(text.split(), dtype=float)
