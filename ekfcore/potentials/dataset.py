"""Training or test frames, prepared for a model on demand."""

import math
from collections.abc import Sequence
from typing import overload

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Errors, Frame, errors
from ekfcore.atoms.potential import Potential

from .sample import Sample, prepare_sample

__all__ = ["Dataset"]


class Dataset(Sequence[Sample]):
    """A sequence of samples, cached up to a limit of memory.

    Parameters
    ----------
    model : Potential
        Model that the frames are prepared for.
    frames : sequence of Frame
        Labelled frames.
    like : array
        Gives library, dtype and device.
    memory : float
        Memory for cached samples [bytes]. An epoch uses each sample once, so no choice of samples to cache is better
        than the first ones.
    """

    def __init__(self, model: Potential, frames: Sequence[Frame], *, like: Array, memory: float = math.inf) -> None:
        self.model, self.frames, self.memory = model, frames, memory
        self._like = like
        self._cached: dict[int, Sample] = {}
        self.nbytes = 0
        """Memory of the cached samples [bytes]."""

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """Return a sample.

        Raises
        ------
        InputError
            If the frame does not fit the model.
        """
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        k = range(len(self))[index]
        if k in self._cached:
            return self._cached[k]
        sample = prepare_sample(self.model, self.frames[k], like=self._like)
        if self.nbytes + sample.nbytes <= self.memory:
            self._cached[k] = sample
            self.nbytes += sample.nbytes
        return sample

    def check(self) -> None:
        """Prepare every frame once, to find a frame that does not fit the model before the training starts.

        Raises
        ------
        InputError
            If a frame does not fit the model.
        """
        for _ in self:
            pass

    def errors(self, weights: Array) -> Errors:
        """Return the errors of the model with these weights; NaN where there are no frames."""
        if not self.frames:
            nan = math.nan
            return Errors(
                frames=0,
                atoms=0,
                with_energy=0,
                with_forces=0,
                energy_rmse=nan,
                energy_mae=nan,
                force_rmse=nan,
                force_mae=nan,
            )
        predictions = (self.model.predict(weights, sample.environment) for sample in self)
        return errors(({key: to_numpy(a) for key, a in p.items()} for p in predictions), self.frames)
