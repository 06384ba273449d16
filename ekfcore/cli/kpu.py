"""``ekfcore kpu``."""

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads

if TYPE_CHECKING:
    from ekfcore.active.calibration import Calibration
    from ekfcore.active.kpu import KalmanUncertainty
    from ekfcore.active.kpu_files import Row
    from ekfcore.atoms import Frame

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore kpu run explored.xyz
  ekfcore kpu run test.xyz --fraction 1 --out uncertainty
  ekfcore kpu run explored.xyz --calibrate test.xyz
  ekfcore kpu run explored.xyz --refresh train.xyz

DATA is whatever `ekfcore test` reads; labels are not needed. Where there are any, the errors stand beside the
uncertainties. KPU is a variance in the scale of the noise that the filter assumed. To make error bars in eV/Å of it, a
factor is fitted to the labelled frames of HELDOUT, or else to every other labelled frame of DATA; how well it holds is
counted on frames that it was not fitted to.

With --refresh, the covariance is computed afresh from the frames of the training, at the final weights. That foretells
errors better than the covariance that the filter leaves, and works for models trained with Adam.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "kpu", summary="tell how uncertain a model is of each frame", epilog=_EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run, or its model.npz")
    parser.add_argument("data", metavar="DATA", nargs="+", help="files or folders with frames")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("kpu"), help="folder (default: kpu)")
    parser.add_argument("--calibrate", metavar="HELDOUT", nargs="+", help="labelled frames to fit error bars to")
    parser.add_argument("--refresh", metavar="TRAIN", nargs="+", help="frames of the training, for a fresh covariance")
    parser.add_argument("--fraction", metavar="X", type=float, default=0.5, help="share of the atoms (default: 0.5)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="seed of their choice (default: 0)")
    parser.add_argument(
        "--precision",
        choices=["float32", "float64"],
        default="float32",
        help="of the products with P (default: float32, true to four digits and better)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compute, write and tell."""
    from ekfcore.active.kpu import KalmanUncertainty
    from ekfcore.active.kpu_files import DEVIATIONS, PICTURE, TABLE, write_deviations, write_picture, write_table
    from ekfcore.atoms import read_frames

    backend = arguments.backend or "auto"
    where: dict[str, Any] = {"backend": backend, "device": arguments.device or "cpu"}
    frames = read_frames(arguments.data, require=())
    held_out = read_frames(arguments.calibrate, require=["forces"]) if arguments.calibrate else []
    refresh = read_frames(arguments.refresh, require=()) if arguments.refresh else []
    _make_folder(arguments.out)
    with limited_threads(arguments.threads, backend=backend):
        uncertainty = KalmanUncertainty.load(
            arguments.model,
            fraction=arguments.fraction,
            seed=arguments.seed,
            dtype=arguments.precision,
            refresh=refresh,
            **where,
        )
        rows, fitted = _rows(uncertainty, frames), _rows(uncertainty, held_out)
    calibration = _calibration(rows, fitted)
    scale = None if calibration is None else calibration.scale
    write_table(rows, arguments.out / TABLE)
    write_deviations(rows, arguments.out / DEVIATIONS, scale=scale or 1.0)
    write_picture(rows, arguments.out / PICTURE, scale=scale)
    report = _report(rows, calibration)
    if arguments.json:
        # NaN is no JSON.
        print(json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in report.items()}))
    else:
        print(_text(report))
        print(f"{TABLE}, {DEVIATIONS} and {PICTURE} are in {arguments.out}.")
    return 0


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out") from None


def _rows(uncertainty: "KalmanUncertainty", frames: "Sequence[Frame]") -> "list[Row]":
    """Return uncertainty and errors of each frame."""
    from ekfcore.active.calibration import force_errors
    from ekfcore.active.kpu_files import Row
    from ekfcore.arrays import to_numpy

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


def _calibration(rows: "Sequence[Row]", fitted: "Sequence[Row]") -> "Calibration | None":
    """Fit error bars, if there is something to fit them to; check them on other frames where there are any."""
    from ekfcore.active.calibration import calibrate

    labelled = [(row.found, row.force_errors) for row in rows if row.force_errors is not None]
    known = [(row.found, row.force_errors) for row in fitted if row.force_errors is not None]
    if known:
        return calibrate(known, labelled or known)
    return calibrate(labelled[::2], labelled[1::2] or labelled) if labelled else None


def _report(rows: "Sequence[Row]", calibration: "Calibration | None") -> dict[str, Any]:
    """Return all that there is to tell, in eV and Å."""
    from ekfcore.active.calibration import rank_correlation

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
    if calibration is not None:
        report |= {
            "scale": calibration.scale,
            "within_one_sigma": calibration.within_one,
            "within_two_sigma": calibration.within_two,
        }
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
    if "scale" in report:
        lines.append(
            f"error bar of a component: {report['scale']:.4g} x sqrt(KPU / 3); it covers "
            f"{100 * report['within_one_sigma']:.1f} % (Gaussian: 68.3 %), "
            f"twice it {100 * report['within_two_sigma']:.1f} % (95.4 %)"
        )
    return "\n".join(lines)
