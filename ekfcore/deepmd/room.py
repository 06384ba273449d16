"""Places for more neighbours in a model that goes to DeePMD-kit, which leaves out those for which it has none.

DeePMD-kit divides the sum over the neighbours by its number of places and counts the empty ones with what the
normalisation makes of nothing. More places would make another model of it, so two things go along with them: the first
matrices of the fitting nets, which take the descriptor, undo the larger divisor squared; and the places of an element
that no frame has, all of them always empty, take off what the other new ones add. Its embedding nets are constants.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError
from ekfcore.models.deep_potential import Architecture, DeepPotential, Statistics

__all__ = ["NOBODY", "with_room"]

NOBODY = "X"
"""Symbol of the element that no frame has; ASE's for no element."""

_LARGEST = 0.9  # that a constant net gives, whose bias is its inverse hyperbolic tangent

_Vector = NDArray[np.float64]


def with_room(model: DeepPotential, weights: _Vector, room: float) -> tuple[DeepPotential, _Vector, str]:
    """Return the same function with more places for neighbours.

    Parameters
    ----------
    model : DeepPotential
        Form and constants.
    weights : array, shape (n,)
        Its weights.
    room : float
        Places for neighbours of an element, as a multiple of the model's capacity.

    Returns
    -------
    model : DeepPotential
        The model with room: its capacity is DeePMD-kit's "sel".
    weights : array
        Its weights.
    reason : str
        Why the model is unchanged although there is to be room; empty if it is not.

    Raises
    ------
    InputError
        If `room` is less than 1.
    """
    if not 1.0 <= room < math.inf:
        raise InputError(f"`room` must be at least 1, got {room}; 1 is as many places as the model's capacity")
    arch = model.architecture
    sel = tuple(max(1, math.ceil(room * count - 1e-9)) for count in arch.capacity)
    if room == 1.0 or sel == arch.capacity:
        return model, weights, ""
    if reason := _obstacle(model):
        return model, weights, reason
    if model.statistics.mean.any():
        return *_with_nobody(model, weights, sel), ""
    form = replace(arch, capacity=sel)  # an empty place adds nothing
    return DeepPotential(form, model.statistics), _rescaled(weights, form, form.n_slots / arch.n_slots), ""


def _obstacle(model: DeepPotential) -> str:
    """Return why the model cannot have more places, or nothing."""
    arch = model.architecture
    if arch.fitting_net.layers[0].copies:
        return "the fitting net passes its input on, which cannot be rescaled"
    if not model.statistics.mean.any():
        return ""
    if NOBODY in arch.elements:
        return f"the model has an element {NOBODY} already"
    if arch.activation != "tanh" or arch.embedding_net.layers[0].copies:
        return "only embedding nets of tanh, wider than 2, have the constant that room needs"
    if arch.type_one_side and len(arch.elements) > 1:
        return "type_one_side shares the embedding nets, so that they have no constant for each element"
    return ""


def _with_nobody(model: DeepPotential, weights: _Vector, sel: tuple[int, ...]) -> tuple[DeepPotential, _Vector]:
    """Add an element whose empty places take off what the new ones of the others add."""
    arch, statistics = model.architecture, model.statistics
    added = np.asarray([_added(model, weights, sel, centre) for centre in range(len(arch.elements))])
    places = max(1, math.ceil(np.max(np.abs(added)) / _LARGEST))
    form = replace(arch, elements=(*arch.elements, NOBODY), capacity=(*sel, places))
    wide = np.zeros(sum(form.layer_sizes))
    for centre in range(len(arch.elements)):
        for neighbour in range(len(arch.elements)):
            wide[form.embedding_slice(centre, neighbour)] = weights[arch.embedding_slice(centre, neighbour)]
        nobody = wide[form.embedding_slice(centre, len(arch.elements))]
        nobody[-arch.embedding[-1] :] = np.arctanh(-added[centre] / places)  # the last bias; a view of `wide`
        wide[form.fitting_slice(centre)] = weights[arch.fitting_slice(centre)]
    constants = Statistics(
        mean=np.vstack([statistics.mean, np.zeros(4)]),
        std=np.vstack([statistics.std, np.ones(4)]),
        energy_bias=np.append(statistics.energy_bias, 0.0),
        unknown=(*statistics.unknown, NOBODY),
    )
    return DeepPotential(form, constants), _rescaled(wide, form, form.n_slots / arch.n_slots)


def _added(model: DeepPotential, weights: _Vector, sel: tuple[int, ...], centre: int) -> _Vector:
    """Return the sum of G over the new places of an atom when they are empty, shape (M,)."""
    arch, statistics = model.architecture, model.statistics
    empty = np.asarray([[-statistics.mean[centre, 0] / statistics.std[centre, 0]]])
    outputs = [
        arch.embedding_net.forward(np, weights[arch.embedding_slice(centre, neighbour)], empty)[0][0]
        for neighbour in range(len(arch.elements))
    ]
    return np.asarray(np.subtract(sel, arch.capacity) @ np.asarray(outputs))


def _rescaled(weights: _Vector, form: Architecture, divisor: float) -> _Vector:
    """Return weights for a descriptor whose A is divided by `divisor` more than before."""
    weights = weights.copy()
    first = form.fitting_net.layers[0]
    for centre in range(len(form.elements)):
        weights[form.fitting_slice(centre)][: first.n_in * first.n_out] *= divisor**2
    return weights
