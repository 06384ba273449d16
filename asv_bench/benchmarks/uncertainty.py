"""Uncertainty of frames of 72 copper atoms, forces of half of them: 109 gradients of 26 551 weights each."""

from functools import cache

from ekfcore import partition
from ekfcore.filter import EKFState
from ekfcore.potentials.kpu import KalmanUncertainty
from ekfcore.presets import preset
from ekfcore.threads import thread_count

from .copper import copper_frames, copper_model, initial_copper_weights
from .filters import settle

__all__ = ["Uncertainty"]

_FRAMES = 8  # for each thread: enough to have all of them at work nearly all of the time


@cache
def _state() -> EKFState:
    """Return the recommended filter in the middle of a training, with as many rows as remain when some have aged."""
    w, recipe = initial_copper_weights(), preset("recommended")
    sizes = copper_model("nodal", like=w).layer_sizes
    layout = partition(sizes, block_size=recipe.block_size, strategy=recipe.strategy)
    return settle(w, layout, recipe.config, "auto")


class Uncertainty:
    """What active learning asks of each explored frame."""

    params = ("float64", "float32")
    param_names = ("dtype",)
    number = rounds = 1
    repeat = (3, 10, 5.0)
    warmup_time = 0.0
    timeout = 300.0

    def setup(self, dtype: str) -> None:
        """Find the root, and go through everything once."""
        state = _state()
        self.uncertainty = KalmanUncertainty(copper_model("nodal", like=state.weights), state, dtype=dtype)
        self.frames = copper_frames(_FRAMES * thread_count())
        self.uncertainty.many(self.frames[:2])

    def time_frame(self, dtype: str) -> None:
        """One frame, in one thread."""
        self.uncertainty(self.frames[0])

    def time_many(self, dtype: str) -> None:
        """Eight frames for each thread, all threads at work."""
        self.uncertainty.many(self.frames)

    def time_root(self, dtype: str) -> None:
        """The root of P, once for all frames."""
        KalmanUncertainty(self.uncertainty.model, _state(), dtype=dtype)
