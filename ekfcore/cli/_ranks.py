"""One command on several processes: they meet, rank 0 alone talks, and what ends one of them ends all with one line."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING

from ekfcore.distributed.launch import find_launch
from ekfcore.errors import EKFError, InputError, RankError
from ekfcore.ranks import ALONE, Ranks

if TYPE_CHECKING:
    from ekfcore.distributed.communicator import TorchRanks

__all__ = ["joined_ranks", "refuse_ranks"]

_PATIENCE = 5.0  # [s] for which a rank that ends waits for what the others have to say


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """Meet the other processes of torchrun or srun; in a process by itself do nothing.

    Raises
    ------
    InputError
        If they do not meet.
    """
    launch = find_launch(os.environ)
    if launch is None:
        yield ALONE
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns of every connection that is gone, at length
    try:
        from ekfcore.distributed.communicator import TorchRanks
    except ImportError as error:
        raise InputError(f'several ranks need PyTorch ({error}); run: pip install "ekfcore[torch]"') from None
    # torchrun ends all ranks as soon as one has ended: by then, each must have the time to say why.
    previous = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ranks = TorchRanks(launch)
    try:
        ranks.connect()
        with _silent(ranks.rank > 0), _ended_by_sigterm(ranks.rank):
            yield ranks
    except (EKFError, OSError, MemoryError, KeyboardInterrupt) as error:
        ranks.leave()  # the others notice now
        # A rank that has only lost the others has no reason to give.
        if not _speaks(ranks, "" if isinstance(error, RankError) else str(error) or type(error).__name__):
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None
        told = _told_by_others(ranks) if isinstance(error, RankError) else None
        _let_others_read(ranks)
        if told is not None:
            raise InputError(told) from None
        raise
    ranks.leave()
    signal.signal(signal.SIGTERM, previous)


def refuse_ranks(command: str, shared: Sequence[str]) -> None:
    """Refuse to run a command in several processes, which would write the same files.

    Raises
    ------
    InputError
        With the names of the commands that they share.
    """
    launch = None
    with contextlib.suppress(InputError):  # of variables that mean something else: no matter to a single process
        launch = find_launch(os.environ)
    if launch is None or launch.size == 1:
        return
    if launch.rank:  # rank 0 speaks, and needs the time to: torchrun ends all ranks as soon as one has ended
        time.sleep(2 * _PATIENCE)
        raise SystemExit(2)
    raise InputError(
        f"`ekfcore {command}` runs in one process, got {launch.size} ranks; start it without torchrun and srun, which "
        f"are for {' and '.join(shared)}"
    )


def _speaks(ranks: "TorchRanks", text: str) -> bool:
    """Say what ends this rank; return whether it is the one that prints it: rank 0, or one that rank 0 leaves alone."""
    ranks.say("end", text)
    if ranks.rank == 0:
        return True
    heard = ranks.heard("end", 0, 2 * _PATIENCE) is not None
    ranks.say("read")
    return not heard


def _told_by_others(ranks: "TorchRanks") -> str | None:
    """Return what ended another rank first, where it could say so, rather than that it has gone."""
    for rank in range(1, ranks.size) if ranks.rank == 0 else ():
        text = ranks.heard("end", rank, 0.5)
        if text:
            return f"rank {rank}: {text}"
    return None


def _let_others_read(ranks: "TorchRanks") -> None:
    """Stay until the others have read, for rank 0 may keep the texts; those that are gone are not waited for twice."""
    for rank in range(1, ranks.size) if ranks.rank == 0 else ():
        if ranks.heard("read", rank, _PATIENCE) is None:
            return


@contextlib.contextmanager
def _ended_by_sigterm(rank: int) -> Iterator[None]:
    """End on SIGTERM, after a time in which this rank may notice by itself why another one has ended."""

    def end(number: int, frame: FrameType | None) -> None:
        raise RankError(f"rank {rank} was told to end, by SIGTERM; what was saved is intact")

    def wait(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE)

    on_alarm, on_sigterm = signal.signal(signal.SIGALRM, end), signal.signal(signal.SIGTERM, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, on_alarm)


@contextlib.contextmanager
def _silent(silent: bool) -> Iterator[None]:
    """Print nothing; an error that nobody expected is shown all the same, after the block."""
    if not silent:
        yield
        return
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
