"""``ekfcore train``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads, resume_command, run_overrides

if TYPE_CHECKING:
    from ekfcore.ranks import Ranks
    from ekfcore.training import Settings

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore train config.toml
  ekfcore train config.toml --out run-2 --set optimizer.block_size=2048 --set optimizer.preset=rlekf
  ekfcore train config.toml --resume --set training.epochs=20
  ekfcore train more.toml --start run --out run-3
  ekfcore train input.json
  torchrun --nproc-per-node 4 -m ekfcore train config.toml

The smallest CONFIG; paths start from its folder:
  [data]
  train = ["train.xyz"]

Ctrl-C stops after the step under way and writes the model; --resume goes on as if nothing had happened.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "train", summary="train a force field", epilog=_EPILOG)
    parser.add_argument(
        "config", metavar="CONFIG", type=Path, help="TOML file with the settings, or an input.json of DeePMD-kit"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("run"), help="folder to write (default: run)")
    parser.add_argument("--resume", action="store_true", help="go on from the model in DIR")
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="begin with the weights of this model and a fresh filter; beside --resume, if DIR holds no model yet",
    )
    parser.add_argument(
        "--shift-energies", action="store_true", help="fit the energies of MODEL to the data first, whatever their zero"
    )
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of CONFIG")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from ._ranks import joined_ranks

    with joined_ranks() as ranks:
        return _train(arguments, ranks)


def _train(arguments: argparse.Namespace, ranks: "Ranks") -> int:
    from ekfcore.training import load_model, prepare

    from ._training import run_training, warn_of_faults, write_plots

    if arguments.shift_energies and not arguments.start:
        raise InputError("--shift-energies belongs to --start MODEL; add it, or leave this out")
    settings = _settings(arguments)
    start = load_model(arguments.start).without_optimizer() if arguments.start else None
    out: Path = arguments.out
    with limited_threads(settings.run.threads, backend=settings.run.backend):
        trainer = prepare(
            settings,
            out,
            resume=arguments.resume,
            start=start,
            shift_energies=arguments.shift_energies,
            ranks=ranks,
        )
        warn_of_faults(trainer)
        if trainer.position.epoch >= trainer.epochs:
            print(f"{trainer.position.epoch} epochs are done already; set training.epochs to more to go on.")
            trainer.run()  # trains nothing, but completes tables that a kill left behind the model
        elif code := run_training(trainer, resume_with=resume_command("train", arguments)):
            return code
        if ranks.rank == 0:
            write_plots(trainer, out)
    print(f"Model, metrics and plots are in {out}. Test it on other data: ekfcore test {out} DATA")
    return 0


def _settings(arguments: argparse.Namespace) -> "Settings":
    """Read CONFIG; print the notes on the translation of a DeePMD-kit input."""
    from ekfcore.deepmd import load_input
    from ekfcore.potentials.model_file import MODEL_FILE
    from ekfcore.training import load_settings

    overrides = [*arguments.set, *run_overrides(arguments)]
    if arguments.config.suffix != ".json":
        return load_settings(arguments.config, overrides)
    fresh = not (arguments.start or (arguments.resume and (arguments.out / MODEL_FILE).exists()))
    settings, notes = load_input(arguments.config, overrides, fresh=fresh)
    for note in notes:
        print(f"{arguments.config}: {note}")
    return settings
