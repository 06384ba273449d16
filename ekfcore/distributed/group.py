"""Arrays between processes, by the collectives of PyTorch: gloo on the host, NCCL between GPUs.

Only tensors are sent, and nothing that could run code where it arrives.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.distributed as dist
import torch.utils.dlpack
from array_api_compat import array_namespace, is_numpy_array, is_torch_array
from torch import Tensor

from ekfcore._typing import Array
from ekfcore.errors import InputError, RankError, one_line

__all__ = ["GroupRanks", "reason_of"]

_TEXT = 200  # [bytes] of what ranks compare


class GroupRanks:
    """All processes of the default group of PyTorch, which is open when they send something.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all.
    device : torch.device or str
        Where arrays of NumPy are while they are sent: NCCL carries none from the host.
    """

    def __init__(self, rank: int, size: int, device: torch.device | str = "cpu") -> None:
        self.rank, self.size, self._device = rank, size, device

    def gather(self, array: Array) -> list[Array]:
        """Return the arrays of all ranks in their order."""
        own = self._tensor(array)
        if not own.numel():
            return [array] * self.size
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _answered(self.rank):
            dist.all_gather(found, own)
        return [_array(part, like=array) for part in found]

    def broadcast(self, array: Array, source: int) -> Array:
        """Return the array of one rank; that of the others may be overwritten."""
        tensor = self._tensor(array)
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
                    "same files, seeds and versions, on the same kind of processor"
                )

    def _tensor(self, array: Array) -> Tensor:
        """Look at an array as a tensor without gaps; a copy where there are any."""
        if is_torch_array(array):
            return array.detach().contiguous()
        if is_numpy_array(array):
            return torch.from_numpy(np.require(array, requirements=("C", "W"))).to(self._device)
        return torch.utils.dlpack.from_dlpack(array).contiguous()


def reason_of(error: Exception) -> str:
    """Return what PyTorch says, without where in its sources it says so."""
    return one_line(error, 300).rpartition("] ")[2].strip()[:120]


@contextmanager
def _answered(rank: int) -> Iterator[None]:
    """Tell in one line that another rank has ended, or that nothing could be sent at all."""
    try:
        yield
    except RuntimeError as error:
        reason = reason_of(error).partition(". ")[0]
        if "No backend type" in reason:  # a group of NCCL alone, and arrays on the host
            raise InputError(
                f"rank {rank} cannot send its arrays ({reason}); open the group for all devices, as with "
                'torch.distributed.init_process_group("cpu:gloo,cuda:nccl")'
            ) from None
        raise RankError(
            f"rank {rank} has lost the others ({reason}); look for what ended one of them, then start all again and "
            "go on from what was saved"
        ) from None


def _array(tensor: Tensor, *, like: Array) -> Array:
    """Look at a tensor as an array of the library of `like`."""
    if is_torch_array(like):
        return tensor
    return tensor.numpy(force=True) if is_numpy_array(like) else array_namespace(like).from_dlpack(tensor)
