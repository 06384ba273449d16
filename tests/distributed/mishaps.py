"""Run by both ranks: things that go wrong with the optimizer for PyTorch, and what each rank is told.

python mishaps.py NAME...: prints name, class of the error and message of each, in a line.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

import ekfcore as ek
from ekfcore.torch.optimizer import EKF

Pair = tuple[Tensor, Tensor]


def _net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).double()


def _good(net: nn.Module) -> Pair:
    x = torch.full((1, 2), 1.0 + dist.get_rank(), dtype=torch.float64)
    return net(x), torch.ones(1, 1, dtype=torch.float64)


def _other_weights() -> None:
    net = _net()
    with torch.no_grad():
        list(net.parameters())[-1].add_(dist.get_rank())
    EKF(net.parameters())


def _other_setting() -> None:
    EKF(_net().parameters(), ek.EKFConfig(p0=1.0 + dist.get_rank()))


def _other_blocks() -> None:
    EKF(_net().parameters(), block_size=10 + dist.get_rank())


def _other_parameters() -> None:
    net = _net()
    net[0].requires_grad_(dist.get_rank() == 0)
    EKF(net.parameters())


def _few_blocks() -> None:
    EKF(_net().parameters(), shard=True)


def _in_parts() -> None:
    from torch.distributed.fsdp import fully_shard

    net = _net()
    fully_shard(net)
    EKF(net.parameters())


def _flattened() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    # Each of the two ranks has parts of parameters, and none of some.
    EKF(FullyShardedDataParallel(_net(), use_orig_params=True, device_id=torch.device("cpu")).parameters())


def _flattened_into_one() -> None:
    from torch.distributed.fsdp import FullyShardedDataParallel

    EKF(FullyShardedDataParallel(_net(), device_id=torch.device("cpu")).parameters())


def _of_rank_1(closure: Callable[[nn.Module], Any]) -> Callable[[], None]:
    """Return a mishap: rank 1 measures something else; afterwards both go on as if it had not."""

    def mishap() -> None:
        net = _net()
        before = [p.detach().clone() for p in net.parameters()]
        optimizer = EKF(net.parameters())
        try:
            optimizer.step(lambda: closure(net) if dist.get_rank() else _good(net))
        finally:
            assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True)), "not as it was"
            optimizer.step(lambda: _good(net))

    return mishap


def _fails(net: nn.Module) -> Pair:
    raise RuntimeError("the user's own")


def _changed_weights() -> None:
    net = _net()
    optimizer = EKF(net.parameters())
    optimizer.step(lambda: _good(net))
    with torch.no_grad():
        list(net.parameters())[-1].add_(dist.get_rank())
    optimizer.step(lambda: _good(net))


def _dies(net: nn.Module) -> Pair:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _other_device() -> None:
    dist.destroy_process_group()
    dist.init_process_group("cuda:gloo")
    EKF(_net().parameters())


MISHAPS = {
    "weights": _other_weights,
    "setting": _other_setting,
    "blocks": _other_blocks,
    "parameters": _other_parameters,
    "few blocks": _few_blocks,
    "in parts": _in_parts,
    "flattened": _flattened,
    "flattened into one": _flattened_into_one,
    "nothing": _of_rank_1(lambda net: []),
    "no tensors": _of_rank_1(lambda net: 3),
    "fails": _of_rank_1(_fails),
    "nan": _of_rank_1(lambda net: (_good(net)[0], torch.full((1, 1), torch.nan).double())),
    "changed": _changed_weights,
    "device": _other_device,
    "dies": _of_rank_1(_dies),
}


def main() -> None:
    """Print what comes of each."""
    dist.init_process_group("gloo")
    for name in sys.argv[1:]:
        try:
            MISHAPS[name]()
        except (ek.EKFError, RuntimeError) as error:
            print(name, type(error).__name__, error, sep="\t")
    if "dies" not in sys.argv:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
