"""Processes that train one module together, as those of DistributedDataParallel: each brings what it has measured."""

import hashlib
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ekfcore.arrays import to_numpy
from ekfcore.distributed.group import GroupRanks
from ekfcore.errors import InputError
from ekfcore.ranks import ALONE, Ranks, collect

__all__ = ["agree", "default_ranks", "pooled", "tell_failure", "world_size"]


def world_size() -> int:
    """Return the number of processes in the default group of PyTorch; 1 without one."""
    group = torch.distributed
    return group.get_world_size() if group.is_available() and group.is_initialized() else 1


def default_ranks(device: torch.device) -> Ranks:
    """Return the processes of the default group; `device` is that of the parameters."""
    size = world_size()
    return ALONE if size == 1 else GroupRanks(torch.distributed.get_rank(), size, device)


def agree(ranks: Ranks, settings: Mapping[str, object], weights: Tensor, sizes: list[int]) -> None:
    """See that all ranks begin alike.

    Raises
    ------
    InputError
        On every rank, with the name of what differs.
    """
    for name, value in settings.items():
        ranks.agree(f"`{name}`", repr(value))
    digest = hashlib.sha256(repr(sizes).encode()).hexdigest()[:16]
    ranks.agree("parameters", f"{sum(sizes)} numbers of {weights.dtype} in {len(sizes)}, digest {digest}")
    ranks.agree("weights", f"digest {_checksum(weights):08x}")


def pooled(ranks: Ranks, weights: Tensor, H: Tensor, e: Tensor, errors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return gradients, innovations and the mean squared error of all ranks, one rank after the other.

    Parameters
    ----------
    ranks : Ranks
        Processes.
    weights : tensor, shape (n,)
        Where they have linearised.
    H : tensor, shape (m, n)
        Gradients that this rank has found.
    e : tensor, shape (m,)
        Its innovations.
    errors : tensor, shape (k,)
        Errors of all numbers behind them.

    Raises
    ------
    InputError
        On every rank, if one has measured nothing or has other weights.
    """
    loss = (errors**2).mean()
    if ranks is ALONE:
        return H, e, loss
    # The weights are compared each time: ranks that drift apart would learn something, but nothing that is right.
    told = ranks.gather(np.asarray([len(e), _checksum(weights), float(loss), len(errors)], np.float64))
    for rank, (count, checksum, _, _) in enumerate(told):
        if not count:
            raise InputError(
                f"the closure of rank {rank} has returned nothing to learn from; look at the message of that rank, and "
                "give each at least one pair of prediction and label"
            )
        if checksum != told[0][1]:
            raise InputError(f"rank {rank} has other weights than rank 0 now; change or load them on all ranks alike")
    counts, numbers = [int(one[0]) for one in told], sum(one[3] for one in told)
    loss = torch.as_tensor(sum(one[2] * one[3] for one in told) / numbers, dtype=loss.dtype, device=loss.device)
    return collect(ranks, range(ranks.size), counts, H), collect(ranks, range(ranks.size), counts, e), loss


def tell_failure(ranks: Ranks) -> None:
    """Say that this rank has measured nothing, where the others call `pooled`."""
    ranks.gather(np.zeros(4))


def _checksum(weights: Tensor) -> int:
    return zlib.crc32(to_numpy(weights.view(torch.uint8)).tobytes())
