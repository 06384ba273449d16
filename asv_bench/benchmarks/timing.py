"""Mean times over whole cycles of the covariance: after some updates rows are folded or age, after most they do not."""

import time
from collections.abc import Callable, Sequence
from statistics import median

from ekfcore import EKFConfig

__all__ = ["calls_in_cycles", "median_seconds"]


def calls_in_cycles(config: EKFConfig, updates: Sequence[int]) -> int:
    """Return how many calls it takes until fold-ins, or the ageing of rows, come at the same places again.

    Parameters
    ----------
    config : EKFConfig
        Settings of the filter.
    updates : sequence of int
        Measurements of each update of a call.

    Examples
    --------
    >>> calls_in_cycles(EKFConfig(), [1]), calls_in_cycles(EKFConfig(), [5]), calls_in_cycles(EKFConfig(), [2, 2, 2, 2])
    (32, 7, 4)
    >>> calls_in_cycles(EKFConfig(rows=128), [3, 3])
    11
    """
    most, kept = (config.rows, config.rows // 2) if config.rows else (config.pending, 0)
    seen: dict[int, int] = {}
    count, calls = kept, 0
    while count not in seen:
        seen[count] = calls
        for m in updates:
            count = count + m if count + m < most else kept
        calls += 1
    return calls - seen[count]


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
