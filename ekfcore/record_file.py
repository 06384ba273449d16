"""What a run has noted, in JSON: a digest in it finds every value that was altered since."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ekfcore.errors import InputError
from ekfcore.files import write_text

__all__ = ["file_digest", "read_record", "write_record"]

_DIGEST = "sha256"


def write_record(path: Path, data: Mapping[str, Any]) -> None:
    """Write a record, all of it or nothing.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    write_text(path, json.dumps({**data, _DIGEST: _digest(data)}, indent=1) + "\n")


def read_record(path: Path, cure: str) -> dict[str, Any]:
    """Read a record; one that was written before there was a digest has none.

    Parameters
    ----------
    path : Path
        The file.
    cure : str
        What to do where it is damaged.

    Raises
    ------
    InputError
        If it cannot be read, is no record, or was altered.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); {cure}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); {cure}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} is damaged (it holds no table); {cure}")
    if _DIGEST in data and data.pop(_DIGEST) != _digest(data):
        raise InputError(f"{path} was altered after it was written: its SHA-256 differs; {cure}")
    return data


def _digest(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
