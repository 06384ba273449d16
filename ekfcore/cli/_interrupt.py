"""Orderly stop of a training on Ctrl-C or on the signal of a queue system."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

from ekfcore.ranks import ALONE, Ranks

__all__ = ["StopRequest", "stop_on_signal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Flag that is set by a signal to stop.

    Parameters
    ----------
    ranks : Ranks
        Processes that stop together.

    Attributes
    ----------
    exit_code : int
        128 plus the signal number, as shells expect; 0 before a signal.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self.exit_code, self._ranks = 0, ranks

    def __call__(self) -> bool:
        """Return whether a signal has come, to any rank."""
        self.exit_code = max(int(code) for code in self._ranks.gather(np.asarray(self.exit_code)))
        return self.exit_code != 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record the first signal; raise KeyboardInterrupt on the second."""
        if self.exit_code:
            if self._ranks is not ALONE:  # a launcher passes the signal on that has come from the terminal already
                return
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        if self._ranks.rank:
            return
        # Not print(): the signal may come during a print(), and Python's files are not reentrant.
        with contextlib.suppress(OSError):
            more = b" (once more to stop at once)" if self._ranks is ALONE else b""
            os.write(2, b"\nekfcore: stopping after this step" + more + b"\n")


@contextlib.contextmanager
def stop_on_signal(ranks: Ranks = ALONE) -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM during the block, for all ranks."""
    request = StopRequest(ranks)
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python sets signal handlers in the main thread only
        previous = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
