"""A labelled frame, prepared for a model."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential, Environment, NodalEnvironment, NodalPotential

__all__ = ["Sample", "prepare_samples"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sample:
    """Geometry and labels of a frame of N atoms in the library of the weights.

    Parameters
    ----------
    environment : Environment or NodalEnvironment
        What the model sees.
    energy : array, 0-d
        [eV]
    forces : array, shape (N, 3)
        [eV/Å]
    virial : array, shape (3, 3), or None
        [eV]
    n_atoms : int
        N.
    """

    environment: Environment | NodalEnvironment
    energy: Array
    forces: Array
    virial: Array | None
    n_atoms: int


def prepare_samples(model: DeepPotential | NodalPotential, frames: Sequence[Frame], *, like: Array) -> Iterator[Sample]:
    """Prepare labelled frames; `like` gives library, dtype and device.

    Raises
    ------
    InputError
        If a frame does not fit the model.
    """
    xp = array_namespace(like)
    kind = {"dtype": like.dtype, "device": like.device}
    for frame in frames:
        yield Sample(
            environment=model.environment(frame, like=like),
            energy=xp.asarray(frame.energy, **kind),
            forces=xp.asarray(frame.forces, **kind),
            virial=None if frame.virial is None else xp.asarray(frame.virial, **kind),
            n_atoms=frame.n_atoms,
        )
