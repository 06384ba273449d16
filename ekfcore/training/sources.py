"""Where frames come from: the entries of ``train`` and ``test`` in CONFIG."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field

from ekfcore.atoms import Frame, read_frames

from .table import Table

__all__ = ["Source", "Sources", "read_sources"]


class Source(Table):
    """A place with frames of which more is to be said than where it is; see `read_frames` and `Frame`."""

    path: str
    format: str | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0

    def starting_from(self, folder: Path) -> Self:
        """Return the same with an absolute path, where a relative one starts from `folder`."""
        return self.model_copy(update={"path": str(folder / Path(self.path).expanduser())})


Sources = Annotated[list[str | Source], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
"""A path, a table, or a list of them."""


def read_sources(sources: Sequence[str | Source], *, require: Collection[str]) -> list[Frame]:
    """Read all frames, see `read_frames`."""
    frames = []
    for source in (Source(path=source) if isinstance(source, str) else source for source in sources):
        found = read_frames(source.path, require=require, format=source.format)
        frames += [replace(frame, weight=source.weight) for frame in found]
    return frames
