"""``ekfcore kpu``."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekfcore.files import make_folder

from ._options import Commands, add_command, add_run_options, limited_threads

if TYPE_CHECKING:
    from ekfcore.atoms import Frame
    from ekfcore.potentials.kpu import KalmanUncertainty
    from ekfcore.potentials.kpu_tables import Row
    from ekfcore.potentials.model_file import LoadedModel
    from ekfcore.ranks import Ranks

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore kpu run explored.xyz
  ekfcore kpu run test.xyz --fraction 1 --out uncertainty
  ekfcore kpu run explored.xyz --calibrate test.xyz
  ekfcore kpu run explored.xyz --refresh train.xyz

DATA is whatever `ekfcore test` reads; labels are not needed. Where there are any, the errors stand beside the
uncertainties. KPU is a variance in (eV/Å)^2, scaled by the training to the errors on its own frames. How many errors
the error bars cover is counted on the labelled frames of DATA; beside it stands the factor with which they would cover
68.3 % of the errors of HELDOUT, or else of DATA. It is not applied.

With --refresh, the covariance is computed afresh from the frames of the training, at the final weights: for models
trained with Adam, or by an earlier version.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "kpu", summary="tell how uncertain a model is of each frame", epilog=_EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run, or its model.npz")
    parser.add_argument("data", metavar="DATA", nargs="+", help="files or folders with frames")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("kpu"), help="folder (default: kpu)")
    parser.add_argument("--calibrate", metavar="HELDOUT", nargs="+", help="labelled frames to check error bars on")
    parser.add_argument("--refresh", metavar="TRAIN", nargs="+", help="frames of the training, for a fresh covariance")
    parser.add_argument("--fraction", metavar="X", type=float, default=0.5, help="share of the atoms (default: 0.5)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of their choice (default: 0)")
    parser.add_argument(
        "--precision",
        choices=["float32", "float64"],
        default="float64",
        help="of the products with P (default: float64; float32 loses digits where P is small beside its blocks)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compute the uncertainties, write the files and print a summary."""
    from ._ranks import joined_ranks

    with joined_ranks() as ranks:
        return _run(arguments, ranks)


def _run(arguments: argparse.Namespace, ranks: "Ranks") -> int:
    from ekfcore.atoms import read_frames
    from ekfcore.plots.uncertainty import PICTURE, write_picture
    from ekfcore.potentials.kpu import KalmanUncertainty
    from ekfcore.potentials.kpu_tables import DEVIATIONS, TABLE, write_deviations, write_table
    from ekfcore.potentials.model_file import load_model

    backend = arguments.backend or "auto"
    where: dict[str, Any] = {"backend": backend, "device": arguments.device or "cpu"}
    frames = read_frames(arguments.data, require=())
    held_out = read_frames(arguments.calibrate, require=["forces"]) if arguments.calibrate else []
    refresh = read_frames(arguments.refresh, require=()) if arguments.refresh else []
    loaded = load_model(arguments.model)
    _agree(ranks, arguments, loaded, [*frames, *held_out, *refresh])
    with limited_threads(arguments.threads, backend=backend):
        uncertainty = KalmanUncertainty.load(
            loaded,
            fraction=arguments.fraction,
            seed=arguments.seed,
            dtype=arguments.precision,
            refresh=refresh,
            ranks=ranks,
            **where,
        )
        if ranks.rank == 0:
            make_folder(arguments.out)  # not before all that may be refused was looked at
        rows, fitted = _rows(uncertainty, frames), _rows(uncertainty, held_out)
    if ranks.rank:
        return 0
    write_table(rows, arguments.out / TABLE)
    write_deviations(rows, arguments.out / DEVIATIONS)
    write_picture(rows, arguments.out / PICTURE)
    report = _report(rows, fitted)
    if arguments.json:
        # JSON has no NaN.
        print(json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}))
    else:
        print(_text(report))
        print(f"{TABLE}, {DEVIATIONS} and {PICTURE} are in {arguments.out}.")
    return 0


