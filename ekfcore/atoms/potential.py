"""The third plug-in point: what the program needs of a model to train it, to keep it and to use it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.linearize import Pullback
from ekfcore.protocols import JacobianProvider, Prediction

from .frame import Frame

__all__ = ["HasAtomicEnergies", "Potential"]


class Potential(JacobianProvider[Any], Protocol):
    """A model of energy, forces and virial, with all that it is but its weights.

    It is immutable: whatever changes it returns another one. Most of its users need not write one:
    ``[model] type = "package.module:factory"`` makes one of any module of PyTorch, or of any `JacobianProvider` that
    prepares frames itself.
    """

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of types."""

    @property
    def unknown(self) -> tuple[str, ...]:
        """Elements of which the training has seen no atom; frames that hold one are refused."""

    @property
    def energy_bias(self) -> NDArray[Any]:
        """Energy that an atom of each element has before the model adds anything, shape (n_elements,) [eV]."""

    @property
    def cutoff(self) -> float:
        """How far an atom sees [Å]; 0 if that is unknown."""

    @property
    def library(self) -> str:
        """Backend whose arrays it needs, such as "torch"; nothing if any will do."""

    def environment(self, frame: Frame, *, like: Array) -> Any:
        """Prepare a frame; `like` gives library, dtype and device. InputError if the frame does not fit."""

    def linearize(self, w: Array, sample: Any) -> tuple[Prediction, Pullback]:
        """Return the prediction, and the pullback of functionals at these weights; see `ekfcore.linearize`."""

    def refined(self, w: Array, frames: Sequence[Frame]) -> Self:
        """Return the model as these weights need it, where it approximates anything; itself if nothing changes."""

    def learned(self, frames: Sequence[Frame], energy_bias: NDArray[Any]) -> Self:
        """Return the model that knows the elements of these frames, with these energies of the atoms [eV]."""

    def with_bias(self, energy_bias: NDArray[Any]) -> Self:
        """Return the model with other energies of the atoms [eV]."""

    def tied_weights(self) -> NDArray[Any] | None:
        """Return a number for each weight; weights of one number always have one gradient. None if none are tied."""

    def header(self) -> Mapping[str, Any]:
        """Return what a file needs beside `constants`, ready for JSON; its "type" finds the settings that load it."""

    def constants(self) -> Mapping[str, NDArray[Any]]:
        """Return the arrays that a file needs."""


@runtime_checkable
class HasAtomicEnergies(Protocol):
    """A model that shares the energy out to the atoms."""

    def atomic_energies(self, w: Array, sample: Any) -> Array:
        """Return the energies of the atoms, shape (N,) [eV]."""
