"""The covariance: update and fold-in, on the paper's network."""

import time

import numpy as np

from ekfcore import BlockLayout, EKFConfig, update

from .common import BACKENDS, BLOCK_SIZES, DTYPES, on_backend, paper_weights, random_rows, running_state, wait

__all__ = ["Cycle", "Fold", "Update"]

_CONFIG = EKFConfig()
_COPIED = 2**28  # [bytes], far beyond any cache


class Update:
    """One update with m measurements, half-way between two fold-ins."""

    params = (BACKENDS, BLOCK_SIZES, (1, 2, 5), DTYPES)
    param_names = ("backend", "block_size", "measurements", "dtype")
    number = 1  # each update gets the state of its own that `donate` asks for
    timeout = 300.0

    def setup(self, backend: str, block_size: int, measurements: int, dtype: str) -> None:
        """Build a filter with half of the rows pending that it can hold, and the measurements."""
        w, half = paper_weights(backend, dtype), _CONFIG.pending // 2
        self.state = running_state(w, backend, dtype, block_size=block_size, config=_CONFIG, pending=half)
        self.H = random_rows(backend, dtype, measurements)
        self.e = on_backend(backend, np.full(measurements, 0.01), dtype)

    def time_update(self, backend: str, block_size: int, measurements: int, dtype: str) -> None:
        """Update once; nothing is folded."""
        state, _ = update(self.state, self.H, self.e, config=_CONFIG, donate=True)
        wait(state.covariance.traces)


class Fold:
    """One fold-in of as many rows as an update waits for."""

    params = (BACKENDS, BLOCK_SIZES, DTYPES)
    param_names = ("backend", "block_size", "dtype")
    number = 1
    timeout = 300.0

    def setup(self, backend: str, block_size: int, dtype: str) -> None:
        """Build a filter that would fold at the next row."""
        w, rows = paper_weights(backend, dtype), _CONFIG.pending
        config = EKFConfig(pending=rows + 1)
        state = running_state(w, backend, dtype, block_size=block_size, config=config, pending=rows)
        self.covariance = state.covariance

    def time_fold(self, backend: str, block_size: int, dtype: str) -> None:
        """Fold once."""
        wait(self.covariance.fold(donate=True).traces)


class Cycle:
    """All scalar updates from one fold-in to the next, as a training makes them."""

    params = (BACKENDS, BLOCK_SIZES, DTYPES)
    param_names = ("backend", "block_size", "dtype")
    timeout = 300.0

    def setup(self, backend: str, block_size: int, dtype: str) -> None:
        """Build a filter that has just folded."""
        w = paper_weights(backend, dtype)
        self.state = running_state(w, backend, dtype, block_size=block_size, config=_CONFIG)
        self.H = random_rows(backend, dtype, 1)

    def peakmem_update(self, backend: str, block_size: int, dtype: str) -> None:
        """Take the peak memory of a cycle."""
        self._run()

    def track_update_over_triangle_read(self, backend: str, block_size: int, dtype: str) -> float:
        """Return the mean time of an update, divided by that of reading one triangle of P once.

        The reading is a bound for every way of updating that reads P: the bytes of the triangle at the speed at which
        one core, or the device, copies memory.
        """
        read = _triangle_bytes(self.state.covariance.layout, dtype) / _copy_bandwidth(backend, dtype)
        start = time.perf_counter()
        self._run()
        return (time.perf_counter() - start) / _CONFIG.pending / read

    track_update_over_triangle_read.unit = "x"  # type: ignore[attr-defined]  # asv reads attributes of functions

    def _run(self) -> None:
        for _ in range(_CONFIG.pending):
            self.state, _info = update(self.state, self.H, 0.01, config=_CONFIG, donate=True)
        wait(self.state.covariance.traces)


def _triangle_bytes(layout: BlockLayout, dtype: str) -> int:
    return np.dtype(dtype).itemsize * sum(n * (n + 1) // 2 for n in layout.sizes)


def _copy_bandwidth(backend: str, dtype: str) -> float:
    """Return how fast memory is copied, reads and writes counted [bytes/s]."""
    source = on_backend(backend, np.ones(_COPIED // np.dtype(dtype).itemsize), dtype)
    target = source + 1  # written, so that the copies meet no page fault
    seconds = []
    for _ in range(5):
        wait(target)
        start = time.perf_counter()
        target[:] = source
        wait(target)
        seconds.append(time.perf_counter() - start)
    return 2 * _COPIED / min(seconds)
