"""What a user hands over that is neither a number nor an array: settings, states, layouts."""

from ekfcore.errors import InputError

__all__ = ["check_kind"]


def check_kind(value: object, kind: type, name: str) -> None:
    """Refuse an object of another class.

    Raises
    ------
    InputError
        With the name of the argument and both classes.
    """
    if not isinstance(value, kind):
        raise InputError(f"`{name}` must be {_article(kind)} {kind.__name__}, got {type(value).__name__}")


def _article(kind: type) -> str:
    return "an" if kind.__name__[0] in "AEIOU" else "a"
