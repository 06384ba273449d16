"""Result files: a worker leaves a label in one until the ledger has it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ekfcore.atoms import Frame, validate_frame
from ekfcore.errors import InputError
from ekfcore.record_file import read_record, write_record

__all__ = ["read_result", "write_result"]

_CURE = "remove it to compute the label again"


def write_result(path: Path, frame: Frame, seconds: float) -> None:
    """Write the labels of a frame and the seconds that they took [s]; InputError if the file cannot be written."""
    labels = {"energy": frame.energy, "forces": frame.forces, "virial": frame.virial}
    present = {name: np.asarray(value).tolist() for name, value in labels.items() if value is not None}
    write_record(path, {**present, "seconds": seconds})


def read_result(path: Path, frame: Frame) -> tuple[Frame, float]:
    """Return the frame with the labels in the file, bit for bit, and the seconds that they took [s].

    Raises
    ------
    InputError
        If the file is missing, damaged, or of another frame.
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
