"""``ekfcore learn``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads, resume_command, run_overrides

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
"""Tables that cannot change during a run; stages, labelling and where to compute may change."""
_LATER = ("explore", "update")
"""Tables whose changes do not affect finished rounds."""
_INPUTS = "inputs"
"""Key of the digests of the files that ``[data]`` names."""


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
    """Do the rounds of active learning."""
    from ekfcore.active.learner import Learner, Stopped
    from ekfcore.active.settings import load_learn_settings
    from ekfcore.files import locked
    from ekfcore.plots.rounds import plot_rounds

    from ._interrupt import stop_on_signal

    settings = load_learn_settings(arguments.config, [*arguments.set, *run_overrides(arguments)])
    out: Path = arguments.out
    with limited_threads(settings.run.threads, backend=settings.run.backend), stop_on_signal() as stop:
        learner = Learner(settings, out, on_message=_print_line, should_stop=stop)
        _make_folder(out, resume=arguments.resume)
        with locked(out, "learns in"):
            _compare(out, settings, learner.inputs(), resume=arguments.resume)
            _sweep_all(out)
            try:
                learner.run()
            except Stopped:
                print(f"Stopped; nothing is lost. Go on with: {resume_command('learn', arguments)}")
                return stop.exit_code
            finally:
                if learner.reports:
                    plot_rounds(learner.reports, out / "report.png")
    print(f"The model is {out / 'final' / 'model'}; {out / 'report.csv'} and {out / 'report.png'} tell of the rounds.")
    return 0


def _print_line(line: str) -> None:
    print(line, flush=True)


def _make_folder(out: Path, *, resume: bool) -> None:
    """Make the folder of the run, or check that it holds the run to resume."""
    from ekfcore.files import is_vacant, make_folder

    if resume and not (out / _SETTINGS).exists() and not (out.is_dir() and is_vacant(out)):
        raise InputError(
            f"{out} holds no run to go on with; give the folder of one with --out, or leave out --resume to start one "
            "in a new folder"
        )
    if not resume and not is_vacant(out):
        raise InputError(f"{out} exists already; go on with it with --resume, or choose another folder with --out")
    make_folder(out)


def _compare(out: Path, settings: "LearnSettings", inputs: dict[str, str], *, resume: bool) -> None:
    """Write the settings of the run; for a resumed run, compare them with the earlier ones."""
    from ekfcore.record_file import read_record, write_record

    path, now = out / _SETTINGS, settings.model_dump(mode="json")
    if path.exists():
        if not resume:  # another run has begun and ended since `_make_folder`
            raise InputError(f"{out} exists already; go on with it with --resume, or choose another folder with --out")
        cure = f"put it back, or start anew in another folder, with {_advice_to_keep_labels(out)}"
        _check_changes(out, now, read_record(path, cure), inputs)
    write_record(path, {**now, _INPUTS: inputs})


def _advice_to_keep_labels(out: Path) -> str:
    return f'data.train = ["{out / "labels.db"}"] to keep its labels'


def _sweep_all(out: Path) -> None:
    """Remove the unfinished files of a killed run, also in the folders of its rounds."""
    from ekfcore.files import sweep

    for folder in (out, *filter(Path.is_dir, out.rglob("*"))):
        sweep(folder)


def _check_changes(out: Path, now: dict[str, Any], before: dict[str, Any], inputs: dict[str, str]) -> None:
    """Refuse changes of fixed tables, and print those that hold for later rounds only."""
    known = {table: keys if isinstance(keys := before.get(table), dict) else {} for table in now}
    changes = [
        (table, key, value, known[table].get(key))
        for table in now
        if isinstance(now[table], dict)
        for key, value in now[table].items()
        if value != known[table].get(key)
    ]
    for table, key, value, old in changes:
        if table in _FIXED:
            raise InputError(
                f"{table}.{key} = {value} differs from {old} of the run in {out}; "
                "set it back, or start anew in another folder"
            )
    for key, digest in inputs.items():
        if before.get(_INPUTS, inputs).get(key) != digest:
            raise InputError(
                f"data.{key}: the files hold other frames than when the run in {out} began; put them back, or start "
                f"anew in another folder, with {_advice_to_keep_labels(out)}"
            )
    for table, key, value, old in changes:
        if table in _LATER:
            _print_line(f"{table}.{key} = {value} instead of {old} holds for the rounds to come.")
