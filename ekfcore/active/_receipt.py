"""A label in a small file, between the worker that computed it and the ledger."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from ekfcore.atoms import Frame
from ekfcore.files import write_text

__all__ = ["read_receipt", "write_receipt"]


def write_receipt(path: Path, frame: Frame, seconds: float) -> None:
    """Write the labels of a frame, which took so long to compute [s]; InputError if that is not possible."""
    labels = {"energy": frame.energy, "forces": frame.forces, "virial": frame.virial}
    known = {name: np.asarray(value).tolist() for name, value in labels.items() if value is not None}
    write_text(path, json.dumps({**known, "seconds": seconds}))


def read_receipt(path: Path, frame: Frame) -> tuple[Frame, float]:
    """Return the frame with the labels in the file, to the last bit, and how long they took [s]; OSError without it."""
    found = json.loads(path.read_text(encoding="utf-8"))
    virial = np.array(found["virial"]) if "virial" in found else None
    labelled = replace(frame, energy=found["energy"], forces=np.array(found["forces"]), virial=virial)
    return labelled, found["seconds"]
