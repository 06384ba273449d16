"""Times of the steps of a round."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Clock"]


class Clock:
    """Records wall-clock and CPU time of each step [s]."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a step."""
        wall, cpu = time.perf_counter(), _cpu_seconds()
        yield
        self.wall[step], self.cpu[step] = time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    return sum(os.times()[:4])  # with those of child processes that have ended
