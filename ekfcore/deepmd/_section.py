"""Sections of an input of DeePMD-kit, which keep track of unused keys."""

from collections.abc import Iterator
from typing import Any

from ekfcore.errors import InputError

__all__ = ["Section"]


class Section:
    """A section of an input.

    Parameters
    ----------
    data : object
        Section as read from the file; refused if it is no table.
    source : str
        Name of the file in messages.
    name : str
        Keys that lead to the section, with dots.
    """

    def __init__(self, data: Any, source: str, name: str = "") -> None:
        if not isinstance(data, dict):
            raise InputError(f"{source}: {name or 'the input'} must be a table, got {data!r}")
        # Keys that begin with an underscore are comments in DeePMD-kit.
        self._data = {key: value for key, value in data.items() if not key.startswith("_")}
        self._source, self._name = source, name
        self._sections: list[Section] = []

    def __contains__(self, key: str) -> bool:
        return self._data.get(key) is not None

    def take(self, *keys: str, default: Any = None) -> Any:
        """Return the value of a key, which may have several names, and mark it as used."""
        found = [self._data.pop(key) for key in keys if key in self._data]
        return found[0] if found and found[0] is not None else default

    def section(self, key: str) -> "Section":
        """Return the section below a key; an empty one if the key is missing."""
        value = self.take(key, default={})
        self._sections.append(Section(value, self._source, self.full(key)))
        return self._sections[-1]

    def need(self, *keys: str) -> Any:
        """Return the value of a required key."""
        value = self.take(*keys)
        if value is None:
            raise self.wrong(f"{self.full(keys[0])} is missing")
        return value

    def only(self, key: str, *allowed: Any, otherwise: str = "") -> None:
        """Refuse a value that would change the model or the training in an unsupported way.

        Parameters
        ----------
        key : str
            Its name.
        *allowed : object
            Supported values; the first one is the default.
        otherwise : str
            Advice for other values.

        Raises
        ------
        InputError
            If the value is another one.
        """
        value = self.take(key, default=allowed[0])
        if value not in allowed:
            others = " or ".join(repr(choice) for choice in allowed)
            raise self.wrong(f"{self.full(key)} = {value!r} is not supported, only {others}{otherwise}")

    def wrong(self, rule: str) -> InputError:
        """Return an error that names the file."""
        return InputError(f"{self._source}: {rule}")

    def left(self) -> Iterator[str]:
        """Yield the names of the unused keys of this section and of those below it."""
        yield from (self.full(key) for key in self._data)
        for section in self._sections:
            yield from section.left()

    def full(self, key: str) -> str:
        """Return a key with the names of the sections above it."""
        return f"{self._name}.{key}" if self._name else key
