"""The covariance of the paper's network with rows that join the blocks, beside the one without (rows = 0).

Both have blocks of the recommended size. What ages with rows is folded without.
"""

import tracemalloc

import numpy as np

from ekfcore import update
from ekfcore.presets import preset

from .arrays import ON_NUMPY, WITH_KERNELS, on_backend, wait
from .filters import PARTS, RunningFilter, random_rows, running_filter, steady_config
from .timing import calls_in_cycles, median_seconds

__all__ = ["Age", "Memory", "Update"]

number = rounds = 1
repeat = (3, 20, 0.5)
warmup_time = 0.0
timeout = 300.0

_ROWS = (0, 32, 128, 512)
_MEASUREMENTS = (1, 3, 8)
_BLOCK_SIZE = preset("recommended").block_size
_N = sum(PARTS)


class Update:
    """Updates with m measurements."""

    params = (WITH_KERNELS, _ROWS, _MEASUREMENTS)
    param_names = ("backend", "rows", "measurements")

    def setup(self, backend: str, rows: int, measurements: int) -> None:
        """Build a filter half-way between two fold-ins, or two times that rows age, and the measurements."""
        self.config = steady_config("float64", rows=rows)
        pending = (_cycle(rows) - measurements) // 2
        self.state = running_filter(backend, "float64", block_size=_BLOCK_SIZE, rows=rows, pending=pending)
        self.H = random_rows(backend, "float64", measurements, _N)
        self.e = on_backend(backend, np.full(measurements, 0.01), "float64")

    def time_update(self, backend: str, rows: int, measurements: int) -> None:
        """Update once; nothing is folded or ages, and the next call starts from the same state."""
        state, _ = update(self.state, self.H, self.e, config=self.config, donate=True)
        wait(state.covariance.traces)

    def track_update(self, backend: str, rows: int, measurements: int) -> float:
        """Return the time of an update with its share of what follows some of them."""
        running, calls = RunningFilter(self.state, self.config), calls_in_cycles(self.config, [measurements])
        return median_seconds(lambda: running.update(self.H, self.e), calls=calls, turns=1)

    track_update.unit = "seconds"  # type: ignore[attr-defined]  # asv reads attributes of functions


class Age:
    """What the older half of the rows says is left to the blocks; a fold-in where there are none."""

    params = (WITH_KERNELS, _ROWS)
    param_names = ("backend", "rows")

    def setup(self, backend: str, rows: int) -> None:
        """Build a filter in which one row is missing for it."""
        pending = _cycle(rows) - 1
        self.covariance = running_filter(
            backend, "float64", block_size=_BLOCK_SIZE, rows=rows, pending=pending
        ).covariance

    def time_age(self, backend: str, rows: int) -> None:
        """Age or fold; the next call does so with what this one left."""
        P = self.covariance
        wait((P.age(rows // 2, donate=True) if rows else P.fold(donate=True)).traces)


class Memory:
    """A filter over a cycle of scalar updates; backends for arrays of NumPy alone, which tracemalloc sees."""

    params = (tuple(backend for backend in WITH_KERNELS if backend in ON_NUMPY), _ROWS)
    param_names = ("backend", "rows")

    def track_memory(self, backend: str, rows: int) -> float:
        """Return the peak of what is allocated for filter and updates."""
        config = steady_config("float64", rows=rows)
        H = random_rows(backend, "float64", 1, _N)
        running_filter(backend, "float64", block_size=64, parts=(64,))  # imports and compiles, which does not count
        tracemalloc.start()
        try:
            running = RunningFilter(running_filter(backend, "float64", block_size=_BLOCK_SIZE, rows=rows), config)
            for _ in range(calls_in_cycles(config, [1])):
                running.update(H, 0.01)
            return float(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()

    track_memory.unit = "bytes"  # type: ignore[attr-defined]


def _cycle(rows: int) -> int:
    """Return how many rows come between two fold-ins, or two times that rows age."""
    return rows - rows // 2 if rows else steady_config("float64").pending
