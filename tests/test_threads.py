"""How many threads there are, and what they share."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ekfcore import InputError
from ekfcore.threads import in_parallel, limited_threads, thread_count


@pytest.mark.parametrize(("value", "count"), [("3", 3), ("5,2", 5), (" 4 ", 4)])
def test_number_is_that_of_other_libraries(monkeypatch: pytest.MonkeyPatch, value: str, count: int) -> None:
    """OMP_NUM_THREADS, of whose list the first number counts."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert thread_count() == count


@pytest.mark.parametrize("value", [None, "", "0", "-1", "all"])
def test_number_is_that_of_the_cores(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    """If the variable says nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert thread_count() == cores


def test_number_can_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The innermost block counts, and an exception ends it, too."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with limited_threads(7):
        with limited_threads(2):
            assert thread_count() == 2
        assert thread_count() == 7
        with pytest.raises(ZeroDivisionError), limited_threads(2):
            1 / 0  # noqa: B018
        assert thread_count() == 7
    assert thread_count() == 3
    with pytest.raises(InputError, match="must be at least 1, got 0"), limited_threads(0):
        pass


def test_a_limit_is_that_of_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, each with a limit of its own, of which the one that began first ends first."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    barrier, seen = threading.Barrier(2, timeout=60), {}

    def compute(limit: int, last: bool) -> None:
        if last:
            barrier.wait()
        with limited_threads(limit):
            if not last:
                barrier.wait()
            barrier.wait()
            inside = thread_count()
            if last:
                barrier.wait()
        if not last:
            barrier.wait()
        seen[limit] = inside, thread_count()

    threads = [threading.Thread(target=compute, args=args) for args in ((5, False), (7, True))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {5: (5, 3), 7: (7, 3)}
    assert thread_count() == 3


def test_every_share_runs_once_and_at_the_same_time() -> None:
    """The first one in the calling thread; a barrier opens only if all are there."""
    barrier, seen = threading.Barrier(3), {}

    def kernel(first: int, last: int, word: str) -> None:
        barrier.wait(timeout=60)
        seen[first, last, word] = threading.current_thread()

    in_parallel(kernel, [0, 2, 3, 7], "once")
    assert sorted(seen) == [(0, 2, "once"), (2, 3, "once"), (3, 7, "once")]
    assert seen[0, 2, "once"] is threading.current_thread()
    assert len(set(seen.values())) == 3


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_errors_wait_for_the_other_shares(broken: int) -> None:
    """Nobody writes any more once an exception is on its way."""
    done = []

    def kernel(first: int, last: int) -> None:
        if first == broken:
            raise ZeroDivisionError
        time.sleep(0.05 * first)
        done.append(first)

    with pytest.raises(ZeroDivisionError):
        in_parallel(kernel, [0, 1, 2, 3])
    assert sorted(done) == sorted({0, 1, 2} - {broken})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_threads_after_a_fork(tmp_path: Path) -> None:
    """A child process inherits no threads, and gets its own."""
    code = """
import os, signal
from ekfcore.threads import in_parallel
in_parallel(lambda first, last: None, [0, 1, 2])
child = os.fork()
if child == 0:
    signal.alarm(60)
    in_parallel(lambda first, last: None, [0, 1, 2])
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    # Python warns of forks beside threads from 3.12 on.
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["7"], run.stderr
