"""Initial weights and the constants that come from the training data."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.atoms.energies import fit_bias
from ekfcore.atoms.types import atom_types
from ekfcore.errors import InputError

from .architecture import Architecture
from .environment import Statistics, switch

__all__ = ["fit_statistics", "initial_weights", "neighbour_capacity"]


def initial_weights(architecture: Architecture, *, seed: int, fitting_gain: float = 1.0) -> NDArray[np.float64]:
    """Draw the weights as DeePMD-kit does, see `NetworkShape.draw`.

    Parameters
    ----------
    architecture : Architecture
        Form of the model.
    seed : int
        The same seed gives the same weights.
    fitting_gain : float
        Factor on the matrices that lead from the descriptor into the fitting nets. A descriptor differs little from
        atom to atom, so that with 1, which is DeePMD-kit's, a fresh fitting net sees nearly the same in all
        environments, and the first steps of a training go by before it tells them apart.

    Returns
    -------
    array, shape (n,)
        All embedding nets, then all fitting nets.
    """
    rng = np.random.default_rng(seed)
    shapes = [architecture.embedding_net] * architecture.n_embeddings
    shapes += [architecture.fitting_net] * len(architecture.elements)
    weights = np.concatenate([shape.draw(rng) for shape in shapes])
    first = architecture.fitting_net.layers[0]
    for centre in range(len(architecture.elements)):
        weights[architecture.fitting_slice(centre)][: first.n_in * first.n_out] *= fitting_gain
    return weights


def neighbour_capacity(frames: Sequence[Frame], elements: Sequence[str], cutoff: float) -> tuple[int, ...]:
    """Return for each element the largest number of its atoms within the cutoff [Å] of any atom of the frames."""
    most = np.zeros(len(elements), dtype=np.int64)
    for frame in frames:
        symbols = np.asarray(frame.symbols)
        i, j, _ = neighbour_pairs(frame, cutoff)
        for index, element in enumerate(elements):
            most[index] = max(most[index], np.bincount(i[symbols[j] == element], minlength=1).max())
    return tuple(int(count) for count in most)


def fit_statistics(
    frames: Sequence[Frame], architecture: Architecture, *, atom_energies: Mapping[str, float] | None = None
) -> Statistics:
    """Measure the normalisation of the environment matrix and the energy bias.

    Parameters
    ----------
    frames : sequence of Frame
        Training frames.
    architecture : Architecture
        Elements, cutoffs and capacities; empty slots count as zeros, as in DeePMD-kit.
    atom_energies : mapping of str to float, optional
        Energies of atoms that are not to be fitted [eV].

    Returns
    -------
    Statistics
        The mean is that of s(r) alone (the directions average to zero by symmetry); one deviation serves s(r) and one
        the three directions.

    Raises
    ------
    InputError
        If no frame is given, or one has an element that the model does not know.
    """
    if not frames:
        raise InputError("the statistics of a model need at least one training frame, got none")
    n_types = len(architecture.elements)
    total, square, across = np.zeros(n_types), np.zeros(n_types), np.zeros(n_types)
    slots = np.zeros(n_types)
    for frame in frames:
        types = atom_types(frame, architecture.elements)
        i, _, vectors = neighbour_pairs(frame, architecture.cutoff)
        r = np.linalg.norm(vectors, axis=1)
        s, _ = switch(r, architecture.cutoff, architecture.cutoff_smooth)
        centre = types[i]
        total += np.bincount(centre, s, n_types)
        square += np.bincount(centre, s**2, n_types)
        # |s r_hat|^2 = s^2, spread over three directions.
        across += np.bincount(centre, s**2 / 3, n_types)
        slots += np.bincount(types, minlength=n_types) * sum(architecture.capacity)
    slots = np.maximum(slots, 1)
    mean = np.zeros((n_types, 4))
    mean[:, 0] = total / slots
    radial = np.sqrt(np.maximum(square / slots - mean[:, 0] ** 2, 0.0))
    std = np.stack([radial, *[np.sqrt(across / slots)] * 3], axis=1)
    # 0.01 is DeePMD-kit's floor; it keeps elements without neighbours finite.
    present = {symbol for frame in frames for symbol in frame.symbols}
    return Statistics(
        mean=mean,
        std=np.maximum(std, 0.01),
        energy_bias=fit_bias(frames, architecture.elements, fixed=atom_energies),
        unknown=tuple(element for element in architecture.elements if element not in present),
    )
