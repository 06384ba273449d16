"""Deviations within a committee of models, the alternative to the uncertainty of one model.

DP-GEN's scheme (Y. Zhang et al., Comput. Phys. Commun. 253, 107206 (2020), arXiv 1910.12690).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame

from .model_file import LoadedModel, evaluate

__all__ = ["committee_deviations", "force_deviation"]


def force_deviation(forces: NDArray[np.float64]) -> NDArray[np.float64]:
    r"""Return the deviation of the models on each atom.

    Parameters
    ----------
    forces : array, shape (K, N, 3)
        Forces on N atoms by K models [eV/Å].

    Returns
    -------
    array, shape (N,)
        :math:`\sqrt{\langle |F_i - \langle F_i \rangle|^2 \rangle}`, means over the models [eV/Å].

    Examples
    --------
    >>> force_deviation(np.asarray([[[1.0, 0.0, 0.0]], [[3.0, 0.0, 0.0]]]))
    array([1.])
    """
    centred = forces - forces.mean(axis=0)
    deviation: NDArray[np.float64] = np.sqrt((centred**2).sum(axis=2).mean(axis=0))
    return deviation


def committee_deviations(models: Sequence[LoadedModel], frames: Sequence[Frame]) -> list[NDArray[np.float64]]:
    """Return the deviation of the models on each atom of each frame [eV/Å].

    Raises
    ------
    InputError
        If a frame does not fit a model.
    """
    predictions = (evaluate(loaded.model, loaded.weights, frames) for loaded in models)
    return [force_deviation(np.stack([p["forces"] for p in several])) for several in zip(*predictions, strict=True)]
