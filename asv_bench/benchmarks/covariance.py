"""The covariance of the paper's network, block by block: update, fold-in, and both together.

Each time is also given over that of reading one triangle of P once, "x", which bounds every way that reads P: the bytes
of the triangle at the speed at which the same threads, or the device, copy memory in the same run.
"""

import numpy as np

from ekfcore import EKFState, update

from .arrays import BACKENDS, DTYPES, on_backend, wait
from .bandwidth import seconds_to_read, triangle_bytes
from .filters import BLOCK_SIZES, PARTS, RunningFilter, random_rows, running_filter, steady_config
from .timing import calls_in_cycles, median_seconds

__all__ = ["Cycle", "Fold", "Update"]

# asv reads these from the module, for all classes.
number = rounds = 1
repeat = (3, 20, 0.5)
warmup_time = 0.0
timeout = 300.0

_TURNS = 5
_N = sum(PARTS)


class Update:
    """One update with m measurements, half-way between two fold-ins."""

    params = (BACKENDS, BLOCK_SIZES, (1, 2, 5), DTYPES)
    param_names = ("backend", "block_size", "measurements", "dtype")

    def setup(self, backend: str, block_size: int, measurements: int, dtype: str) -> None:
        """Build a filter with half of the rows pending that it can hold, and the measurements."""
        self.config = steady_config(dtype)
        self.state = running_filter(backend, dtype, block_size=block_size, pending=self.config.pending // 2)
        self.H = random_rows(backend, dtype, measurements, _N)
        self.e = on_backend(backend, np.full(measurements, 0.01), dtype)

    def time_update(self, backend: str, block_size: int, measurements: int, dtype: str) -> None:
        """Update once; nothing is folded, and the next call starts from the same state."""
        state, _ = update(self.state, self.H, self.e, config=self.config, donate=True)
        wait(state.covariance.traces)

    def track_update_over_read(self, backend: str, block_size: int, measurements: int, dtype: str) -> float:
        """Return the time over that of reading a triangle."""
        args = (backend, block_size, measurements, dtype)
        return median_seconds(lambda: self.time_update(*args), calls=1, turns=_TURNS) / _reading(self.state, dtype)

    track_update_over_read.unit = "x"  # type: ignore[attr-defined]  # asv reads attributes of functions


class Fold:
    """One fold-in of as many rows as an update waits for."""

    params = (BACKENDS, BLOCK_SIZES, DTYPES)
    param_names = ("backend", "block_size", "dtype")

    def setup(self, backend: str, block_size: int, dtype: str) -> None:
        """Build a filter in which one row is missing for a fold-in."""
        pending = steady_config(dtype).pending - 1
        self.state = running_filter(backend, dtype, block_size=block_size, pending=pending)

    def time_fold(self, backend: str, block_size: int, dtype: str) -> None:
        """Fold; the next call folds the same rows again."""
        wait(self.state.covariance.fold(donate=True).traces)

    def track_fold_over_read(self, backend: str, block_size: int, dtype: str) -> float:
        """Return the time over that of reading a triangle; a fold-in also writes it."""
        args = (backend, block_size, dtype)
        return median_seconds(lambda: self.time_fold(*args), calls=1, turns=_TURNS) / _reading(self.state, dtype)

    track_fold_over_read.unit = "x"  # type: ignore[attr-defined]


class Cycle:
    """All scalar updates from one fold-in to the next, as a training makes them."""

    params = (BACKENDS, BLOCK_SIZES, DTYPES)
    param_names = ("backend", "block_size", "dtype")

    def setup(self, backend: str, block_size: int, dtype: str) -> None:
        """Build a filter that has just folded."""
        config = steady_config(dtype)
        self.calls = calls_in_cycles(config, [1])
        self.filter = RunningFilter(running_filter(backend, dtype, block_size=block_size), config)
        self.H = random_rows(backend, dtype, 1, _N)

    def peakmem_cycle(self, backend: str, block_size: int, dtype: str) -> None:
        """Take the peak memory of a cycle."""
        for _ in range(self.calls):
            self.filter.update(self.H, 0.01)

    def track_update(self, backend: str, block_size: int, dtype: str) -> float:
        """Return the time of an update and its share of the fold-in."""
        return self._seconds()

    def track_update_over_read(self, backend: str, block_size: int, dtype: str) -> float:
        """Return the same over the time of reading a triangle."""
        return self._seconds() / _reading(self.filter.state, dtype)

    track_update.unit = "seconds"  # type: ignore[attr-defined]
    track_update_over_read.unit = "x"  # type: ignore[attr-defined]

    def _seconds(self) -> float:
        return median_seconds(lambda: self.filter.update(self.H, 0.01), calls=self.calls, turns=1)


def _reading(state: EKFState, dtype: str) -> float:
    return seconds_to_read(triangle_bytes(state.covariance.layout, dtype), state.covariance.scale)
