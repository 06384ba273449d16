"""Energies of atoms fitted anew, to continue with data of another code or functional, whose zero of energy differs."""

from collections.abc import Sequence
from dataclasses import replace

from ekfcore.atoms import Frame
from ekfcore.atoms.energies import fit_bias
from ekfcore.errors import InputError
from ekfcore.potentials.model_file import LoadedModel, evaluate

__all__ = ["refit_bias"]


def refit_bias(loaded: LoadedModel, frames: Sequence[Frame]) -> LoadedModel:
    """Shift the energy of an atom of each element so that the model's energies fit those of the frames best.

    Forces and virial do not change, nor do the energies of elements that no frame holds.

    Parameters
    ----------
    loaded : LoadedModel
        A trained model.
    frames : sequence of Frame
        Labelled frames.

    Returns
    -------
    LoadedModel
        The same weights with other constants.

    Raises
    ------
    InputError
        If no frame has an energy, or one does not fit the model.
    """
    frames = [frame for frame in frames if frame.energy is not None]
    if not frames:
        raise InputError("no frame to train on has an energy to fit those of atoms to; leave out --shift-energies")
    model = loaded.model
    predicted = [float(prediction["energy"]) for prediction in evaluate(model, loaded.weights, frames)]
    shift = fit_bias(frames, model.elements, predicted)
    return replace(loaded, model=model.with_bias(model.energy_bias + shift))
