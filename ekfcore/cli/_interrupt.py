"""Ctrl-C and the signal of a queue system stop a training in an orderly way."""

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
    """Remembers that someone asked to stop.

    Attributes
    ----------
    exit_code : int
        What a shell expects of a process that a signal ended; 0 as long as none came.
    """

    def __init__(self) -> None:
        self.exit_code = 0

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self.exit_code != 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first signal; the second one interrupts at once."""
        if self.exit_code:
            raise KeyboardInterrupt
        self.exit_code = 128 + number
        # Not print: a signal may come in the middle of one, which Python's files do not allow to be entered twice.
        with contextlib.suppress(OSError):
            os.write(2, b"\nekfcore: stopping after this step (once more to stop at once)\n")


@contextlib.contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Catch the signals while the block runs."""
    request = StopRequest()
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # the only one in which Python allows it
        previous = {number: signal.signal(number, request.handle) for number in _SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
