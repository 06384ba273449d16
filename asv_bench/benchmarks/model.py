"""The Deep Potential: prediction and gradients, on a frame of 72 copper atoms."""

from collections.abc import Sequence

import numpy as np

from ekfcore.protocols import Cotangent

from .common import DTYPES, copper_frames, copper_model, on_backend, wait

__all__ = ["Model"]

_LIBRARIES = ("numpy", "torch", "torch:cuda")
_GROUPS, _GROUP_SIZE = 4, 6  # the paper's


class Model:
    """What the filter asks of the model in each update."""

    params = (_LIBRARIES, DTYPES)
    param_names = ("library", "dtype")

    def setup(self, library: str, dtype: str) -> None:
        """Prepare a frame, and what is measured in it; go through everything once."""
        frames = copper_frames(1)
        self.model, weights = copper_model(frames)
        self.w = on_backend(library, weights, dtype)
        self.sample = self.model.environment(frames[0], like=self.w)
        self.energy = {"energy": on_backend(library, np.asarray(1.0), dtype)}
        self.groups = [{"forces": on_backend(library, _signs(index), dtype)} for index in range(_GROUPS)]
        self.time_predict(library, dtype)
        self.time_energy_and_force_groups_gradient(library, dtype)

    def time_predict(self, library: str, dtype: str) -> None:
        """Predict energy, forces and virial."""
        wait(self.model.predict(self.w, self.sample)["forces"])

    def time_energy_gradient(self, library: str, dtype: str) -> None:
        """Differentiate the energy."""
        self._gradient([self.energy])

    def time_force_group_gradient(self, library: str, dtype: str) -> None:
        """Differentiate the mean force on one group of atoms."""
        self._gradient(self.groups[:1])

    def time_energy_and_force_groups_gradient(self, library: str, dtype: str) -> None:
        """Differentiate all that is measured in a frame at once."""
        self._gradient([self.energy, *self.groups])

    def _gradient(self, cotangents: Sequence[Cotangent]) -> None:
        wait(self.model.jacobian(self.w, self.sample, cotangents)[1])


def _signs(index: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return signs on the force components of one group, zeros elsewhere, shape (72, 3)."""
    signs = np.zeros((72, 3))
    group = slice(index * _GROUP_SIZE, (index + 1) * _GROUP_SIZE)
    signs[group] = np.random.default_rng(index).choice([-1.0, 1.0], (_GROUP_SIZE, 3)) / (3 * _GROUP_SIZE)
    return signs
