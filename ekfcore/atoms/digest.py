"""Digests of the inputs of a stored result."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import Frame

__all__ = ["digest_of"]

_FIELDS = ("numbers", "positions", "cell", "pbc", "energy", "forces", "virial", "weight")


def digest_of(*parts: bytes | object, frames: Sequence[Frame] = ()) -> str:
    """Return the SHA-256 of bytes, of JSON-ready objects, and of frames without their source."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
    for frame in frames:
        given = [{name: np.asarray(values).tolist() for name, values in sorted(frame.arrays.items())}, dict(frame.info)]
        held = [constraint.todict() for constraint in frame.constraints]
        digest.update(json.dumps([given, held], sort_keys=True, default=_plain).encode())
        for name in _FIELDS:
            value = getattr(frame, name)
            digest.update(name.encode() if value is not None else b"-")
            digest.update(np.ascontiguousarray(value if value is not None else 0.0).tobytes())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return np.asarray(value).tolist()  # indices of a constraint
