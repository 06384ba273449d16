"""Things to time, in turns, so that whatever else the machine does meets all of them."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

__all__ = ["CLOCKS", "Case", "alternate"]

CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}  # on a busy machine only the second says much


@dataclass(frozen=True, slots=True)
class Case:
    """Something to time.

    Parameters
    ----------
    run : callable
        What is called.
    calls : int
        Number of calls in a turn, of which the mean is taken.
    per_call : float
        How often what is to be timed happens in a call.
    context : callable
        Returns the context of a turn.
    """

    run: Callable[[], object]
    calls: int = 1
    per_call: float = 1.0
    context: Callable[[], AbstractContextManager[object]] = nullcontext

    def seconds(self) -> list[float]:
        """Return the time by each clock [s]."""
        with self.context():
            start = [clock() for clock in CLOCKS.values()]
            for _ in range(self.calls):
                self.run()
            count = self.calls * self.per_call
            return [(clock() - begun) / count for clock, begun in zip(CLOCKS.values(), start, strict=True)]


def alternate(cases: Sequence[Case], turns: int) -> list[list[list[float]]]:
    """Return for each case and each turn the time by each clock [s], after one turn to warm up."""
    rounds = [[case.seconds() for case in cases] for _ in range(turns + 1)][1:]
    return [list(times) for times in zip(*rounds, strict=True)]
