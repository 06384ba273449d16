"""The command line."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from typing import NoReturn

from ekfcore.compiling.jit import tell_of_compiling
from ekfcore.errors import EKFError, InputError

from . import _ranks, demo, export, import_model, info, inspect, kpu, learn, phonons, test, train

__all__ = ["demo", "export", "import_model", "info", "inspect", "kpu", "learn", "main", "phonons", "test", "train"]

_EXAMPLES = """\
examples:
  ekfcore demo                                   see it work; about a minute
  ekfcore inspect config.toml                    look at the data: numbers, and what cannot be meant
  ekfcore train config.toml --out run            train; writes run/model.npz, run/metrics.csv and plots
  ekfcore train config.toml --out run --resume   go on where the training stopped
  ekfcore test run test.xyz --json               errors of the trained model
  ekfcore kpu run explored.xyz                   how uncertain the model is of each frame
  ekfcore learn copper.toml --out copper         let the model ask for labels, round by round
  ekfcore phonons run copper.cif --reference emt band structure and density of states
  ekfcore export run copper.dp                   for DeePMD-kit and LAMMPS; ekfcore import goes the other way
  ekfcore info                                   what can be used on this machine
"""


_SHARED = ("train", "kpu")
"""Commands that several ranks do together."""

_COMPILING = "Compiling kernels for this machine; once only, about half a minute."


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        0 for success; 2 for an error that the user can correct, reported in one line on stderr; 128 plus the number
        of the signal that stopped the command.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # so that a terminal without Å does not stop a training
    if sys.stderr.isatty():  # only a person at a terminal needs to know why nothing is printed for half a minute
        tell_of_compiling(partial(print, _COMPILING, file=sys.stderr, flush=True))
    try:
        arguments = _parser().parse_args(argv)
        if arguments.command not in _SHARED:
            _ranks.refuse_ranks(arguments.command, _SHARED)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("ekfcore: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in `ekfcore info | head -1`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (EKFError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"ekfcore: error: {' '.join(_explain(error).split())}", file=sys.stderr)
        return 2
    return code


def _explain(error: Exception) -> str:
    """Return the error message, with advice where there is any."""
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("", "ekfcore"):
            raise error  # a mistake in this package
        extra = "active" if package == "phonopy" else "atoms"
        return f'{package} is not installed; run: pip install "ekfcore[{extra}]"'
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); use fewer frames at a time or a smaller optimizer.block_size"
    return str(error)


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages are one line, like those of all commands."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ekfcore",
        description="Train neural-network force fields with an extended Kalman filter.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ekfcore {version('ekfcore')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for command in (demo, inspect, train, test, kpu, learn, phonons, export, import_model, info):
        command.add_parser(commands)
    return parser
