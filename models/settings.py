"""The table ``[model]``: what all kinds of models have in common."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.errors import InputError
from ekfcore.settings.table import Table

__all__ = ["PotentialSettings", "WithAtomEnergies", "other_model"]


class PotentialSettings(Table):
    """Base of the tables ``[model]``, one for each kind of model; `type` says which.

    Elements come from the data where they are not given.
    """

    type: str
    elements: list[str] | None = None

    @property
    def given_energies(self) -> Mapping[str, float]:
        """Energies of atoms that are not to be fitted to the data [eV]."""
        return {}

    def begin(self, train: Sequence[Frame], test: Sequence[Frame], *, seed: int) -> Potential:
        """Return a fresh model for these frames, of which it learns its constants from those to train on.

        Raises
        ------
        InputError
            If the frames and the settings do not allow one.
        """
        raise NotImplementedError

    def go_on(self, model: Potential, frames: Sequence[Frame], *, resumed: bool) -> Potential:
        """Return a model that was made before, as these settings want it.

        Parameters
        ----------
        model : Potential
            Of the kind that these settings are for.
        frames : sequence of Frame
            All frames of the training.
        resumed : bool
            Whether the training itself goes on, so that nothing may be chosen anew.

        Raises
        ------
        InputError
            If they want another one; the message names the key.
        """
        raise NotImplementedError

    def initial_weights(self, model: Potential, *, seed: int, gain: float) -> NDArray[Any]:
        """Draw the weights of a fresh model, shape (n,).

        Parameters
        ----------
        model : Potential
            What `begin` returned.
        seed : int
            The same seed gives the same weights.
        gain : float
            What the optimizer would like the first layers to be multiplied by, if the kind of model has such.
        """
        raise NotImplementedError

    @classmethod
    def load(cls, header: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> Potential:
        """Return the model that gave this header and these constants."""
        raise NotImplementedError

    def completed(self, model: Potential) -> Self:
        """Return the same settings, where the keys that nobody gave are those of the model."""
        return self.model_copy(update={} if self.elements else {"elements": list(model.elements)})

    def with_room(self, frames: Sequence[Frame], factor: float) -> Self:
        """Return settings whose sizes that depend on the data leave room for other data; they do so for these frames.

        Parameters
        ----------
        frames : sequence of Frame
            The data so far.
        factor : float
            How much more others may need.
        """
        return self

    def choose_elements(self, frames: Sequence[Frame], known: Sequence[str] = ()) -> list[str]:
        """Return the elements of the model for these frames.

        Parameters
        ----------
        frames : sequence of Frame
            All frames of the training.
        known : sequence of str
            Those of the model to go on from, if there is one.

        Raises
        ------
        InputError
            If the frames hold others, or the settings differ from the model to go on from.
        """
        present = {symbol for frame in frames for symbol in frame.symbols}
        elements = self.elements or list(known) or sorted(present)
        missing = ", ".join(sorted(present - set(elements)))
        if known and elements != list(known):
            raise other_model("elements", elements, list(known))
        if missing and known:
            raise InputError(
                f"the data hold {missing}, which the model to go on from does not know; its elements are "
                f"{', '.join(elements)}"
            )
        if missing:
            raise InputError(f"the data hold {missing}, which model.elements = {elements} leaves out")
        return elements


class WithAtomEnergies(PotentialSettings):
    """Base of the tables of models beside which the energies of atoms are fitted, unless they are given.

    Parameters
    ----------
    atom_energies : dict of str to float, optional
        Energies of atoms that are not fitted to the data [eV].
    """

    atom_energies: dict[str, float] | None = None

    @property
    def given_energies(self) -> Mapping[str, float]:
        """Energies of atoms that are not to be fitted to the data [eV]."""
        return self.atom_energies or {}


def other_model(key: str, wanted: Any, known: Any) -> InputError:
    """Return the error of a key that differs from that of the model to go on from."""
    return InputError(
        f"model.{key} = {wanted} differs from {known} of the model to go on from; set it back, or start anew in "
        "another folder"
    )
