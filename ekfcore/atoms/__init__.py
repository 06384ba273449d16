"""Atoms in and out: frames from files, neighbours, errors of predictions."""

from typing import TYPE_CHECKING, Any

from .frame import Frame, validate_frame
from .neighbours import neighbour_pairs
from .reading import read_frames, split_frames
from .scores import Errors, errors

__all__ = ["Errors", "Frame", "errors", "neighbour_pairs", "read_frames", "split_frames", "validate_frame"]

if TYPE_CHECKING:
    from .calculator import EKFCalculator as EKFCalculator
else:  # not in `__all__`, because it needs ASE: everything else here can be imported without

    def __getattr__(name: str) -> Any:
        if name == "EKFCalculator":
            from .calculator import EKFCalculator

            return EKFCalculator
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
