"""Mean times over whole cycles of the covariance: some updates are followed by a fold-in, most are not."""

import math
import time
from collections.abc import Callable
from statistics import median

__all__ = ["calls_in_cycles", "median_seconds"]


def calls_in_cycles(pending: int, rows: int, *, updates: int = 1) -> int:
    """Return the smallest number of calls with so many updates each that ends where a fold-in does.

    Parameters
    ----------
    pending : int
        Rows that the covariance waits for.
    rows : int
        Measurements, and therefore rows, of an update.
    updates : int
        Updates of a call.

    Examples
    --------
    >>> calls_in_cycles(32, 1), calls_in_cycles(32, 5), calls_in_cycles(32, 2, updates=4)
    (32, 7, 4)
    """
    return math.lcm(updates, -(-pending // rows)) // updates


def median_seconds(run: Callable[[], object], *, calls: int, turns: int) -> float:
    """Return the median over the turns of the mean time of a call, after one call to warm up [s]."""
    run()
    seconds = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(calls):
            run()
        seconds.append((time.perf_counter() - start) / calls)
    return median(seconds)
