"""Options shared by several commands."""

import argparse
import contextlib
import shlex
from collections.abc import Iterator
from importlib import import_module
from typing import TypeAlias

import numpy as np

from ekfcore import threads
from ekfcore.errors import InputError
from ekfcore.registry import BACKENDS, get_backend, get_namespace

__all__ = ["Commands", "add_command", "add_run_options", "limited_threads", "resume_command", "run_overrides"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, *, summary: str, epilog: str = "") -> argparse.ArgumentParser:
    """Add a command; `summary` appears in the list of commands and in the help of the command."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for backend, device and threads."""
    group = parser.add_argument_group("where to compute")
    group.add_argument("--backend", choices=["auto", *BACKENDS], help="kernels and array library (see ekfcore info)")
    group.add_argument("--device", metavar="NAME", help="device of that library, as cpu or cuda:0")
    group.add_argument("--threads", metavar="N", type=_count, help="threads to use (default: all cores)")


def run_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the options of `add_run_options` as overrides of CONFIG."""
    given = {name: getattr(arguments, name) for name in ("backend", "device", "threads")}
    return [f"run.{name}={value}" for name, value in given.items() if value is not None]


def resume_command(name: str, arguments: argparse.Namespace) -> str:
    """Return the command line that goes on with an interrupted command."""
    command = ["ekfcore", name, str(arguments.config), "--out", str(arguments.out), "--resume"]
    for override in [*arguments.set, *run_overrides(arguments)]:
        command += ["--set", override]
    return shlex.join(command)


@contextlib.contextmanager
def limited_threads(count: int | None, *, backend: str) -> Iterator[None]:
    """Limit kernels and linear algebra to `count` threads, if given.

    With Numba's kernels, linear algebra always gets one thread: little work remains for it, and idle threads of
    OpenBLAS keep their cores busy for a while after each call.
    """
    with contextlib.ExitStack() as limits:
        if count is not None:
            limits.enter_context(threads.limited_threads(count))
        get_namespace(backend)  # only libraries that are loaded already can be limited
        compiled = backend in ("auto", "numba") and get_backend(backend, like=np.zeros(1)).name == "numba"
        if compiled or count is not None:
            try:
                threadpoolctl = import_module("threadpoolctl")
            except ImportError:
                raise InputError('threads need threadpoolctl; run: pip install "ekfcore[atoms]"') from None
            limits.enter_context(threadpoolctl.threadpool_limits(1 if compiled else count))
        yield


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)
