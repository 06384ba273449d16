"""How cost grows with the number of weights at a fixed block size: time and memory of an update.

The blocks' number grows with the weights, so both should grow in proportion: a slope of one on logarithmic scales. Once
block by block (rows = 0), once with as many rows that join the blocks as the recommended filter keeps.
"""

import tracemalloc
from collections.abc import Callable

import numpy as np

from ekfcore import partition
from ekfcore.presets import preset

from .arrays import ON_NUMPY, WITH_KERNELS
from .filters import RunningFilter, random_rows, settle, steady_config
from .timing import calls_in_cycles, median_seconds

__all__ = ["Scaling", "ScalingMemory", "Slope"]

timeout = 300.0

_SIZES = (1000, 3000, 10000, 30000, 100000)
_BLOCK_SIZE = 1024
_ROWS = (0, preset("recommended").config.rows)
_TRACED = tuple(backend for backend in WITH_KERNELS if backend in ON_NUMPY)


class Scaling:
    """Scalar updates, each with its share of the fold-ins, or of the times that rows age."""

    params = (WITH_KERNELS, _ROWS, _SIZES)
    param_names = ("backend", "rows", "weights")

    def setup(self, backend: str, rows: int, weights: int) -> None:
        """Skip what cannot be used here."""
        _updates(backend, rows, _SIZES[0])

    def track_update(self, backend: str, rows: int, weights: int) -> float:
        """Return the mean time of an update over a cycle."""
        return _seconds(backend, rows, weights)

    track_update.unit = "seconds"  # type: ignore[attr-defined]  # asv reads attributes of functions


class ScalingMemory:
    """The same updates; backends for arrays of NumPy alone, which tracemalloc sees."""

    params = (_TRACED, _ROWS, _SIZES)
    param_names = ("backend", "rows", "weights")

    def setup(self, backend: str, rows: int, weights: int) -> None:
        """Skip what cannot be used here; import and compile, which does not count."""
        _updates(backend, rows, _SIZES[0])()

    def track_memory(self, backend: str, rows: int, weights: int) -> float:
        """Return the peak of what is allocated for filter and updates."""
        return _bytes(backend, rows, weights)

    track_memory.unit = "bytes"  # type: ignore[attr-defined]


class Slope:
    """The slope of a straight line through the logarithms of cost and of the number of weights."""

    params = (_TRACED, _ROWS)
    param_names = ("backend", "rows")

    def setup(self, backend: str, rows: int) -> None:
        """Skip what cannot be used here; import and compile."""
        _updates(backend, rows, _SIZES[0])()

    def track_slope_of_time(self, backend: str, rows: int) -> float:
        """Return the exponent with which time grows."""
        return _slope([_seconds(backend, rows, n) for n in _SIZES])

    def track_slope_of_memory(self, backend: str, rows: int) -> float:
        """Return the exponent with which memory grows."""
        return _slope([_bytes(backend, rows, n) for n in _SIZES])

    track_slope_of_time.unit = track_slope_of_memory.unit = "exponent"  # type: ignore[attr-defined]


def _slope(costs: list[float]) -> float:
    return float(np.polyfit(np.log(_SIZES), np.log(costs), 1)[0])


def _cycle(rows: int) -> int:
    return calls_in_cycles(steady_config("float64", rows=rows), [1])


def _seconds(backend: str, rows: int, weights: int) -> float:
    return median_seconds(_updates(backend, rows, weights), calls=_cycle(rows), turns=1)


def _bytes(backend: str, rows: int, weights: int) -> float:
    tracemalloc.start()
    try:
        update = _updates(backend, rows, weights)
        for _ in range(_cycle(rows)):
            update()
        return float(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def _updates(backend: str, rows: int, weights: int) -> Callable[[], None]:
    """Return an update of a filter for so many weights, which goes on with every call."""
    H = random_rows(backend, "float64", 1, weights)[0, :]
    layout = partition((weights,), block_size=_BLOCK_SIZE)
    config = steady_config("float64", rows=rows)
    running = RunningFilter(settle(H, layout, config, backend), config)
    return lambda: running.update(H, 0.01)
