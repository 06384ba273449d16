"""Frames from files, neighbours of atoms, and errors of predictions."""

from ekfcore.moved import moved_names

from .frame import Frame, validate_frame
from .neighbours import neighbour_pairs
from .reading import read_frames, split_frames
from .scores import Errors, errors

__all__ = ["Errors", "Frame", "errors", "neighbour_pairs", "read_frames", "split_frames", "validate_frame"]

__getattr__ = moved_names(__name__)
