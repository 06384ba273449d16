"""Upgrade of headers of model files of earlier versions to the present form, step by step.

Each step upgrades a header of one form to the next form, independently of later steps. A version that changes the form
adds its step at the end, and a small file of the old form to ``tests/files``.
"""

from collections.abc import Callable
from typing import Any

from ekfcore.errors import CheckpointError

__all__ = ["FORM", "upgraded"]

_Header = dict[str, Any]


def upgraded(header: _Header) -> _Header:
    """Return a header in the present form; KeyError or TypeError if an entry is missing.

    Raises
    ------
    CheckpointError
        If a later version wrote the file.
    """
    if header.get("form", 1) > FORM:
        raise CheckpointError("was written by a later version of ekfcore; install that, or a later one")
    for step in _STEPS[header.get("form", 1) - 1 :]:
        header = step(header)
    return header


def _to_2(header: _Header) -> _Header:
    """Collect architecture, unknown elements and node spacing in a table of the model, which has a type."""
    old, position = dict(header), dict(header["position"])
    model = {
        "type": "deep_potential",
        "architecture": old.pop("architecture"),
        "unknown": old.pop("unknown", []),  # older models have learned all their elements
        "spacing": position.pop("spacing", None),
    }
    return {"inputs": "", **old, "model": model, "position": position, "form": 2}


_STEPS: tuple[Callable[[_Header], _Header], ...] = (_to_2,)

FORM = len(_STEPS) + 1
"""The present form."""
