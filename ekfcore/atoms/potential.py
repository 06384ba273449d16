"""The third plug-in point: interface of a model for training, files and use."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.linearize import Linearizable

from .frame import Frame

__all__ = ["HasAtomicEnergies", "Potential"]


class Potential(Linearizable[Any], Protocol):
    """A model of energy, forces and virial, complete except for its weights.

    It is immutable: methods that change it return a new one. Most users need not write one:
    ``[model] type = "package.module:factory"`` makes one of any module of PyTorch, or of any `JacobianProvider` that
    prepares frames itself.
    """

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of types."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Elements that occur in no training frame; frames with such elements are refused."""

    @property
    def energy_bias(self) -> NDArray[Any]:
        """Constant energy of an atom of each element, to which the model adds, shape (n_elements,) [eV]."""

    @property
    def cutoff(self) -> float:
        """Cutoff radius [Å]; 0 if it is unknown."""

    @property
    def library(self) -> str:
        """Backend whose arrays the model needs, such as "torch"; empty if all backends work."""

    @property
    def exact(self) -> Any:
        """What predicts without the approximations of a training, for frames that it prepares itself."""

    def environment(self, frame: Frame, *, like: Array) -> Any:
        """Prepare a frame; `like` gives library, dtype and device. InputError if the frame does not fit."""

    def refined(self, w: Array, frames: Sequence[Frame]) -> Self:
        """Return the model with approximations refined for these weights; the model itself if nothing changes."""

    def learned(self, frames: Sequence[Frame], energy_bias: NDArray[Any]) -> Self:
        """Return the model with the elements of these frames added, and with these energies of the atoms [eV]."""

    def with_bias(self, energy_bias: NDArray[Any]) -> Self:
        """Return the model with other energies of the atoms [eV]."""

    def tied_weights(self) -> NDArray[Any] | None:
        """Return a group number for each weight; weights of a group have equal gradients. None if none are tied."""

    def header(self) -> Mapping[str, Any]:
        """Return the JSON-ready header for a file, beside `constants`; its "type" selects the settings that load it."""

    def constants(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays for a file."""


@runtime_checkable
class HasAtomicEnergies(Protocol):
    """A model that partitions the energy into energies of atoms."""

    def atomic_energies(self, w: Array, sample: Any) -> Array:
        """Return the energies of the atoms, shape (N,) [eV]."""
