"""Frames in the form from which DeePMD-kit computes statistics of training data."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.atoms.types import atom_types
from ekfcore.errors import InputError

__all__ = ["System", "Systems", "box_of"]


@dataclass(frozen=True, eq=False)
class System:
    """F frames of the same N atoms; DeePMD-kit reads attributes of these names."""

    coord: NDArray[np.float64]  # (F, 3 N) [Å]
    type: NDArray[np.int32]  # (F, N)
    box: NDArray[np.float64]  # (F, 9) [Å], meaningless unless periodic
    energy: NDArray[np.float64]  # (F, 1) [eV]
    pbc: bool
    dirs: tuple[str, ...] = ("memory",)

    def get_natoms(self) -> int:
        """Return N."""
        return int(self.type.shape[1])

    def _load_set(self, name: str) -> dict[str, NDArray[Any]]:
        return {"coord": self.coord, "type": self.type, "box": self.box}


@dataclass(frozen=True, eq=False)
class Systems:
    """Systems of frames; replaces a ``deepmd.utils.data_system.DeepmdDataSystem`` when neighbours are counted."""

    data_systems: tuple[System, ...]
    n_types: int

    @classmethod
    def of(cls, frames: Sequence[Frame], elements: Sequence[str]) -> Self:
        """Group frames with energies by their atoms and periodicity.

        Raises
        ------
        InputError
            If there are no frames, or a frame does not fit or has no energy.
        """
        if not frames:
            raise InputError("the statistics of a model need at least one training frame, got none")
        groups: dict[tuple[bool, bytes], list[Frame]] = defaultdict(list)
        for frame in frames:
            if frame.energy is None:
                raise InputError(f"{frame.source}: has no energy; the statistics of a model need one")
            groups[box_of(frame) is not None, atom_types(frame, elements).tobytes()].append(frame)
        return cls(tuple(_gather(group, elements) for group in groups.values()), len(elements))

    @property
    def system_dirs(self) -> tuple[str, ...]:
        """One name for each system."""
        return tuple("memory" for _ in self.data_systems)

    def get_batch(self) -> None:
        """Do nothing: all frames are in memory."""

    def get_ntypes(self) -> int:
        """Return the number of elements."""
        return self.n_types

    def samples(self, asarray: Any) -> Iterator[dict[str, Any]]:
        """Yield a dict for each system as DeePMD-kit's loader does; `asarray` makes the tensors."""
        for system in self.data_systems:
            n_frames, n_atoms = system.type.shape
            counts = np.bincount(system.type[0], minlength=self.n_types)
            yield {
                "coord": asarray(system.coord.reshape(n_frames, n_atoms, 3)),
                "atype": asarray(system.type),
                "box": asarray(system.box) if system.pbc else None,
                "natoms": asarray(np.tile([n_atoms, n_atoms, *counts], (n_frames, 1))),
                "energy": asarray(system.energy),
                "find_energy": np.float32(1.0),
            }


def _gather(frames: Sequence[Frame], elements: Sequence[str]) -> System:
    n = len(frames)
    return System(
        coord=np.stack([frame.positions for frame in frames]).reshape(n, -1),
        type=np.tile(atom_types(frames[0], elements).astype(np.int32), (n, 1)),
        box=np.stack([frame.cell for frame in frames]).reshape(n, 9),
        energy=np.array([[frame.energy] for frame in frames]),
        pbc=box_of(frames[0]) is not None,
    )


def box_of(frame: Frame) -> NDArray[np.float64] | None:
    """Return the lattice vectors of a crystal, shape (9,) [Å], or None for a molecule.

    Raises
    ------
    InputError
        If the frame is periodic along some directions only, which DeePMD-kit does not support.
    """
    if not frame.pbc.any():
        return None
    if not frame.pbc.all():
        raise InputError(
            f"{frame.source}: DeePMD-kit knows frames that repeat along all directions or none, "
            f"got pbc {frame.pbc.tolist()}; put vacuum into the cell and let it repeat"
        )
    return frame.cell.reshape(9)
