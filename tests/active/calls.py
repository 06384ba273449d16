"""Functions that a worker is to call, which may not survive them."""

import os
import signal
from pathlib import Path

from ekfcore.errors import InputError

__all__ = ["die", "die_once", "refuse", "threads"]


def threads(name: str) -> tuple[str, str | None]:
    """Return the name, and what libraries are told about threads."""
    return name, os.environ.get("OMP_NUM_THREADS")


def refuse(name: str) -> None:
    """Find fault with the argument."""
    raise InputError(f"{name} does not fit the model")


def die(folder: Path) -> None:
    """Leave a file, and die."""
    (folder / str(os.getpid())).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: Path) -> str:
    """Die, unless the file is there that the first call leaves."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name
