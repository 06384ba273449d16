"""Sources of frames: the entries of ``train`` and ``test`` in CONFIG."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field

from ekfcore.atoms import Frame, read_frames
from ekfcore.settings.table import Table

__all__ = ["Source", "Sources", "read_sources"]


class Source(Table):
    """A source of frames with options beside its path; see `read_frames` and `Frame`.

    Parameters
    ----------
    path : str
        A file, a folder, a group of an HDF5 file, or a pattern of them.
    format : str, optional
        Its name in dpdata or in ASE, if it cannot be recognised from the file.
    weight : float
        Factor on the weights of the frames in the file, which are 1 where it gives none.
    type_map : list or table, optional
        Elements of numbered types, or the element of each name that is not a chemical symbol.
    energy_key, forces_key, virial_key, stress_key, weight_key : str, optional
        Names of the labels in files that ASE reads.
    energy_unit, length_unit : str, optional
        Units of extended XYZ or of n2p2, as ``"hartree"`` and ``"bohr"``.
    keep_unconverged : bool
        Keep the frames whose electronic steps did not converge.
    """

    path: str
    format: str | None = None
    weight: Annotated[float, Field(gt=0)] = 1.0
    type_map: list[str] | dict[str, str] | None = None
    energy_key: str | None = None
    forces_key: str | None = None
    virial_key: str | None = None
    stress_key: str | None = None
    weight_key: str | None = None
    energy_unit: str | None = None
    length_unit: str | None = None
    keep_unconverged: bool = False

    def starting_from(self, folder: Path) -> Self:
        """Return the same source with an absolute path; a relative one starts from `folder`."""
        return self.model_copy(update={"path": str(folder / Path(self.path).expanduser())})


Sources = Annotated[list[str | Source], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
"""A path, a table, or a list of them."""


def read_sources(
    sources: Sequence[str | Source], *, require: Collection[str], elements: Sequence[str] | None = None
) -> list[Frame]:
    """Read all frames, see `read_frames`; `elements` are those of the model, if they are known."""
    frames = []
    for source in (Source(path=source) if isinstance(source, str) else source for source in sources):
        options = source.model_dump(exclude={"path", "weight"})
        found = read_frames(source.path, require=require, elements=elements, **options)
        frames += [replace(frame, weight=frame.weight * source.weight) for frame in found]
    return frames
