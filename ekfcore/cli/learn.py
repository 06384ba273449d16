"""``ekfcore learn``."""

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads, run_overrides

if TYPE_CHECKING:
    from ekfcore.active.settings import LearnSettings

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore learn copper.toml --out copper
  ekfcore learn copper.toml --out copper --resume   after Ctrl-C, a crash or with more rounds

The smallest CONFIG; paths start from its folder:
  [data]
  structures = ["copper.xyz"]
  [[stages]]
  temperatures = [500]
  [label]
  calculator = "emt"

Whatever is done is not done again, least of all a label: those are kept in labels.db as they come.
"""
_SETTINGS = "settings.json"
_FIXED = ("data", "model", "select", "training", "optimizer")
"""Tables that a run cannot change on its way; stages, labelling and the place where it runs may be."""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(
        commands, "learn", summary="train on frames that the model itself asks to be labelled", epilog=_EPILOG
    )
    parser.add_argument("config", metavar="CONFIG", type=Path, help="TOML file with the settings")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("learn"), help="folder to write")
    parser.add_argument("--resume", action="store_true", help="go on with the run in DIR")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of CONFIG")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Go through the rounds."""
    from ekfcore.active.learner import Learner, Stopped
    from ekfcore.active.plots import plot_rounds
    from ekfcore.active.settings import load_learn_settings

    from ._interrupt import stop_on_signal

    settings = load_learn_settings(arguments.config, [*arguments.set, *run_overrides(arguments)])
    out: Path = arguments.out
    with limited_threads(settings.run.threads, backend=settings.run.backend), stop_on_signal() as stop:
        learner = Learner(settings, out, say=_say, should_stop=stop)
        _open(out, settings, resume=arguments.resume)
        try:
            learner.run()
        except Stopped:
            print(f"Stopped; nothing is lost. Go on with: {_resume_command(arguments)}")
            return stop.exit_code
        finally:
            if learner.reports:
                plot_rounds(learner.reports, out / "report.png")
    print(f"The model is {out / 'final' / 'model'}; {out / 'report.csv'} and {out / 'report.png'} tell of the rounds.")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _open(out: Path, settings: "LearnSettings", *, resume: bool) -> None:
    """Make the folder of the run, or see that it holds the run that is to go on."""
    import json

    from ekfcore.files import write_text

    path, now = out / _SETTINGS, settings.model_dump(mode="json")
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} exists already; go on with it with --resume, or choose another folder with --out")
        out.mkdir(parents=True, exist_ok=True)
    elif not path.exists():
        raise InputError(f"{out} holds no run to go on with; leave out --resume to start one")
    else:
        before = json.loads(path.read_text())
        for table in _FIXED:
            changed = [key for key in now[table] if now[table][key] != before[table].get(key)]
            if changed:
                key = changed[0]
                raise InputError(
                    f"{table}.{key} = {now[table][key]} differs from {before[table].get(key)} of the run in {out}; "
                    "set it back, or start anew in another folder"
                )
    write_text(path, json.dumps(now, indent=1) + "\n")


def _resume_command(arguments: argparse.Namespace) -> str:
    words = ["ekfcore", "learn", str(arguments.config), "--out", str(arguments.out), "--resume"]
    for override in [*arguments.set, *run_overrides(arguments)]:
        words += ["--set", override]
    return shlex.join(words)
