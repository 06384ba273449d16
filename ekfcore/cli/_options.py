"""Options that several commands take."""

import argparse
import contextlib
from collections.abc import Iterator
from importlib import import_module
from typing import TypeAlias

from ekfcore.errors import InputError
from ekfcore.registry import BACKENDS, get_namespace

__all__ = ["Commands", "add_command", "add_run_options", "limited_threads", "run_overrides"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, *, summary: str, epilog: str = "") -> argparse.ArgumentParser:
    """Add a command; `summary` stands in the list of commands, and above its own help."""
    return commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where to compute."""
    group = parser.add_argument_group("where to compute")
    group.add_argument("--backend", choices=["auto", *BACKENDS], help="kernels and array library (see ekfcore info)")
    group.add_argument("--device", metavar="NAME", help="device of that library, as cpu or cuda:0")
    group.add_argument("--threads", metavar="N", type=_count, help="threads of the linear algebra")


def run_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the options of `add_run_options` as overrides of CONFIG."""
    given = {name: getattr(arguments, name) for name in ("backend", "device", "threads")}
    return [f"run.{name}={value}" for name, value in given.items() if value is not None]


@contextlib.contextmanager
def limited_threads(count: int | None, *, backend: str) -> Iterator[None]:
    """Let linear algebra use that many threads, if a number is given."""
    if count is None:
        yield
        return
    # Only libraries that are loaded already can be limited.
    get_namespace(backend)
    try:
        threadpoolctl = import_module("threadpoolctl")
    except ImportError:
        raise InputError('threads need threadpoolctl; run: pip install "ekfcore[atoms]"') from None
    with threadpoolctl.threadpool_limits(count):
        yield


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)
