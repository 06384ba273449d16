"""Processes that torchrun or srun has started: how they meet, and what they tell each other when they end."""

import os
import time
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from platform import python_version

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from ekfcore.errors import InputError

from .group import GroupRanks, reason_of
from .launch import Launch

__all__ = ["TIMEOUT", "TorchRanks"]

TIMEOUT = "EKFCORE_TIMEOUT"
"""Variable of the environment: how long ranks wait for each other [s]; ten minutes if it is not set."""


class TorchRanks(GroupRanks):
    """All processes of a run: they meet when the object is made, and `connect` lets them send arrays.

    Parameters
    ----------
    launch : Launch
        Place of this process.

    Raises
    ------
    InputError
        If the others do not come.
    """

    def __init__(self, launch: Launch) -> None:
        super().__init__(launch.rank, launch.size)
        self._launch, self._seconds = launch, _timeout()
        os.environ |= {"MASTER_ADDR": launch.address, "MASTER_PORT": str(launch.port)}
        limit = timedelta(seconds=self._seconds)
        try:
            # Small texts that outlive the connections, by which ranks that end say why.
            self._store, _, _ = next(rendezvous("env://", launch.rank, launch.size, timeout=limit))
            self._store.set_timeout(limit)
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(self._not_met(error)) from None

    def connect(self) -> None:
        """Open the connections, and see that all ranks run the same version.

        Raises
        ------
        InputError
            If the network cannot be used, or they run other versions.
        """
        gpus = torch.cuda.device_count() if dist.is_nccl_available() else 0
        try:
            if self._launch.local_rank < gpus:
                torch.cuda.set_device(self._launch.local_rank)  # which is what "cuda" means from here on
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=self._store,
                rank=self.rank,
                world_size=self.size,
                timeout=timedelta(seconds=self._seconds),
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise InputError(self._not_met(error)) from None
        self.agree("versions", f"ekfcore {version('ekfcore')}, NumPy {np.__version__}, Python {python_version()}")

    def _not_met(self, error: Exception) -> str:
        """Say why the ranks did not meet."""
        launch, reason = self._launch, reason_of(error)
        if "find address" in reason:  # of an interface that is not there
            return (
                f"rank {launch.rank} finds no network to the others ({reason}); set GLOO_SOCKET_IFNAME to an interface"
            )
        return (
            f"rank {launch.rank} of {launch.size} did not meet the others at {launch.address}, port {launch.port}, "
            f"within {self._seconds:g} s ({reason}); see that all are started, and that nothing else listens there"
        )

    def say(self, topic: str, text: str = "") -> None:
        """Leave a text for the others, whatever has become of the connections."""
        with suppress(RuntimeError):  # the store has gone with rank 0
            self._store.set(f"told/{topic}/{self.rank}", text)

    def heard(self, topic: str, rank: int, seconds: float) -> str | None:
        """Return what a rank said, for which this one waits so long; None if it said nothing."""
        key, end = f"told/{topic}/{rank}", time.monotonic() + seconds
        with suppress(RuntimeError):
            while not self._store.check([key]):
                if time.monotonic() > end:
                    return None
                time.sleep(0.05)
            return str(self._store.get(key).decode())
        return None

    def leave(self) -> None:
        """Close the connections, so that ranks that wait for this one wait no longer."""
        if dist.is_initialized():
            dist.destroy_process_group()


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise InputError(f"{TIMEOUT} in the environment must be a positive number of seconds, got {text!r}")
    return seconds
