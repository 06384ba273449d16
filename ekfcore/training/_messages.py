"""One line for what pydantic found wrong with a CONFIG."""

import difflib
import json
import re
from typing import Any

from pydantic import BaseModel, ValidationError

__all__ = ["explain"]


def explain(error: ValidationError, data: dict[str, Any], settings: type[BaseModel], source: str) -> str:
    """Return the first thing that is wrong: where, its rule and the value.

    Parameters
    ----------
    error : ValidationError
        What pydantic raised for `data`.
    data : dict
        The tables that were validated.
    settings : type
        The model of all tables.
    source : str
        File that opens the line.
    """
    found = error.errors(include_url=False)
    path = tuple(str(part) for part in found[0]["loc"][:2])
    key = ".".join(path)
    kind = found[0]["type"]
    if kind == "missing":
        return f'{source}: data.train is missing; name at least one file: [data] train = ["train.xyz"]'
    if kind == "extra_forbidden":
        return f"{source}: unknown key {key}; {_suggest(path, settings)}"
    if kind == "model_type":
        return f"{source}: {key} must be a table [{key}], got {_show(_lookup(data, path))}"
    if len(path) == 1:
        # The rule of a whole table opens with a key of it, in backquotes, and tells the value.
        return f"{source}: " + re.sub(r"`(\w+)`", rf"{key}.\1", str(found[0]["ctx"]["error"]))
    place = _place(found[0])
    # A key that may be of several types gives an error for each of them.
    rules = dict.fromkeys(_rule(e) for e in found if _place(e) == place)
    rule = " or ".join(rules).replace(" or be ", " or ")
    return f"{source}: {place} must {rule}, got {_show(_lookup(data, found[0]['loc']))}"


def _place(error: Any) -> str:
    """Return the key, with the index of the entry of a list."""
    entries = "".join(f"[{part}]" for part in error["loc"][2:] if isinstance(part, int))
    return ".".join(str(part) for part in error["loc"][:2]) + entries


def _rule(error: Any) -> str:
    """Return what follows "must"."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    text = re.sub(r"^\w+ should | after validation, not \d+|valid ", "", error["msg"])
    for long, short in _SHORTER.items():
        text = text.replace(long, short)
    return text


_SHORTER = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a dictionary": "a table",
    "a integer": "an integer",
}


def _suggest(path: tuple[str, ...], settings: type[BaseModel]) -> str:
    """Name the known key that looks most like this one, first in the same table, then in the others."""
    tables = {name: list(_fields(field.annotation)) for name, field in settings.model_fields.items()}
    if len(path) == 1:
        near, known = difflib.get_close_matches(path[0], tables, n=1), [f"[{table}]" for table in tables]
        if near:
            return f"did you mean [{near[0]}]?"
    else:
        near, known = difflib.get_close_matches(path[1], tables[path[0]], n=1), tables[path[0]]
        if near:
            return f"did you mean {path[0]}.{near[0]}?"
    homes = {key: f"{table}.{key}" for table, keys in tables.items() for key in keys}
    near = difflib.get_close_matches(path[-1], homes, n=1)
    return f"did you mean {homes[near[0]]}?" if near else f"known are {', '.join(known)}"


def _fields(table: Any) -> dict[str, Any]:
    fields: dict[str, Any] = table.model_fields
    return fields


def _lookup(data: Any, path: tuple[Any, ...]) -> Any:
    """Return the value at a location, of which pydantic adds parts that name a type."""
    for part in path:
        known = part in data if isinstance(data, dict) else isinstance(part, int)
        data = data[part] if known else data
    return data


def _show(value: Any) -> str:
    """Return a value as it stands in TOML, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
