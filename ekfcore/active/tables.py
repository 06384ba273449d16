"""The files of a round that people look at."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ekfcore.atoms import Frame
from ekfcore.files import replace_file

from .explore import Trajectory
from .select import Selection

__all__ = ["write_frames", "write_selection"]


def write_frames(path: Path, frames: Sequence[Frame]) -> None:
    """Write labelled frames as extended XYZ, all of them or nothing."""
    from ase.io import write

    text = io.StringIO()
    write(text, [frame.to_ase() for frame in frames], format="extxyz")
    with replace_file(path) as handle:
        handle.write(text.getvalue().encode())


def write_selection(path: Path, runs: Sequence[Trajectory], selection: Selection) -> None:
    """Write the fate and the value of each explored frame as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["temperature", "frame", "value", "fate", "taken"])
    taken = {k: position for position, k in enumerate(selection.chosen, start=1)}
    frames = [(run, frame) for run in runs for frame in run.frames]
    for k, ((run, frame), value, fate) in enumerate(zip(frames, selection.values, selection.fates, strict=True)):
        table.writerow([run.temperature, frame.source, value, fate.value, taken.get(k, "")])
    with replace_file(path) as handle:
        handle.write(text.getvalue().encode())
