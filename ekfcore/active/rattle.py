"""Rattled copies of the structures, for the first labels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame

from .settings import StartSettings

__all__ = ["rattled"]


def rattled(structures: Sequence[Frame], settings: StartSettings, seed: int) -> list[Frame]:
    """Return displaced and strained copies of some structures, without labels.

    Parameters
    ----------
    structures : sequence of Frame
        Structures, copied in turn.
    settings : StartSettings
        Number of copies, and sizes of displacements and strains.
    seed : int
        Seed of the displacements and strains.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(settings.rattled):
        frame = structures[index % len(structures)]
        noise = settings.strain * rng.standard_normal((3, 3))
        strain = np.eye(3) + (noise + noise.T) / 2  # symmetric: no rotation
        displacements = settings.amplitude * rng.standard_normal((frame.n_atoms, 3))
        if not frame.pbc.all() or frame.constraints:  # a strain would stretch vacuum, or move fixed atoms
            strain = np.eye(3)
        frames.append(
            replace(
                frame,
                cell=frame.cell @ strain,
                positions=_constrained(frame, frame.positions @ strain + displacements),
                energy=None,
                forces=None,
                virial=None,
                source=f"rattled copy {index} of {frame.source}",
            )
        )
    return frames


def _constrained(frame: Frame, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the positions, corrected by the constraints of the frame."""
    if not frame.constraints:
        return positions
    atoms = frame.to_ase()
    atoms.set_positions(positions)  # type: ignore[no-untyped-call]
    allowed: NDArray[np.float64] = atoms.positions
    return allowed
