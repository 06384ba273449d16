"""The Deep Potential: prediction and gradients, on a frame of 72 copper atoms, with exact nets and on nodes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ekfcore.protocols import Cotangent

from .arrays import DTYPES, LIBRARIES, WITH_KERNELS, on_backend, wait
from .copper import copper_frames, copper_model, initial_copper_weights

__all__ = ["Model"]

_GROUPS, _GROUP_SIZE = 4, 6  # the paper's


class Model:
    """What the filter asks of the model in each update."""

    params = (LIBRARIES, ("nodal", "exact", "exact, whole arrays"), DTYPES)
    param_names = ("library", "embedding", "dtype")
    number = rounds = 1
    repeat = (3, 20, 0.5)
    warmup_time = 0.0

    def setup(self, library: str, embedding: str, dtype: str) -> None:
        """Prepare a frame, and what is measured in it; go through everything once."""
        _skip_repetitions(library, embedding)
        self.w = on_backend(library, initial_copper_weights(), dtype)
        self.model = copper_model(embedding, like=self.w)
        self.sample = self.model.environment(copper_frames(1)[0], like=self.w)
        self.energy = {"energy": on_backend(library, np.asarray(1.0), dtype)}
        self.groups = [{"forces": on_backend(library, _signs(index), dtype)} for index in range(_GROUPS)]
        self.time_everything(library, embedding, dtype)

    def time_predict(self, library: str, embedding: str, dtype: str) -> None:
        """Predict energy, forces and virial."""
        wait(self.model.predict(self.w, self.sample)["forces"])

    def time_energy_gradient(self, library: str, embedding: str, dtype: str) -> None:
        """Differentiate the energy."""
        self._gradient([self.energy])

    def time_force_group_gradient(self, library: str, embedding: str, dtype: str) -> None:
        """Differentiate the mean force on one group of atoms."""
        self._gradient(self.groups[:1])

    def time_everything(self, library: str, embedding: str, dtype: str) -> None:
        """Predict, and differentiate the energy and four groups: all that a vector step asks for."""
        _, pull = self.model.linearize(self.w, self.sample)
        wait(pull([self.energy, *self.groups])[1])

    def _gradient(self, cotangents: Sequence[Cotangent]) -> None:
        wait(self.model.jacobian(self.w, self.sample, cotangents)[1])


def _skip_repetitions(library: str, embedding: str) -> None:
    """Skip what tells nothing new."""
    if embedding == "exact, whole arrays" and library != "numpy":
        raise NotImplementedError(f"the exact embedding works on whole arrays in any case with {library!r}")
    if embedding != "nodal" and library not in WITH_KERNELS:
        raise NotImplementedError(f"{library!r} is measured on nodes only: compiling takes it long")


def _signs(index: int) -> NDArray[np.float64]:
    """Return signs on the force components of one group, zeros elsewhere, shape (72, 3)."""
    signs = np.zeros((72, 3))
    group = slice(index * _GROUP_SIZE, (index + 1) * _GROUP_SIZE)
    signs[group] = np.random.default_rng(index).choice([-1.0, 1.0], (_GROUP_SIZE, 3)) / (3 * _GROUP_SIZE)
    return signs
