"""Errors that a user can act on."""

__all__ = ["CheckpointError", "EKFError", "FilterError", "InputError", "RankError", "one_line"]


class EKFError(Exception):
    """Base of every error that this package raises on purpose.

    The message is one line: what is wrong, where, the value found, and what to do.
    The command line prints it without a traceback and exits with code 2. What it quotes may hold any character: those
    that would break the line, or that a terminal would obey, are escaped.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in str(message)))


class InputError(EKFError, ValueError):
    """Something the user gave (a file, a setting, an array) breaks a rule."""


class CheckpointError(EKFError):
    """A saved file cannot be used: truncated, altered, or of another version."""


class FilterError(EKFError):
    """An update broke down numerically; the state before it is intact."""


class RankError(EKFError):
    """Another process of the run has ended, or does not answer; what was saved is intact."""


def one_line(error: BaseException, length: int = 160) -> str:
    """Return the class and the first line of an error that others raised, cut off at so many characters."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:length]
