"""Orderly stop of a training on Ctrl-C or on the signal of a queue system."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

__all__ = ["StopRequest", "stop_on_signal"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Flag that is set by a signal to stop.

    Attributes
    ----------
    exit_code : int
        128 plus the signal number, as shells expect; 0 before a signal.
    """

    def __init__(self) -> None:
        self.exit_code = 0

    def __call__(self) -> bool:
        """Return whether a signal has come."""
        return self.exit_code != 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Record the first signal; raise KeyboardInterrupt on the second."""
        if self.exit_code:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        # Not print(): the signal may come during a print(), and Python's files are not reentrant.
        with contextlib.suppress(OSError):
            os.write(2, b"\nekfcore: stopping after this step (once more to stop at once)\n")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM during the block."""
    request = StopRequest()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # Python sets signal handlers in the main thread only
        previous = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
