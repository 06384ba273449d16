"""``ekfcore export``."""

import argparse

from ._options import Commands, add_command

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore export run copper.dp      DeePMD-kit 3's backend-neutral format
  ekfcore export run copper.pth     for DeePMD-kit's PyTorch backend and LAMMPS; needs DeePMD-kit here

`dp convert-backend copper.dp copper.pth` makes the second of the first where DeePMD-kit is installed.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "export", summary="write a model for DeePMD-kit and LAMMPS", epilog=_EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run, or a model.npz")
    parser.add_argument("out", metavar="OUT", help="file to write, ending in .dp or .pth")
    parser.add_argument(
        "--room",
        metavar="X",
        type=float,
        default=1.2,
        help="places for neighbours, times the capacity of the model (default: 1.2); more than 1 adds an element X",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the model."""
    from ekfcore.deepmd import export_model
    from ekfcore.training import load_model

    loaded = load_model(arguments.model)
    notes = export_model(loaded, arguments.out, room=arguments.room)
    model = loaded.model
    print(
        f"{arguments.out}: {' '.join(model.elements)}, {sum(model.layer_sizes)} weights, cutoff {model.cutoff:g} Å",
        *notes,
        sep="\n",
    )
    return 0
