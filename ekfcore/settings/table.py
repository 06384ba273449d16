"""Base class of the tables of CONFIG, and functions that read and check them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ekfcore.errors import InputError

from ._messages import explain
from .toml import read_toml, set_key

__all__ = ["Table", "checked", "read_table"]


class Table(BaseModel):
    """Base of all tables: unknown keys are refused, and text is not converted to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, validate_default=True)

    @classmethod
    def for_data(cls, data: dict[str, Any]) -> type[Self]:
        """Return the class for these data: this class, unless the value of a key determines the other keys."""
        return cls


_T = TypeVar("_T", bound=Table)


def checked(table: type[_T], data: dict[str, Any], source: str) -> _T:
    """Return the table with these keys.

    Raises
    ------
    InputError
        One line that names the source, the key, its rule and the value.
    """
    try:
        table = table.for_data(data)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    try:
        return table.model_validate(data)
    except ValidationError as error:
        raise InputError(explain(error, data, table, source)) from None


def read_table(table: type[_T], path: Path, overrides: Sequence[str] = ()) -> _T:
    """Read a TOML file.

    Parameters
    ----------
    table : type
        Class of the table.
    path : Path
        TOML file.
    overrides : sequence of str
        ``KEY=VALUE`` as in ``optimizer.block_size=1024``, overriding the file. The value is TOML; a value that is not
        TOML is text, so that words need no quotes.

    Raises
    ------
    InputError
        One line that names the file, the key, its rule and the value.
    """
    data = read_toml(path)
    for override in overrides:
        set_key(data, override)
    return checked(table, data, str(path))
