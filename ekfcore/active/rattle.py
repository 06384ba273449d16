"""The first labels: rattled copies of the structures."""

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
        They are taken in turn.
    settings : StartSettings
        How many copies, and how far they go.
    seed : int
        Makes the displacements.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(settings.rattled):
        frame = structures[index % len(structures)]
        noise = settings.strain * rng.standard_normal((3, 3))
        strain = np.eye(3) + (noise + noise.T) / 2  # without a rotation
        moves = settings.amplitude * rng.standard_normal((frame.n_atoms, 3))
        if not frame.pbc.all() or frame.constraints:  # neither vacuum nor what is held is strained
            strain = np.eye(3)
        frames.append(
            replace(
                frame,
                cell=frame.cell @ strain,
                positions=_moved(frame, frame.positions @ strain + moves),
                energy=None,
                forces=None,
                virial=None,
                source=f"rattled copy {index} of {frame.source}",
            )
        )
    return frames


def _moved(frame: Frame, positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the positions as far as the constraints of a frame allow them."""
    if not frame.constraints:
        return positions
    atoms = frame.to_ase()
    atoms.set_positions(positions)  # type: ignore[no-untyped-call]
    allowed: NDArray[np.float64] = atoms.positions
    return allowed
