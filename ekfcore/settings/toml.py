"""Tables from a TOML file, and single keys from the command line."""

import tomllib
from pathlib import Path
from typing import Any

from ekfcore.errors import InputError

__all__ = ["read_toml", "set_key"]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises
    ------
    InputError
        If the file cannot be read or is not TOML; the message names the line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a TOML file with the settings") from None
    except (ValueError, RecursionError) as error:  # includes wrong encodings and brackets nested too deeply
        raise InputError(f"{path}: is not TOML: {error}") from None


def set_key(tables: dict[str, Any], assignment: str) -> None:
    """Set one key from ``TABLE.KEY=VALUE``; a value that is not TOML is text.

    Raises
    ------
    InputError
        If the assignment has another form, or TABLE is not a table.

    Examples
    --------
    >>> tables = {"training": {"epochs": 10}}
    >>> set_key(tables, "training.epochs=3")
    >>> set_key(tables, "optimizer.preset=rlekf")
    >>> tables
    {'training': {'epochs': 3}, 'optimizer': {'preset': 'rlekf'}}
    """
    name, equals, text = assignment.partition("=")
    table, dot, key = name.strip().partition(".")
    if not (equals and dot and table and key):
        raise InputError(f"--set must read TABLE.KEY=VALUE, as optimizer.block_size=1024, got {assignment!r}")
    try:
        lines = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # not TOML, or a number of thousands of digits
        lines = {}
    section = tables.setdefault(table, {})
    if not isinstance(section, dict):
        raise InputError(f"--set {assignment}: {table} is no table but {section}; change the file")
    section[key] = lines["value"] if len(lines) == 1 else text.strip()
