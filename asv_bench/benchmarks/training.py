"""Training: one step on a frame, and an epoch as a user runs it."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from ekfcore.presets import Mode, preset
from ekfcore.training import KalmanOptimizer, Settings, prepare
from ekfcore.training.sample import prepare_samples

from .common import (
    BACKENDS,
    BLOCK_SIZES,
    DTYPES,
    copper_frames,
    copper_model,
    name_and_device,
    on_backend,
    running_state,
    wait,
)

__all__ = ["Epoch", "Step"]


class Step:
    """One step on a frame of 72 copper atoms: the energy and four groups of six atoms.

    Nothing is folded in it; a fold-in follows every four to seven steps and has a benchmark of its own.
    """

    params = (BACKENDS, BLOCK_SIZES, ("sequential", "pinned", "vector"), DTYPES)
    param_names = ("backend", "block_size", "mode", "dtype")
    number = 1  # the optimizer overwrites its state
    timeout = 300.0

    def setup(self, backend: str, block_size: int, mode: Mode, dtype: str) -> None:
        """Build an optimizer in the middle of a training and let it make a step."""
        frames = copper_frames(1)
        model, weights = copper_model(frames)
        recipe = replace(preset("recommended"), block_size=block_size, mode=mode)
        w = on_backend(backend, weights, dtype)
        state = running_state(w, backend, dtype, block_size=block_size, config=recipe.config, strategy=recipe.strategy)
        self.optimizer = KalmanOptimizer(model, recipe, state)
        self.samples = list(prepare_samples(model, frames, like=w))
        self.rng = np.random.default_rng(0)
        self.time_step(backend, block_size, mode, dtype)

    def time_step(self, backend: str, block_size: int, mode: Mode, dtype: str) -> None:
        """Make a step."""
        self.optimizer.step(self.samples, self.rng)
        wait(self.optimizer.state.covariance.traces)


class Epoch:
    """An epoch over eight frames with the default settings: updates, evaluation, checkpoint."""

    params = (BACKENDS,)
    param_names = ("backend",)
    number = 1
    timeout = 300.0

    def setup(self, backend: str) -> None:
        """Write the data set and prepare the training."""
        self.folder = tempfile.TemporaryDirectory()
        on_backend(backend, np.zeros(1), "float64")  # skips what is not installed
        frames = [frame.to_ase() for frame in copper_frames(8)]
        from ase.io import write

        data = Path(self.folder.name) / "copper.xyz"
        write(data, frames)
        name, device = name_and_device(backend)
        settings = {
            "data": {"train": [str(data)], "test": [str(data)]},
            "training": {"epochs": 1},
            "run": {"backend": name, "device": device},
        }
        self.trainer = prepare(Settings.from_json(settings), Path(self.folder.name) / "run")

    def time_epoch(self, backend: str) -> None:
        """Train for an epoch."""
        self.trainer.run()

    def teardown(self, backend: str) -> None:
        """Remove data set and model; comes even after a setup that was skipped."""
        self.folder.cleanup()
