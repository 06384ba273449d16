"""Replace a file in one step, so that a failure leaves the old one as it was; keep a folder to one process."""

import contextlib
import csv
import io
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ekfcore.errors import InputError

__all__ = ["LOCK_FILE", "is_vacant", "locked", "make_folder", "replace_file", "sweep", "write_csv", "write_text"]

_log = logging.getLogger(__name__)

LOCK_FILE = ".lock"
"""Name of the file in a folder that a process keeps to itself."""
_PART = ".part"  # how the names of unfinished files end, which begin with a dot


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file for reading and writing that takes the place of `path` once the block has ended without an error.

    Raises
    ------
    InputError
        If the file cannot be written; nothing is left behind, and what stood at `path` is intact.
    """
    target = Path(path)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_PART, dir=target.parent)
        with os.fdopen(descriptor, "w+b") as handle:
            yield handle
            handle.flush()
            os.fsync(descriptor)
        # mkstemp makes files that only the owner can read.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror or error}); what was there before is unchanged: "
            "free some space or choose another place, and run again"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write text in UTF-8 as the whole of a file, see `replace_file`."""
    with replace_file(path) as file:
        file.write(text.encode())


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table with a line of names as the whole of a file, see `replace_file`."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_text(path, text.getvalue())


def is_vacant(folder: Path) -> bool:
    """Return whether a folder is not there yet, or holds only what a process that was killed leaves: hidden files."""
    return not folder.exists() or (
        folder.is_dir() and all(path.name.startswith(".") and path.is_file() for path in folder.iterdir())
    )


def make_folder(path: Path) -> None:
    """Make the folder that a command writes, and see that it can be written; it may be there.

    Raises
    ------
    InputError
        If it cannot.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}); choose another folder with --out") from None


def sweep(path: Path) -> None:
    """Remove what processes that were killed in `replace_file` have left of a file, or of all files in a folder.

    No other process may be at work on them.
    """
    folder, name = (path, "*") if path.is_dir() else (path.parent, path.name)
    for left in folder.glob(f".{name}.*{_PART}"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, does: str) -> Iterator[None]:
    """Keep a file or a folder to this process as long as the block runs; the lock ends with the process in any case.

    Parameters
    ----------
    path : Path
        A folder that is there, with ``.lock`` in it, or a file, with ``NAME.lock`` beside it.
    does : str
        What another process would be doing with it, as ``"trains in"``.

    Raises
    ------
    InputError
        If another process has locked it, or the lock cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        _log.warning("%s: is not kept from other processes, for which this system has no locks", path)
        yield
        return
    lock = path / LOCK_FILE if path.is_dir() else path.with_suffix(".lock")
    try:
        handle = lock.open("w")
    except OSError as error:
        raise InputError(f"{lock} cannot be made ({error.strerror}); choose another place") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ours = lock.stat().st_ino == os.fstat(handle.fileno()).st_ino  # not that of a process that has just ended
        except (BlockingIOError, FileNotFoundError):
            ours = False
        if not ours:
            raise InputError(f"{path}: another process {does} it; wait for its end, or stop it")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
