"""The types of arguments that are neither numbers nor arrays: settings, states, layouts."""

from ekfcore.errors import InputError

__all__ = ["check_type"]


def check_type(value: object, expected: type, name: str) -> None:
    """Refuse an object of another class.

    Raises
    ------
    InputError
        With the name of the argument and both classes.
    """
    if not isinstance(value, expected):
        raise InputError(f"`{name}` must be {_article(expected)} {expected.__name__}, got {type(value).__name__}")


def _article(expected: type) -> str:
    return "an" if expected.__name__[0] in "AEIOU" else "a"
