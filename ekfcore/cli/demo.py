"""``ekfcore demo``."""

import argparse
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads, run_overrides

if TYPE_CHECKING:
    from ekfcore.atoms import Errors

__all__ = ["add_parser", "run"]

_CONFIG, _DATA = "demo.toml", "*.xyz.xz"


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "demo", summary="train on a small built-in data set; about a minute")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, default=Path("ekfcore-demo"), help="folder to write (default: ekfcore-demo)"
    )
    parser.add_argument(
        "--epochs", metavar="N", type=int, help="epochs to train, instead of those of the demonstration"
    )
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train on the packaged data and print the errors before and after."""
    from ekfcore.training import load_settings, prepare

    from ._training import PLOTS, run_training, write_plots

    home, out = Path(str(files("ekfcore.demo"))), arguments.out
    overrides = run_overrides(arguments) + ([] if arguments.epochs is None else [f"training.epochs={arguments.epochs}"])
    settings = load_settings(home / _CONFIG, overrides)
    _remove_previous(out)
    with limited_threads(settings.run.threads, backend=settings.run.backend):
        trainer = prepare(settings, out, resume=False)
        # With CONFIG and data, so that the user can alter the folder and train again.
        for name in (_CONFIG, *(path.name for path in home.glob(_DATA))):
            shutil.copy(home / name, out / name)
        before = trainer.test.errors(trainer.weights)
        code = run_training(trainer, resume_with=f"ekfcore train {out / _CONFIG} --out {out} --resume")
        if code:
            return code
        write_plots(trainer, out)
        after = trainer.test.errors(trainer.weights)
    print(_table(before, after))
    print(f"The plots are {out / PLOTS[0]} and {out / PLOTS[1]}.")
    print(f"Now try your own data: put them into {out / _CONFIG}, then ekfcore train {out / _CONFIG}")
    return 0


def _remove_previous(out: Path) -> None:
    """Remove the files of an earlier demonstration, finished or not, and no others."""
    from ekfcore.files import LOCK_FILE, locked, sweep
    from ekfcore.potentials.model_file import MODEL_FILE
    from ekfcore.training.records import METRICS_FILE

    from ._training import PLOTS

    if not (out / _CONFIG).is_file():
        return  # not the folder of a demonstration: nothing may be removed
    with locked(out, "trains in"):
        sweep(out)
        found = set(out.iterdir()) - {out / LOCK_FILE}
        known = {out / name for name in (MODEL_FILE, METRICS_FILE, _CONFIG, *PLOTS)} | set(out.glob(_DATA))
        if found - known:
            raise InputError(
                f"{out} holds {min(found - known).name}, which is not of the demonstration; choose another --out"
            )
        for path in sorted(found, key=lambda path: path.name == _CONFIG):  # CONFIG last: it marks a demonstration
            path.unlink()


def _table(before: "Errors", after: "Errors") -> str:
    return "\n".join(
        (
            f"{'RMSE on the test frames':<26}{'before':>10}{'after':>10}",
            f"{'energy [meV/atom]':<26}{before.energy_rmse:>10.1f}{after.energy_rmse:>10.2f}",
            f"{'force components [meV/Å]':<26}{before.force_rmse:>10.1f}{after.force_rmse:>10.2f}",
        )
    )
