"""A labelled frame, prepared for a model."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from array_api_compat import array_namespace, is_array_api_obj, size

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential

__all__ = ["Sample", "prepare_sample"]

_ITEM = 8  # [bytes] of a number in double precision


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sample:
    """Geometry and labels of a frame of N atoms in the library of the weights.

    Parameters
    ----------
    environment : object
        Frame as the model prepared it.
    energy : array, 0-d, or None
        [eV]
    forces : array, shape (N, 3), or None
        [eV/Å]
    virial : array, shape (3, 3), or None
        [eV]
    n_atoms : int
        N.
    weight : float
        Weight of the frame, see `Frame`.
    owner : int
        Rank that has prepared the frame and measures it; on the others, `environment` is None.
    """

    environment: Any
    energy: Array | None
    forces: Array | None
    virial: Array | None
    n_atoms: int
    weight: float = 1.0
    owner: int = 0

    @property
    def nbytes(self) -> int:
        """Memory of the arrays [bytes], an upper bound that counts eight bytes for every number."""
        return _nbytes(self)


def prepare_sample(model: Potential, frame: Frame, *, like: Array, labels_only: bool = False) -> Sample:
    """Prepare a labelled frame, or its labels only; `like` gives library, dtype and device.

    Raises
    ------
    InputError
        If the frame does not fit the model.
    """
    xp = array_namespace(like)

    def label(value: Any) -> Array | None:
        return None if value is None else xp.asarray(value, dtype=like.dtype, device=like.device)

    return Sample(
        environment=None if labels_only else model.environment(frame, like=like),
        energy=label(frame.energy),
        forces=label(frame.forces),
        virial=label(frame.virial),
        n_atoms=frame.n_atoms,
        weight=frame.weight,
    )


def _nbytes(value: Any) -> int:
    if is_array_api_obj(value):
        return _ITEM * (size(value) or 0)
    if is_dataclass(value):
        return sum(_nbytes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return sum(map(_nbytes, value.values()))
    return sum(map(_nbytes, value)) if isinstance(value, list | tuple) else 0
