"""``ekfcore test``."""

import argparse
import json
import math

from ._options import Commands, add_command, add_run_options, limited_threads

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore test run test.xyz
  ekfcore test run/model.npz more/*.xyz --json

DATA is whatever ASE reads (extended XYZ, also .gz and .xz; OUTCAR; ASE databases), a PWmat MOVEMENT or a deepmd/npy
folder, with energies, forces or both.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "test", summary="compare a model with labelled data", epilog=_EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run, or a model.npz")
    parser.add_argument("data", metavar="DATA", nargs="+", help="files or folders with labelled frames")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the errors."""
    from ekfcore.atoms import errors, read_frames
    from ekfcore.atoms.frame import check_labelled
    from ekfcore.potentials import evaluate, load_model
    from ekfcore.potentials.placing import place_weights

    loaded = load_model(arguments.model)
    frames = read_frames(arguments.data, require=(), elements=loaded.model.elements)
    for frame in frames:
        check_labelled(frame)
    backend = arguments.backend or "auto"
    weights = place_weights(loaded.model, loaded.weights, backend=backend, device=arguments.device or "cpu")
    with limited_threads(arguments.threads, backend=backend):
        report = errors(evaluate(loaded.model, weights, frames), frames).as_json()
    if arguments.json:
        # JSON has no NaN.
        print(json.dumps({name: value if math.isfinite(value) else None for name, value in report.items()}))
    else:
        print(_table(report))
    return 0


def _table(report: dict[str, int | float]) -> str:
    from ekfcore.atoms.quantities import QUANTITIES

    counted = f"{report['frames']} frames, {report['atoms']} atoms"
    if "frames_with_energy" in report:
        counted += f"; energies of {report['frames_with_energy']} of them, forces of {report['frames_with_forces']}"
    lines = [counted, f"{'':<12}{'RMSE':>10}{'MAE':>10}"]
    for quantity in QUANTITIES:
        rmse, mae = (report.get(f"{quantity.name}_{norm}_{quantity.json_unit}") for norm in ("rmse", "mae"))
        if rmse is not None:
            lines.append(f"{quantity.name:<12}{rmse:>10.3f}{mae:>10.3f}  {quantity.unit}")
    return "\n".join(lines)