def _agree(ranks: "Ranks", arguments: argparse.Namespace, loaded: "LoadedModel", frames: "Sequence[Frame]") -> None:
    """See that all ranks work on the same."""
    from ekfcore.atoms.digest import digest_of

    if ranks.size == 1:
        return  # digests take their time
    for name in ("backend", "fraction", "seed", "precision"):
        ranks.agree(f"--{name}", str(getattr(arguments, name)))
    ranks.agree("data", f"{len(frames)} frames, digest {digest_of(frames=frames)[:16]}")
    ranks.agree("weights", f"{loaded.position.step} steps, digest {digest_of(loaded.weights.tobytes())[:16]}")


def _rows(uncertainty: "KalmanUncertainty", frames: "Sequence[Frame]") -> "list[Row]":
    """Return the uncertainty and the errors of each frame."""
    from ekfcore.arrays import to_numpy
    from ekfcore.potentials.calibration import force_errors
    from ekfcore.potentials.kpu_tables import Row

    rows, model, w = [], uncertainty.model, uncertainty.weights
    for frame, found in zip(frames, uncertainty.many(frames), strict=True):
        sample: Any = model.environment(frame, like=w)
        prediction = {k: to_numpy(v) for k, v in model.predict(w, sample).items()}
        away = None if frame.energy is None else (float(prediction["energy"]) - frame.energy) / frame.n_atoms
        rmse = errors = None
        if frame.forces is not None:
            rmse = float(np.sqrt(np.mean((prediction["forces"] - frame.forces) ** 2)))
            errors = force_errors(found, prediction["forces"], frame)
        rows.append(Row(n_atoms=frame.n_atoms, found=found, energy_error=away, force_rmse=rmse, force_errors=errors))
    return rows


def _report(rows: "Sequence[Row]", held_out: "Sequence[Row]") -> dict[str, Any]:
    """Return the numbers of the summary, in eV and Å."""
    from ekfcore.potentials.calibration import bar_factor, coverage, rank_correlation

    report: dict[str, Any] = {
        "frames": len(rows),
        "atoms": sum(len(row.found.atoms) for row in rows),
        "kpu_force_mean": float(np.mean([row.found.force_mean for row in rows])),
        "kpu_force_max": max(row.found.force_max for row in rows),
    }
    labelled = [row for row in rows if row.force_rmse is not None and row.force_errors is not None]
    if labelled:
        atoms = np.concatenate([np.linalg.norm(row.force_errors, axis=1) for row in labelled])  # type: ignore[arg-type]
        report |= {
            "rank_correlation_frames": rank_correlation(
                [row.found.force_mean for row in labelled], [row.force_rmse or 0.0 for row in labelled]
            ),
            "rank_correlation_atoms": rank_correlation(np.concatenate([row.found.forces for row in labelled]), atoms),
        }
    pairs, others = (
        [(row.found, row.force_errors) for row in some if row.force_errors is not None] for some in (rows, held_out)
    )
    if pairs or others:
        within_one, within_two = coverage(pairs or others)
        factor = bar_factor(others or pairs)
        report |= {"within_one_sigma": within_one, "within_two_sigma": within_two, "factor": factor}
    return report


def _text(report: dict[str, Any]) -> str:
    lines = [
        f"{report['frames']} frames, forces on {report['atoms']} atoms",
        f"KPU of the forces: mean {report['kpu_force_mean']:.4g}, largest {report['kpu_force_max']:.4g} (eV/Å)^2",
    ]
    if "rank_correlation_frames" in report:
        lines.append(
            f"rank correlation with the true error: frames {report['rank_correlation_frames']:.3f}, "
            f"atoms {report['rank_correlation_atoms']:.3f}"
        )
    if "factor" in report:
        lines.append(
            f"error bars of force components, sqrt(KPU / 3), cover {100 * report['within_one_sigma']:.1f} % of the "
            f"errors (Gaussian: 68.3 %), twice they {100 * report['within_two_sigma']:.1f} % (95.4 %); "
            f"{report['factor']:.3g} times as long they would cover 68.3 %"
        )
    return "\n".join(lines)
