"""Which weights of a Deep Potential belong together in a study of its uncertainty."""

import numpy as np
from numpy.typing import NDArray

from .architecture import Architecture

__all__ = ["last_layer", "symmetric_weights"]


def last_layer(architecture: Architecture) -> NDArray[np.int64]:
    """Return the numbers of the weights in the last layers of the fitting nets, the cheapest ones to be uncertain of.

    Examples
    --------
    >>> last_layer(Architecture(elements=("Cu",), capacity=(80,)))[[0, -1]]
    array([26500, 26550])
    """
    size = architecture.fitting_net.layers[-1].n_in + 1
    ends = [architecture.fitting_slice(centre).stop for centre in range(len(architecture.elements))]
    return np.concatenate([np.arange(end - size, end) for end in ends])


def symmetric_weights(architecture: Architecture) -> NDArray[np.int64]:
    r"""Return a number for each weight; weights of the same number always have the same gradient.

    The descriptor :math:`A^T A_<` is symmetric in the channels that its narrow side has, so the weights that a neuron
    of the first fitting layer has for its elements ij and ji see the same number.

    Examples
    --------
    >>> len(set(symmetric_weights(Architecture(elements=("Cu",), capacity=(80,))).tolist()))  # of 26551
    20551
    """
    ties = np.arange(sum(architecture.layer_sizes))
    M, axis, width = architecture.embedding[-1], architecture.axis, architecture.fitting_net.layers[0].n_out
    for centre in range(len(architecture.elements)):
        first = architecture.fitting_slice(centre).start
        W = ties[first : first + width * M * axis].reshape(width, M, axis)
        square = W[:, :axis, :]
        square[...] = np.minimum(square, square.transpose(0, 2, 1))
    return ties
