"""Headers of model files as earlier versions wrote them, brought to the present form one step after the other.

Each step makes of a header of its form one of the next, and knows nothing of those after it. A version that changes
the form adds its step at the end, and a small file that it wrote to ``tests/files``.
"""

from collections.abc import Callable
from typing import Any

from ekfcore.errors import CheckpointError

__all__ = ["FORM", "upgraded"]

_Header = dict[str, Any]


def upgraded(header: _Header) -> _Header:
    """Return a header in the present form; KeyError or TypeError where it lacks what its version had.

    Raises
    ------
    CheckpointError
        If a later version wrote it.
    """
    if header.get("form", 1) > FORM:
        raise CheckpointError("was written by a later version of ekfcore; install that, or a later one")
    for step in _STEPS[header.get("form", 1) - 1 :]:
        header = step(header)
    return header


def _to_2(header: _Header) -> _Header:
    """Give the model a table of its own with a type, and the distance of its nodes, which was the training's."""
    old, position = dict(header), dict(header["position"])
    model = {
        "type": "deep_potential",
        "architecture": old.pop("architecture"),
        "unknown": old.pop("unknown", []),  # older ones know all their elements
        "spacing": position.pop("spacing", None),
    }
    return {"inputs": "", **old, "model": model, "position": position, "form": 2}


_STEPS: tuple[Callable[[_Header], _Header], ...] = (_to_2,)

FORM = len(_STEPS) + 1
"""The present form."""
