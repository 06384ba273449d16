"""Training: one step on a frame, and an epoch as a user runs it."""

import tempfile
from pathlib import Path

import numpy as np

from ekfcore import partition
from ekfcore.potentials.sample import prepare_sample
from ekfcore.presets import Recipe, preset
from ekfcore.training import KalmanOptimizer, Settings, Trainer, prepare
from ekfcore.training.schedule import plan_of

from .arrays import BACKENDS, WITH_KERNELS, name_and_device, on_backend, skip_unusable, wait
from .copper import copper_frames, copper_model, initial_copper_weights
from .filters import settle
from .timing import calls_in_cycles, median_seconds

__all__ = ["Epoch", "Step", "steps_in_cycles"]

timeout = 300.0


def steps_in_cycles(recipe: Recipe) -> int:
    """Return in how many steps on frames of 72 atoms fold-ins, or the ageing of rows, come round."""
    updates = plan_of(recipe, 72)
    return calls_in_cycles(recipe.config, [len(kinds) for kinds in updates])


class Step:
    """A step on 72 copper atoms, with its share of the fold-ins, or of the times that rows age.

    The recommended filter measures the forces on all atoms, and the energy in every update; the paper's the energy,
    then four groups of six atoms, in five updates.
    """

    params = (WITH_KERNELS, ("recommended", "rlekf"))
    param_names = ("backend", "preset")

    def setup(self, backend: str, name: str) -> None:
        """Build an optimizer in the middle of a training."""
        self.recipe = preset(name)
        w = on_backend(backend, initial_copper_weights(), "float64")
        model = copper_model("nodal", like=w)
        layout = partition(model.layer_sizes, block_size=self.recipe.block_size, strategy=self.recipe.strategy)
        self.optimizer = KalmanOptimizer(model, self.recipe, settle(w, layout, self.recipe.config, backend))
        self.samples = [prepare_sample(model, frame, like=w) for frame in copper_frames(1)]
        self.rng = np.random.default_rng(0)

    def track_step(self, backend: str, name: str) -> float:
        """Return the mean time of a step over whole cycles of the covariance."""
        return median_seconds(self._step, calls=steps_in_cycles(self.recipe), turns=1)

    track_step.unit = "seconds"  # type: ignore[attr-defined]  # asv reads attributes of functions

    def _step(self) -> None:
        self.optimizer.step(self.samples, self.rng)
        wait(self.optimizer.state.covariance.traces)


class Epoch:
    """An epoch over eight frames with the default settings: updates, evaluation, checkpoint."""

    params = (BACKENDS,)
    param_names = ("backend",)
    number = rounds = 1
    repeat = 3
    warmup_time = 0.0

    def setup(self, backend: str) -> None:
        """Prepare the training."""
        self.folder = tempfile.TemporaryDirectory()
        self.trainer = _copper_trainer(Path(self.folder.name), backend)

    def time_epoch(self, backend: str) -> None:
        """Train for an epoch."""
        self.trainer.run()

    def peakmem_epoch(self, backend: str) -> None:
        """Take the peak memory of a training of one epoch."""
        self.trainer.run()

    def teardown(self, backend: str) -> None:
        """Remove data set and model; comes even after a setup that was skipped."""
        self.folder.cleanup()


def _copper_trainer(folder: Path, backend: str) -> Trainer:
    """Write a data set of eight frames to `folder` and prepare a training on it."""
    frames = [frame.to_ase() for frame in copper_frames(8)]  # skips where ASE is missing
    from ase.io import write

    data = folder / "copper.xyz"
    write(data, frames)
    name, device = name_and_device(backend)
    settings = {
        "data": {"train": [str(data)], "test": [str(data)]},
        "training": {"epochs": 1},
        "run": {"backend": name, "device": device},
    }
    with skip_unusable():
        return prepare(Settings.from_json(settings), folder / "run")
