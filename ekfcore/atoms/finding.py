"""Findings of the checks of frames, each in one line."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from .frame import Frame
from .inspection import Inspection, file_of

__all__ = ["Finding", "name_frames"]

_NAMED = 5  # number of frames that a line names; the others are counted


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Finding:
    """A possible fault of frames, to look at before a training.

    Parameters
    ----------
    check : str
        Name of the check, as ``"zero forces"``.
    frames : tuple of Frame
        The frames at fault.
    text : str
        Description of the fault, with the values found and advice.
    """

    check: str
    frames: tuple[Frame, ...]
    text: str

    @classmethod
    def of(cls, check: str, inspection: Inspection, indices: Iterable[int], text: str) -> Self:
        """Return a finding on the frames with these indices."""
        return cls(check=check, frames=tuple(inspection.frames[index] for index in sorted(indices)), text=text)

    def __str__(self) -> str:
        """Return one line, which begins with the file and the numbers of the frames."""
        return f"{name_frames(self.frames)}: {self.text}"


def name_frames(frames: Sequence[Frame]) -> str:
    """Return files and numbers of the first few frames, and the number of further frames.

    Parameters
    ----------
    frames : sequence of Frame
        At least one.

    Returns
    -------
    str
        As in ``"a.xyz, frames 3, 7; b.xyz, frame 2; and 12 more"``.
    """
    files = defaultdict(list)
    for frame in frames[:_NAMED]:
        file, number = file_of(frame)
        files[file].append(number)
    parts = []
    for file, numbers in files.items():
        known = [number for number in numbers if number]
        word = "frames" if len(known) > 1 else "frame"
        parts.append(f"{file}, {word} {', '.join(known)}" if known else file)
    rest = len(frames) - _NAMED
    return "; ".join(parts) + (f" and {rest} more" if rest > 0 else "")
