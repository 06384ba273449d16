"""The threads that kernels share.

Their number is that of `limited_threads` in the thread that calls the kernel, else of the variable OMP_NUM_THREADS,
which other libraries of arrays read as well, else that of the cores this process may use.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import Any

from ekfcore.errors import InputError

__all__ = ["in_parallel", "limited_threads", "thread_count", "usable_cores"]

# A context variable: each thread of Python has its own limit, and leaving a block in one does not end another's.
_limit: ContextVar[int | None] = ContextVar("_limit", default=None)


def thread_count() -> int:
    """Return how many threads a kernel may use."""
    if (limit := _limit.get()) is not None:
        return limit
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    return usable_cores()


def usable_cores() -> int:
    """Return how many logical cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let kernels use that many threads as long as the block runs, where this thread of Python calls them.

    A thread that is started in the block begins without the limit, unless it runs in a copy of this context.

    Parameters
    ----------
    count : int
        Number of threads.

    Raises
    ------
    InputError
        If it is below 1.

    Examples
    --------
    >>> with limited_threads(3):
    ...     thread_count()
    3
    """
    if count < 1:
        raise InputError(f"the number of threads must be at least 1, got {count}")
    token = _limit.set(count)
    try:
        yield
    finally:
        _limit.reset(token)


def in_parallel(kernel: Callable[..., object], bounds: Sequence[int], *args: Any) -> None:
    """Call ``kernel(first, last, *args)`` for each pair of neighbours in `bounds`, all at the same time.

    Parameters
    ----------
    kernel : callable
        Gives up the interpreter's lock while it computes, and writes where no other call does.
    bounds : sequence of int
        One number more than there are calls; the first call runs in this thread.
    *args
        What every call gets.

    Examples
    --------
    >>> found = [0] * 4
    >>> def square(first, last, found):
    ...     found[first:last] = [index**2 for index in range(first, last)]
    >>> in_parallel(square, [0, 3, 4], found)
    >>> found
    [0, 1, 4, 9]
    """
    (first, last), *others = pairwise(bounds)
    futures = [_pool().submit(kernel, *pair, *args) for pair in others]
    try:
        kernel(first, last, *args)
    finally:
        wait(futures)
    for future in futures:
        future.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1024, thread_name_prefix="ekfcore")  # it starts no more than are needed


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
