"""A label in a small file, between the worker that computed it and the ledger."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import InputError
from ekfcore.record_file import read_record, write_record

__all__ = ["read_receipt", "write_receipt"]

_CURE = "remove it to compute the label again"


def write_receipt(path: Path, frame: Frame, seconds: float) -> None:
    """Write the labels of a frame, which took so long to compute [s]; InputError if that is not possible."""
    labels = {"energy": frame.energy, "forces": frame.forces, "virial": frame.virial}
    known = {name: np.asarray(value).tolist() for name, value in labels.items() if value is not None}
    write_record(path, {**known, "seconds": seconds})


def read_receipt(path: Path, frame: Frame) -> tuple[Frame, float]:
    """Return the frame with the labels in the file, to the last bit, and how long they took [s].

    Raises
    ------
    InputError
        If it is not there, damaged, or of another frame.
    """
    found = read_record(path, _CURE)
    try:
        virial = np.array(found["virial"], dtype=np.float64) if "virial" in found else None
        forces = np.array(found["forces"], dtype=np.float64)
        labelled = replace(frame, energy=float(found["energy"]), forces=forces, virial=virial)
        validate_frame(labelled)
        return labelled, float(found["seconds"])
    except (KeyError, TypeError, ValueError) as error:  # an InputError of `validate_frame` among them
        raise InputError(f"{path} holds no label of this frame ({error}); {_CURE}") from None
