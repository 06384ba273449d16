"""The training loop: epochs, evaluation, checkpoints."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms.digest import digest_of
from ekfcore.atoms.potential import Potential
from ekfcore.atoms.quantities import QUANTITIES
from ekfcore.errors import FilterError, InputError
from ekfcore.files import locked, sweep
from ekfcore.linearize import Linearizable
from ekfcore.potentials.dataset import Dataset
from ekfcore.potentials.fingerprint import Fingerprint
from ekfcore.potentials.model_file import MODEL_FILE, save_model
from ekfcore.potentials.position import EpochRecord, Position
from ekfcore.potentials.sample import Sample
from ekfcore.ranks import ALONE, Ranks

__all__ = ["Optimizer", "Progress", "Trainer"]


class Optimizer(Protocol):
    """Interface of the filter and of Adam to the training loop."""

    model: Linearizable[Any]
    absorbed: int  # updates done in a batch before one broke down

    @property
    def weights(self) -> Array:
        """Current weights, shape (n,)."""

    @property
    def rate(self) -> float:
        """Memory factor or learning rate, for the table of metrics."""

    def diagnose(self, samples: Sequence[Sample]) -> Mapping[str, float]:
        """Return values for further columns of the table of metrics, by the name of the column."""

    def step(self, samples: Sequence[Sample], rng: np.random.Generator, *, skip: int = 0) -> None:
        """Learn from one batch, without its first `skip` updates."""

    def header(self) -> Mapping[str, Any]:
        """Return what a checkpoint needs beside the arrays."""

    def arrays(self) -> Iterable[tuple[str, NDArray[Any]]]:
        """Return the arrays of a checkpoint, one of them called weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where the training stands after a batch.

    Parameters
    ----------
    epoch, epochs : int
        Epochs done, and epochs in all.
    step, steps : int
        Batches done, and batches in all.
    records : tuple of EpochRecord
        Errors after each epoch so far.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    records: tuple[EpochRecord, ...]


