"""Arrays between processes, by the collectives of PyTorch: gloo on the host, NCCL between GPUs.

Only tensors are sent, and nothing that could run code where it arrives.
"""

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version
from platform import python_version

import numpy as np
import torch
import torch.distributed as dist
import torch.utils.dlpack
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from ekfcore._typing import Array
from ekfcore.errors import InputError, RankError, one_line

from .launch import Launch

__all__ = ["TIMEOUT", "TorchRanks"]

TIMEOUT = "EKFCORE_TIMEOUT"
"""Variable of the environment: how long ranks wait for each other [s]; ten minutes if it is not set."""

_TEXT = 200  # [bytes] of what ranks compare and tell each other


class TorchRanks:
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
        self.rank, self.size, self.nearby = launch.rank, launch.size, 1
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
        # A number of the machine, not its name: a name has no fixed length.
        host = hashlib.sha256(socket.gethostname().encode()).digest()[:8]
        hosts = [int(other[0]) for other in self.gather(np.frombuffer(host, np.int64))]
        self.nearby = hosts.count(hosts[self.rank])

    def _not_met(self, error: Exception) -> str:
        """Say why the ranks did not meet."""
        launch, reason = self._launch, _reason(error)
        if "find address" in reason:  # of an interface that is not there
            return (
                f"rank {launch.rank} finds no network to the others ({reason}); set GLOO_SOCKET_IFNAME to an interface"
            )
        return (
            f"rank {launch.rank} of {launch.size} did not meet the others at {launch.address}, port {launch.port}, "
            f"within {self._seconds:g} s ({reason}); see that all are started, and that nothing else listens there"
        )

    def gather(self, array: Array) -> list[Array]:
        """Return the arrays of all ranks in their order."""
        own = _tensor(array)
        if not own.numel():
            return [array] * self.size
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _answered(self.rank):
            dist.all_gather(found, own)
        return [_array(part, like=array) for part in found]

    def broadcast(self, array: Array, source: int) -> Array:
        """Return the array of one rank; that of the others may be overwritten."""
        tensor = _tensor(array)
        with _answered(self.rank):
            dist.broadcast(tensor, source)
        return _array(tensor, like=array)

    def agree(self, what: str, text: str) -> None:
        """Raise InputError on every rank if a text differs between ranks."""
        data = text.encode()[:_TEXT]
        texts = self.gather(np.frombuffer(data.ljust(_TEXT), np.uint8))
        for rank, found in enumerate(texts):
            if not np.array_equal(found, texts[0]):
                told, first = (array.tobytes().decode(errors="replace").strip() for array in (found, texts[0]))
                raise InputError(
                    f"rank {rank} has other {what} than rank 0: {told}, and not {first}; start all with the "
                    "same files and versions, on the same kind of processor"
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


@contextmanager
def _answered(rank: int) -> Iterator[None]:
    """Tell in one line that another rank has ended."""
    try:
        yield
    except RuntimeError as error:
        reason = _reason(error).partition(". ")[0]
        raise RankError(
            f"rank {rank} has lost the others ({reason}); look for what ended one of them, then go on with --resume"
        ) from None


def _reason(error: Exception) -> str:
    """Return what PyTorch says, without where in its sources it says so."""
    return one_line(error, 300).rpartition("] ")[2].strip()[:120]


def _tensor(array: Array) -> Tensor:
    """Look at an array as a tensor without gaps; a copy where there are any."""
    if is_torch_array(array):
        return array.detach().contiguous()
    if is_numpy_array(array):
        return torch.from_numpy(np.require(array, requirements=("C", "W")))
    return torch.utils.dlpack.from_dlpack(array).contiguous()


def _array(tensor: Tensor, *, like: Array) -> Array:
    """Look at a tensor as an array of the library of `like`."""
    if is_torch_array(like):
        return tensor
    return tensor.numpy() if is_numpy_array(like) else array_namespace(like).from_dlpack(tensor)
