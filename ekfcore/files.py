"""Replace a file in one step, so that a failure leaves the old one as it was."""

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ekfcore.errors import InputError

__all__ = ["replace_file", "write_csv", "write_text"]


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
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
