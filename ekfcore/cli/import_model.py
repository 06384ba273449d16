"""``ekfcore import``."""

import argparse
from pathlib import Path

from ._options import Commands, add_command

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore import frozen.dp --out water
  ekfcore test water test.xyz
  ekfcore train config.toml --start water

Models with the descriptor se_e2_a and a fitting net for the energy can be imported. A .pth or a checkpoint .pt needs
DeePMD-kit here; `dp convert-backend frozen.pth frozen.dp` makes a file that does not.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "import", summary="take over a model of DeePMD-kit", epilog=_EPILOG)
    parser.add_argument("file", metavar="FILE", help="model of DeePMD-kit, ending in .dp, .pth or .pt")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("run"), help="folder to write (default: run)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder."""
    from ekfcore.deepmd import import_model
    from ekfcore.models.deep_potential import DeepPotential

    model = import_model(arguments.file, arguments.out).model
    assert isinstance(model, DeepPotential)  # the only model that can be imported
    architecture = model.architecture
    print(
        f"{arguments.out}: {' '.join(architecture.elements)}, {sum(model.layer_sizes)} weights, "
        f"cutoff {architecture.cutoff:g} Å. Test it: ekfcore test {arguments.out} DATA\n"
        f"An atom with more neighbours than sel = {list(architecture.capacity)} keeps them all here; DeePMD-kit leaves "
        "out the farthest"
    )
    return 0
