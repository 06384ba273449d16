"""Arrays between processes, by the collectives of PyTorch: gloo on the host, NCCL between GPUs.

Only tensors are sent, and nothing that could run code where it arrives.
"""

import hashlib
import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from importlib.metadata import version

import numpy as np
import torch
import torch.distributed as dist
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from torch import Tensor

from ekfcore._typing import Array
from ekfcore.errors import InputError, RankError, one_line

from .launch import Launch

__all__ = ["TIMEOUT", "TorchRanks", "join"]

TIMEOUT = "EKFCORE_TIMEOUT"
"""Variable of the environment: how long ranks wait for each other [s]; ten minutes if it is not set."""

_TEXT = 200  # [bytes] of what ranks compare and tell each other


class TorchRanks:
    """All processes of a run.

    Parameters
    ----------
    launch : Launch
        Place of this process.
    store : torch.distributed.Store
        Small texts that outlive the connections, by which ranks that end say why.
    """

    def __init__(self, launch: Launch, store: dist.Store) -> None:
        self.rank, self.size, self._store = launch.rank, launch.size, store
        # A number of the machine, not its name: a name has no fixed length.
        host = hashlib.sha256(socket.gethostname().encode()).digest()[:8]
        hosts = self.gather(np.frombuffer(host, np.int64))
        self.nearby = sum(bool(other[0] == hosts[self.rank][0]) for other in hosts)

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
        with suppress(RuntimeError):
            self._store.set(f"{topic}/{self.rank}", text)

    def heard(self, topic: str, rank: int, seconds: float) -> str | None:
        """Return what a rank said, for which this one waits so long; None if it said nothing."""
        with suppress(RuntimeError):
            self._store.wait([f"{topic}/{rank}"], timedelta(seconds=seconds))
            return str(self._store.get(f"{topic}/{rank}").decode())
        return None

    def leave(self) -> None:
        """Close the connections, so that ranks that wait for this one wait no longer."""
        if dist.is_initialized():
            dist.destroy_process_group()


def join(launch: Launch, *, device: str = "cpu") -> TorchRanks:
    """Meet the other processes.

    Parameters
    ----------
    launch : Launch
        Place of this process.
    device : str
        Where the arrays will live: on "cuda", NCCL carries them.

    Raises
    ------
    InputError
        If they do not come, the network cannot be used, there is no such GPU, or they run another version.
    """
    on_gpu = device.startswith("cuda")
    if on_gpu and not (torch.cuda.is_available() and dist.is_nccl_available()):
        raise InputError(
            f"run.device = {device!r} on several ranks needs NCCL and a GPU, which PyTorch {torch.__version__} does not "
            "find here; set run.device = 'cpu', or install PyTorch for CUDA"
        )
    seconds = _timeout()
    limit = timedelta(seconds=seconds)
    os.environ |= {"MASTER_ADDR": launch.address, "MASTER_PORT": str(launch.port)}
    try:
        if on_gpu:
            torch.cuda.set_device(launch.local_rank)
        store, _, _ = next(dist.rendezvous("env://", launch.rank, launch.size, timeout=limit))
        store.set_timeout(limit)
        kind = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(
            kind, store=dist.PrefixStore("ekfcore", store), rank=launch.rank, world_size=launch.size, timeout=limit
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(_no_meeting(launch, seconds, error)) from None
    ranks = TorchRanks(launch, dist.PrefixStore("told", store))
    ranks.agree("versions", f"ekfcore {version('ekfcore')}, NumPy {np.__version__}, Python {platform.python_version()}")
    return ranks


def _timeout() -> float:
    text = os.environ.get(TIMEOUT, "600")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise InputError(f"{TIMEOUT} in the environment must be a positive number of seconds, got {text!r}")
    return seconds


def _no_meeting(launch: Launch, seconds: float, error: Exception) -> str:
    """Say why the ranks did not meet."""
    where = f"{launch.address}, port {launch.port}"
    reason = one_line(error)
    if "interface" in reason.lower() or "ifname" in reason.lower() or "resolve" in reason.lower():
        return f"rank {launch.rank} finds no network to the others ({reason}); set GLOO_SOCKET_IFNAME to an interface"
    return (
        f"rank {launch.rank} of {launch.size} did not meet the others at {where} within {seconds:g} s ({reason}); see that "
        f"all are started, and that nothing else listens there"
    )


@contextmanager
def _answered(rank: int) -> Iterator[None]:
    """Tell in one line that another rank has ended."""
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"rank {rank} has lost the others ({one_line(error)}); look for what ended one of them, then go on with --resume"
        ) from None


def _tensor(array: Array) -> Tensor:
    """Look at an array as a tensor without gaps; a copy where there are any."""
    if is_torch_array(array):
        return array.detach().contiguous()
    if is_numpy_array(array):
        return torch.from_numpy(np.require(array, requirements=("C", "W")))
    return torch.from_dlpack(array).contiguous()


def _array(tensor: Tensor, *, like: Array) -> Array:
    """Look at a tensor as an array of the library of `like`."""
    if is_torch_array(like):
        return tensor
    return tensor.numpy() if is_numpy_array(like) else array_namespace(like).from_dlpack(tensor)