class Trainer:
    """Runs an optimizer over a data set and saves the model.

    Parameters
    ----------
    model : Potential
        The model that is trained.
    optimizer : Optimizer
        Holds the weights.
    train, test : Dataset
        Training frames and test frames.
    epochs, batch, seed : int
        Epochs in all, frames a batch, and the seed of the order of frames and of the choice of atoms.
    settings : mapping
        CONFIG as JSON, kept in the model file.
    out : Path
        Folder for the model.
    frames : Fingerprint
        Digests of the frames, kept in the model file.
    position : Position
        Where to continue.
    writers : sequence of callables
        Called with all records whenever the model is saved.
    notes : sequence of str
        Notes for the user, shown before the training starts.
    inputs : str
        See `LoadedModel`.
    ranks : Ranks
        Processes that train together, each with a trainer; that of rank 0 alone writes.
    """

    def __init__(
        self,
        *,
        model: Potential,
        optimizer: Optimizer,
        train: Dataset,
        test: Dataset,
        epochs: int,
        batch: int,
        seed: int,
        settings: Mapping[str, Any],
        out: Path,
        frames: Fingerprint,
        position: Position,
        writers: Sequence[Callable[[Sequence[EpochRecord]], None]] = (),
        notes: Sequence[str] = (),
        inputs: str = "",
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.optimizer, self.train, self.test = model, optimizer, train, test
        self.epochs, self.batch, self.seed = epochs, batch, seed
        self.settings, self.out, self.frames, self.position = settings, out, frames, position
        self.writers, self.notes, self.inputs, self.ranks = writers, notes, inputs, ranks
        self._stamp = self._read_stamp()

    @property
    def records(self) -> tuple[EpochRecord, ...]:
        """Errors after each epoch so far."""
        return self.position.records

    @property
    def weights(self) -> Array:
        """Current weights, shape (n,)."""
        return self.optimizer.weights

    @property
    def batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.train) // self.batch)

    def run(
        self,
        *,
        on_step: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train until all epochs are done or `should_stop` returns true.

        Parameters
        ----------
        on_step : callable
            Called with a Progress after each batch and after each evaluation.
        should_stop : callable
            Called after each batch; a training resumed from the checkpoint then written continues exactly there.

        Returns
        -------
        bool
            Whether all epochs were done.

        Raises
        ------
        FilterError
            If the filter broke down; the state before the failing update has been saved.
        InputError
            If a file cannot be written, or another process trains in the folder or has changed its model.
        """
        with locked(self.out, "trains in") if self._writes else nullcontext():
            if self._writes:
                self._take_over()
            return self._run(on_step, should_stop)

    @property
    def _writes(self) -> bool:
        return self.ranks.rank == 0

    def _take_over(self) -> None:
        """See that nobody has written into the folder, and complete what a killed run has left there."""
        if self._read_stamp() != self._stamp:
            raise InputError(
                f"{self.out / MODEL_FILE} was written by another training since this one read the folder; go on "
                "from it with --resume, or choose another folder"
            )
        sweep(self.out)
        if self.records:  # an earlier run may have been killed after saving the model, before the writers ran
            self._write()

    def _run(self, on_step: Callable[[Progress], None], should_stop: Callable[[], bool]) -> bool:
        while self.position.epoch < self.epochs:
            if self.position.batch == 0:
                self.refine()
            try:
                finished = self._epoch(on_step, should_stop)
            except FilterError:
                self.position = replace(self.position, update=self.optimizer.absorbed)
                self.save()
                raise
            if finished:
                self._finish_epoch()
            self.save()
            on_step(self._progress())
            if not finished:
                return False
        return True

    def save(self) -> None:
        """Write the model file, and call the writers."""
        # Ranks whose processors or libraries round in different ways would go apart without a word.
        self.ranks.agree("weights", f"digest {digest_of(to_numpy(self.weights).tobytes())[:16]}")
        if not self._writes:
            deque(self.optimizer.arrays(), maxlen=0)  # what rank 0 writes comes from all
            return
        save_model(
            self.out / MODEL_FILE,
            self.model,
            settings=self.settings,
            position=self.position,
            frames=self.frames,
            optimizer=self.optimizer.header(),
            arrays=self.optimizer.arrays(),
            inputs=self.inputs,
        )
        self._stamp = self._read_stamp()
        self._write()

    def _write(self) -> None:
        for write in self.writers:
            write(self.records)

    def _read_stamp(self) -> tuple[int, int] | None:
        """Return inode and modification time of the model file, which change when another process replaces it."""
        try:
            found = (self.out / MODEL_FILE).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def refine(self) -> None:
        """Prepare the data again if an approximation in the model has become too coarse for the weights."""
        model, like = self.model.refined(self.weights, self.train.frames), self.weights
        if model is self.model:
            return
        self.model = self.optimizer.model = model
        # Replacing both data sets frees the old samples before new ones are prepared.
        self.train, self.test = (
            Dataset(model, data.frames, like=like, memory=data.memory, ranks=self.ranks)
            for data in (self.train, self.test)
        )

    def _epoch(self, on_step: Callable[[Progress], None], should_stop: Callable[[], bool]) -> bool:
        """Train on the remaining batches of an epoch; return whether it is complete."""
        epoch = self.position.epoch
        # Seed and position alone fix the order of frames and the choice of atoms: a restart needs no generator state.
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.train))
        for index in range(self.position.batch, self.batches):
            chosen = self.train.batch(order[index * self.batch : (index + 1) * self.batch].tolist())
            start = time.perf_counter()
            self.optimizer.step(chosen, np.random.default_rng([self.seed, epoch, index]), skip=self.position.update)
            wall_s, step = self.position.wall_s + time.perf_counter() - start, self.position.step + 1
            self.position = replace(self.position, batch=index + 1, update=0, step=step, wall_s=wall_s)
            on_step(self._progress())
            if should_stop() and index + 1 < self.batches:
                return False
        return True

    def _finish_epoch(self) -> None:
        """Evaluate, and move on to the next epoch."""
        train, test = (data.errors(self.weights) for data in (self.train, self.test))
        record = EpochRecord(
            epoch=self.position.epoch + 1,
            step=self.position.step,
            wall_s=self.position.wall_s,
            lam=self.optimizer.rate,
            **{
                f"{quantity.name}_rmse_{part}": getattr(found, f"{quantity.name}_rmse")
                for quantity in QUANTITIES
                for part, found in (("train", train), ("test", test))
            },
            **self.optimizer.diagnose(self.train),
        )
        self.position = replace(self.position, epoch=record.epoch, batch=0, records=(*self.records, record))

    def _progress(self) -> Progress:
        return Progress(
            epoch=self.position.epoch,
            epochs=self.epochs,
            step=self.position.step,
            steps=self.epochs * self.batches,
            records=self.records,
        )
