"""Energies of atoms: constants of each element in the energy of a model, so that its nets fit small differences."""

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
    """Fit the energy of an atom of each element by least squares to the residuals of a model.

    Parameters
    ----------
    frames : sequence of Frame
        Labelled frames.
    elements : sequence of str
        Elements of the model.
    predicted : sequence of float, optional
        Prediction of the model for each frame [eV]; 0 by default.
    fixed : mapping of str to float, optional
        Energies of elements that are not to be fitted [eV].

    Returns
    -------
    array, shape (n_types,)
        Energies [eV], the solution of smallest norm if the compositions do not determine them. Frames without an energy
        do not count; without any energy, the energies are 0.
    """
    fixed = fixed or {}
    free = [element for element in elements if element not in fixed]
    counts, rest = [], []
    for frame, base in zip(frames, predicted if predicted is not None else [0.0] * len(frames), strict=True):
        if frame.energy is None:
            continue
        symbols = frame.symbols
        counts.append([symbols.count(element) for element in free])
        rest.append(frame.energy - base - sum(symbols.count(element) * energy for element, energy in fixed.items()))
    solved = np.zeros(len(free))
    if free and counts:
        solved = np.linalg.lstsq(np.asarray(counts, float), np.asarray(rest), rcond=1e-10)[0]
    return np.asarray([{**fixed, **dict(zip(free, solved, strict=True))}[element] for element in elements])
