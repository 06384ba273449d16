"""How fast memory is copied: the yardstick of whatever has to read P."""

from collections.abc import Callable

import numpy as np
from array_api_compat import array_namespace, device, is_numpy_array
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout
from ekfcore.threads import in_parallel, thread_count

from .arrays import wait
from .timing import median_seconds

__all__ = ["COPIED", "copier", "seconds_to_read", "triangle_bytes"]

COPIED = 2**28  # [bytes], far beyond any cache


def triangle_bytes(layout: BlockLayout, dtype: str) -> int:
    """Return the bytes of one triangle of P."""
    return np.dtype(dtype).itemsize * sum(n * (n + 1) // 2 for n in layout.sizes)


def seconds_to_read(n_bytes: int, like: Array) -> float:
    """Return how long it takes to read so many bytes where `like` lies, by the threads that the kernels share.

    A copy reads and writes; both count for its speed.
    """
    return median_seconds(copier(like), calls=1, turns=7) * n_bytes / (2 * COPIED)


def copier(like: Array) -> Callable[[], None]:
    """Return what copies `COPIED` bytes where `like` lies."""
    xp = array_namespace(like)
    on_host = is_numpy_array(like) or str(device(like)).lower().startswith("cpu")
    if on_host:
        source = np.ones(COPIED // 8)
        target = np.zeros_like(source) + 1  # written, so that the copies meet no page fault
        return lambda: _copy_in_parallel(target, source)
    on_device = xp.ones(COPIED // 8, dtype=xp.int64, device=device(like))
    return lambda: wait(xp.asarray(on_device, copy=True))


def _copy_in_parallel(target: NDArray[np.float64], source: NDArray[np.float64]) -> None:
    count = thread_count()
    in_parallel(_copy, [len(source) * part // count for part in range(count + 1)], target, source)


def _copy(first: int, last: int, target: NDArray[np.float64], source: NDArray[np.float64]) -> None:
    target[first:last] = source[first:last]
