"""One-line messages for validation errors of pydantic."""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["explain"]


def explain(error: ValidationError, data: dict[str, Any], settings: type[BaseModel], source: str) -> str:
    """Return a message on the first error: its key, the rule and the value.

    Parameters
    ----------
    error : ValidationError
        Error that pydantic raised for `data`.
    data : dict
        The tables that were validated.
    settings : type
        The model of all tables.
    source : str
        File, with which the message begins.
    """
    found = error.errors(include_url=False)
    path = _path(data, found[0])
    # A key that may be text or a table gives an error for each type; errors within the table are more specific.
    first = max((e for e in found if _path(data, e)[: len(path)] == path), key=lambda e: len(_path(data, e)))
    path, kind = _path(data, first), first["type"]
    key = _name(path)
    if kind == "missing":
        return f"{source}: {_missing(path)}"
    if kind == "extra_forbidden":
        return f"{source}: unknown key {key}; {_suggest(path, settings)}"
    if kind == "model_type":
        return f"{source}: {key} must be a table [{key}], got {_show(_lookup(data, path))}"
    if kind == "value_error" and isinstance(_lookup(data, path), dict):
        # A rule on a whole table begins with one of its keys, in backquotes, and contains the value.
        return f"{source}: " + re.sub(r"`(\w+)`", rf"{key}.\1", str(first["ctx"]["error"]))
    # A key of several possible types gives an error for each of them.
    rules = dict.fromkeys(_rule(e) for e in found if _path(data, e) == path)
    rule = " or ".join(rules).replace(" or be ", " or ")
    return f"{source}: {key} must {rule}, got {_show(_lookup(data, path))}"


def _path(data: Any, error: Any) -> tuple[str | int, ...]:
    """Return the keys and indices that lead to an error, without the type names that pydantic inserts."""
    path: list[str | int] = []
    for part in error["loc"]:
        if isinstance(data, dict) and (part in data or (error["type"] == "missing" and part == error["loc"][-1])):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            continue
        path.append(part)
    return tuple(path)


def _name(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _missing(path: tuple[str | int, ...]) -> str:
    """Return what is missing and what to write, as text."""
    if path in (("data",), ("data", "train")):
        return 'data.train is missing; name at least one file: [data] train = ["train.xyz"]'
    *above, last = path
    table = _name(tuple(above))
    return f"{_name(path)} is missing; add " + (f"{last} = ... to [{table}]" if above else f"a table [{last}]")


def _rule(error: Any) -> str:
    """Return what follows "must"."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    text = re.sub(r"^\w+ should | after validation, not \d+|valid | or instance of \w+", "", error["msg"])
    for long, short in _SHORTER.items():
        text = text.replace(long, short)
    return text


_SHORTER = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "a dictionary": "a table",
    "a integer": "an integer",
}


def _suggest(path: tuple[str | int, ...], settings: type[BaseModel]) -> str:
    """Return the most similar known key as a question, from the same table or else from another; or all known keys."""
    *above, last = (part for part in path if isinstance(part, str))
    tables = dict(_tables(settings))
    prefix = "".join(f"{part}." for part in above)
    known = tables[prefix]
    if near := difflib.get_close_matches(last, known, n=1):
        return f"did you mean {_shown(prefix + near[0], tables)}?"
    homes = {key: prefix + key for prefix, keys in tables.items() if prefix for key in keys}
    if near := difflib.get_close_matches(last, homes, n=1):
        return f"did you mean {homes[near[0]]}?"
    return f"known are {', '.join(key if above else _shown(key, tables) for key in known)}"


def _shown(key: str, tables: dict[str, list[str]]) -> str:
    """Return a key as it is written, a table in brackets."""
    return f"[{key}]" if f"{key}." in tables else key


def _tables(table: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield each table with its keys, by the prefix of its keys."""
    yield prefix, list(table.model_fields)
    for name, field in table.model_fields.items():
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _tables(kind, f"{prefix}{name}.")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield a type and its type arguments, recursively."""
    yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _lookup(data: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        data = data[part]
    return data


def _show(value: Any) -> str:
    """Return a value as it stands in TOML, shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
