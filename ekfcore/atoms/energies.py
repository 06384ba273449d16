"""Energies of atoms: what a model of the energy adds for each of them, so that its nets have little left to explain."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .frame import Frame

__all__ = ["fit_bias"]


def fit_bias(
    frames: Sequence[Frame],
    elements: Sequence[str],
    predicted: Sequence[float] | None = None,
    *,
    fixed: Mapping[str, float] | None = None,
) -> NDArray[np.float64]:
    """Fit the energy of an atom of each element by least squares to what a model leaves unexplained.

    Parameters
    ----------
    frames : sequence of Frame
        Labelled frames.
    elements : sequence of str
        Elements of the model.
    predicted : sequence of float, optional
        What the model says of each frame [eV]; 0 by default.
    fixed : mapping of str to float, optional
        Energies of elements that are not to be fitted [eV].

    Returns
    -------
    array, shape (n_types,)
        Energies [eV]. Where the compositions cannot tell the elements apart the solution of smallest norm is taken.
        Frames without an energy do not count; without any, the energies are 0.
    """
    fixed = fixed or {}
    free = [element for element in elements if element not in fixed]
    counts, left = [], []
    for frame, told in zip(frames, predicted if predicted is not None else [0.0] * len(frames), strict=True):
        if frame.energy is None:
            continue
        symbols = frame.symbols
        counts.append([symbols.count(element) for element in free])
        left.append(frame.energy - told - sum(symbols.count(element) * energy for element, energy in fixed.items()))
    solved = np.zeros(len(free))
    if free and counts:
        solved = np.linalg.lstsq(np.asarray(counts, float), np.asarray(left), rcond=1e-10)[0]
    return np.asarray([{**fixed, **dict(zip(free, solved, strict=True))}[element] for element in elements])
