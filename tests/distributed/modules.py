"""Run by each rank: trains a module with the optimizer for PyTorch, on its share of the pairs of every step.

python modules.py OUT FIRST LAST: steps FIRST to LAST - 1 of every case; each rank saves what it has.
"""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import ekfcore as ek
from ekfcore.torch.optimizer import EKF

STEPS, PAIRS = 12, 6
ROWS = ek.EKFConfig(rows=8, noise="adaptive", averaging=0.5)
CASES: dict[str, tuple[dict[str, Any] | None, dict[str, Any]]] = {  # options of DistributedDataParallel, and of EKF
    "plain": (None, {}),
    "each": ({"broadcast_buffers": False}, {"block_size": 10, "measure": "each"}),
    "rows": ({"broadcast_buffers": False, "find_unused_parameters": True}, {"config": ROWS}),
    "shard": ({"broadcast_buffers": False, "static_graph": True}, {"config": ROWS, "block_size": 10, "shard": True}),
    "buffers": ({}, {"config": ROWS}),
}


class Net(nn.Module):
    """A perceptron that counts in a buffer, and has a parameter that no prediction uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.last, self.unused = nn.Linear(2, 8), nn.Linear(8, 1), nn.Linear(2, 2)
        self.steps: Tensor
        self.register_buffer("steps", torch.zeros(()))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction."""
        self.steps.add_(1)
        y: Tensor = self.last(torch.tanh(self.hidden(x)))
        return y


def pairs(step: int) -> tuple[Tensor, Tensor]:
    """Return inputs and labels of a step, shapes (k, 3, 2) and (k, 3, 1), of which each rank has another number."""
    x = torch.rand(PAIRS, 3, 2, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
    rank, size = dist.get_rank(), dist.get_world_size()
    bounds = [rank * (rank + 1) // 2, PAIRS if rank == size - 1 else (rank + 1) * (rank + 2) // 2]
    return x[slice(*bounds)], torch.sin(3 * x[slice(*bounds)]).sum(dim=2, keepdim=True)


def predict(module: nn.Module, xs: Tensor, ys: Tensor, *, together: bool) -> list[tuple[Tensor, Tensor]]:
    """Return pairs; those that are predicted together are rounded as their number wants it."""
    # Buffers are sent in every forward pass, of which all ranks must have as many.
    predictions = module(xs) if together else map(module, xs)
    return list(zip(predictions, ys, strict=True))


def train(out: Path, name: str, first: int, last: int) -> None:
    """Train, from what was saved in front of the first step."""
    options, settings = CASES[name]
    net = Net()
    begun = torch.load(out / f"{name}-{first}.pt") if first else None
    if begun:
        net.load_state_dict(begun["net"])
    module = net if options is None else DistributedDataParallel(net, **options)
    optimizer = EKF(module.parameters(), **settings)
    if begun:
        optimizer.load_state_dict(begun["optimizer"])
    losses = []
    for step in range(first, last):
        xs, ys = pairs(step)
        losses.append(optimizer.step(partial(predict, module, xs, ys, together=name == "buffers")))
    saved = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "losses": torch.stack(losses)}
    torch.save(saved, out / f"{name}-{last}-{dist.get_rank()}.pt")


def main() -> None:
    """Train all cases."""
    out, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group("gloo")
    for name in CASES:
        train(out, name, first, last)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
