"""A section of an input of DeePMD-kit, which remembers the keys that nobody has asked for."""

from collections.abc import Iterator
from typing import Any

from ekfcore.errors import InputError

__all__ = ["Section"]


class Section:
    """A section of an input.

    Parameters
    ----------
    data : object
        What stands in the file; refused if it is no table.
    source : str
        What to call the file in messages.
    name : str
        Keys that lead to the section, with dots.
    """

    def __init__(self, data: Any, source: str, name: str = "") -> None:
        if not isinstance(data, dict):
            raise InputError(f"{source}: {name or 'the input'} must be a table, got {data!r}")
        # DeePMD-kit takes keys with an underscore for comments.
        self._data = {key: value for key, value in data.items() if not key.startswith("_")}
        self._source, self._name = source, name
        self._sections: list[Section] = []

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def take(self, *keys: str, default: Any = None) -> Any:
        """Return the value of a key, which may go by several names."""
        found = [self._data.pop(key) for key in keys if key in self._data]
        return found[0] if found and found[0] is not None else default

    def section(self, key: str) -> "Section":
        """Return the section below a key, empty if there is none."""
        value = self.take(key, default={})
        self._sections.append(Section(value, self._source, self.full(key)))
        return self._sections[-1]

    def need(self, *keys: str) -> Any:
        """Return the value of a key that cannot be left out."""
        value = self.take(*keys)
        if value is None:
            raise self.wrong(f"{self.full(keys[0])} is missing")
        return value

    def only(self, key: str, *allowed: Any, otherwise: str = "") -> None:
        """Refuse a value that would make another model or another training; no value is the first of the allowed.

        Parameters
        ----------
        key : str
            Its name.
        *allowed : object
            What it may be.
        otherwise : str
            What to do with the others.

        Raises
        ------
        InputError
            If it is another.
        """
        value = self.take(key, default=allowed[0])
        if value not in allowed:
            others = " or ".join(repr(choice) for choice in allowed)
            raise self.wrong(f"{self.full(key)} = {value!r} is not supported, only {others}{otherwise}")

    def wrong(self, rule: str) -> InputError:
        """Return an error of the file."""
        return InputError(f"{self._source}: {rule}")

    def left(self) -> Iterator[str]:
        """Yield the names of the keys that were not asked for, here and below."""
        yield from (self.full(key) for key in self._data)
        for section in self._sections:
            yield from section.left()

    def full(self, key: str) -> str:
        """Return a key with those that lead to it."""
        return f"{self._name}.{key}" if self._name else key
