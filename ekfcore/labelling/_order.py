"""Orders: files that say which labels are wanted. Whoever computes a label locks its order, so that nobody else does.

A job of a batch system outlives the run that submitted it, and a worker may be given up while it goes on: the next one
for the same label waits for the end of the first, and what starts when the label is there already does nothing.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

__all__ = ["order_of", "taken"]

_POLL = 0.2  # [s] between two tries to lock an order


def order_of(result_file: Path) -> Path:
    """Return the order of the label that is to be left in a file."""
    return result_file.with_suffix(".order")


@contextmanager
def taken(order: Path, goes_on: Callable[[], bool]) -> Iterator[bool]:
    """Wait until nobody else computes a label, and keep it so during the block.

    Parameters
    ----------
    order : Path
        The order. Without its folder, as on a machine that does not share the files of the run, nothing is locked.
    goes_on : callable
        Called while another process computes the label; once it returns False, the wait is over.

    Yields
    ------
    bool
        Whether the label is still wanted from here.
    """
    try:
        handle = order.open("r+")
    except OSError as error:
        yield not (isinstance(error, FileNotFoundError) and order.parent.is_dir())
        return
    with handle:
        while not _lock(handle):
            if not goes_on():
                yield False
                return
            time.sleep(_POLL)
        yield _is_at(order, handle)


def _lock(handle: IO[str]) -> bool:
    """Return whether the file is locked now; where there are no locks, it counts as locked."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            return True
    return True


def _is_at(path: Path, handle: IO[str]) -> bool:
    """Return whether a file that was open while others could remove it is still at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle.fileno()))
    except FileNotFoundError:
        return False
