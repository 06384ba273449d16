"""Elements from the names and numbers of atoms in files."""

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._extra import load_extra

__all__ = ["atomic_numbers", "check_map", "type_names"]

_TypeMap = Sequence[str] | Mapping[str, str] | None

# Names that dpdata gives to types of files without names, counted from 0.
_UNNAMED = re.compile(r"type_?(\d+)$", re.IGNORECASE)


def atomic_numbers(names: Sequence[object], source: str, type_map: _TypeMap = None) -> NDArray[np.int64]:
    """Return the atomic number of each name.

    Parameters
    ----------
    names : sequence
        Symbols, labels or type numbers.
    source : str
        Name of the file in messages.
    type_map : sequence or mapping, optional
        Elements of the types 1, 2, ...; or the element of each name.

    Returns
    -------
    array of int, shape (len(names),)
        Atomic numbers.

    Raises
    ------
    InputError
        If a name is no element and the type map does not contain it.
    """
    if isinstance(type_map, Sequence) and not any(_number(str(name)) for name in names):
        raise InputError(
            f"{source}: names its elements itself ({names[0]}), and type_map is a list for types that are numbers; "
            f'remove it, or write type_map = {{ "{names[0]}" = "..." }}'
        )
    found = {name: _atomic_number(str(name), source, type_map) for name in dict.fromkeys(names)}
    return np.array([found[name] for name in names], dtype=np.int64)


def check_map(names: Collection[object], source: str, type_map: _TypeMap) -> None:
    """Refuse a mapping none of whose names occur in the file.

    Raises
    ------
    InputError
        One line with the names in the file.
    """
    held = {str(name) for name in names}
    known = held | {str(_number(name)) for name in held}
    if isinstance(type_map, Mapping) and held and not known & set(type_map):
        raise InputError(
            f"{source}: has none of {', '.join(type_map)}, which type_map names; it has {', '.join(sorted(held)[:12])}"
        )


def type_names(type_map: _TypeMap, count: int, source: str, *, first: int) -> list[str]:
    """Return the elements of `count` numbered types, counted from `first`.

    Raises
    ------
    InputError
        If the type map lacks a type.
    """
    if isinstance(type_map, Mapping):
        names = [type_map.get(str(first + n)) for n in range(count)]
    else:
        names = [*(type_map or ()), *[None] * count][:count]
    if None in names:
        number = first + names.index(None)
        raise InputError(f"{source}: type {number} must be an element; name all of them, as in {_example(first)}")
    return [name for name in names if name is not None]


def _atomic_number(name: str, source: str, type_map: _TypeMap) -> int:
    known = load_extra("ase.data").atomic_numbers
    number = _number(name)
    if isinstance(type_map, Mapping):
        # In the mapping, types are also counted from 1, unless it contains the name itself.
        symbol = type_map.get(name, type_map.get(str(number), name))
    elif type_map is not None and number is not None:
        if not 1 <= number <= len(type_map):
            raise InputError(f"{source}: type {name} must have an element, type_map names {len(type_map)} from 1 on")
        symbol = type_map[number - 1]
    else:
        symbol = name
    if symbol != name and known.get(symbol, 0) < 1:
        raise InputError(f"{source}: type_map must give chemical symbols, got {symbol!r} for {name}; correct it")
    symbol = symbol.capitalize()  # files may write CU for copper, as for ASE
    if known.get(symbol, 0) < 1:
        example = _example(1) if number is not None else f'type_map = {{"{name}" = "..."}}'
        raise InputError(f"{source}: each name must be a chemical symbol, got {name!r}; say which it is with {example}")
    return int(known[symbol])


def _number(name: str) -> int | None:
    """Return the number of a numbered type, counted from 1; None for other names."""
    if unnamed := _UNNAMED.match(name):
        return int(unnamed[1]) + 1
    return int(name) if name.isdecimal() else None


def _example(first: int) -> str:
    return f'type_map = ["O", "H"] for the types {first}, {first + 1}'
