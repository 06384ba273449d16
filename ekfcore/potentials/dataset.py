"""Training or test frames, prepared for a model on demand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Errors, Frame, errors
from ekfcore.atoms.potential import Potential
from ekfcore.ranks import ALONE, Ranks, collect, share_out

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
    ranks : Ranks
        Processes that share the work on the frames; all have all frames.
    """

    def __init__(
        self,
        model: Potential,
        frames: Sequence[Frame],
        *,
        like: Array,
        memory: float = math.inf,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.frames, self.memory, self.ranks = model, frames, memory, ranks
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

    def batch(self, indices: Sequence[int]) -> list[Sample]:
        """Return samples that the ranks have shared out by their number of atoms, see `Sample.owner`.

        Raises
        ------
        InputError
            If a frame of this rank does not fit the model.
        """
        owners = self._owners(indices)
        if self.ranks.size == 1:
            return [self[k] for k in indices]
        return [
            replace(
                self[k]
                if owner == self.ranks.rank
                else prepare_sample(self.model, self.frames[k], like=self._like, labels_only=True),
                owner=owner,
            )
            for k, owner in zip(indices, owners, strict=True)
        ]

    def _owners(self, indices: Sequence[int]) -> list[int]:
        """Return the rank that works on each of these frames."""
        return share_out([self.frames[k].n_atoms for k in indices], self.ranks.size)

    def _mine(self, owners: Sequence[int]) -> list[int]:
        return [k for k, owner in enumerate(owners) if owner == self.ranks.rank]

    def check(self) -> None:
        """Prepare every frame once, to find a frame that does not fit the model before the training starts.

        Raises
        ------
        InputError
            If a frame does not fit the model.
        """
        for k in self._mine(self._owners(range(len(self)))):
            self[k]

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
        owners = self._owners(range(len(self)))
        predictions = (
            {key: to_numpy(a) for key, a in self.model.predict(weights, self[k].environment).items()}
            for k in self._mine(owners)
        )
        if self.ranks.size == 1:
            return errors(predictions, self.frames)
        width = 11 + 3 * max(frame.n_atoms for frame in self.frames)
        rows = np.zeros((owners.count(self.ranks.rank), width))
        for row, prediction in zip(rows, predictions, strict=True):
            _pack(prediction, row)
        everything = collect(self.ranks, owners, [1] * len(owners), rows)
        return errors(map(_unpack, everything, (frame.n_atoms for frame in self.frames)), self.frames)


# What ranks tell each other of a prediction: energy, whether there is a virial, the virial, and the forces.


def _pack(prediction: Mapping[str, NDArray[Any]], row: NDArray[np.float64]) -> None:
    row[0], forces = prediction["energy"], prediction["forces"].ravel()
    row[11 : 11 + len(forces)] = forces
    if "virial" in prediction:
        row[1], row[2:11] = 1.0, prediction["virial"].ravel()


def _unpack(row: NDArray[np.float64], n_atoms: int) -> dict[str, NDArray[Any]]:
    prediction = {"energy": row[0], "forces": row[11 : 11 + 3 * n_atoms].reshape(-1, 3)}
    return prediction | ({"virial": row[2:11].reshape(3, 3)} if row[1] else {})
