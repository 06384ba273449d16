"""More places for neighbours in a model for DeePMD-kit, which ignores neighbours beyond its number of places.

DeePMD-kit divides the sum over the neighbours by the number of places, and an empty place contributes the normalised
value of zero. More places would therefore change the model. Two changes compensate for that: the first matrices of the
fitting nets are multiplied by the square of the ratio of the divisors, and the places of an extra element that no frame
has, which are always empty, cancel the contribution of the other new places. Its embedding nets are constants.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError
from ekfcore.models.deep_potential import Architecture, DeepPotential, Statistics

__all__ = ["NOBODY", "with_room"]

NOBODY = "X"
"""Symbol of the element that no frame has; ASE uses it for atoms without element."""

_LARGEST = 0.9  # largest output of a constant net, whose bias is the inverse hyperbolic tangent of it

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
        Model with the larger capacity, which is "sel" in DeePMD-kit.
    weights : array
        Its weights.
    reason : str
        Why the model is unchanged although more places were asked for; otherwise an empty string.

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
    form = replace(arch, capacity=sel)  # without mean, an empty place contributes nothing
    return DeepPotential(form, model.statistics), _rescaled(weights, form, form.n_slots / arch.n_slots), ""


def _obstacle(model: DeepPotential) -> str:
    """Return why the model cannot have more places, or an empty string."""
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
    """Add an element whose empty places cancel the contribution of the new places of the other elements."""
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
