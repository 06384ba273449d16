"""Frames and selection of a round as files for the user."""

import io
from collections.abc import Sequence
from pathlib import Path

from ekfcore.atoms import Frame
from ekfcore.dynamics.explore import Trajectory
from ekfcore.files import write_csv, write_text

from .selection import Selection

__all__ = ["write_frames", "write_selection"]


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write labelled frames as extended XYZ; the file is written as a whole or not at all."""
    from ase.io import write

    text = io.StringIO()
    write(text, [frame.to_ase() for frame in frames], format="extxyz")
    write_text(path, text.getvalue())


def write_selection(path: Path, runs: Sequence[Trajectory], selection: Selection) -> None:
    """Write the outcome and the value of each explored frame as CSV."""
    taken = {k: position for position, k in enumerate(selection.chosen, start=1)}
    frames = [(run, frame) for run in runs for frame in run.frames]
    columns = enumerate(zip(frames, selection.values, selection.outcomes, strict=True))
    rows = ([run.temperature, f.source, x, outcome.value, taken.get(k, "")] for k, ((run, f), x, outcome) in columns)
    write_csv(path, ["temperature", "frame", "value", "fate", "taken"], rows)
