#!/usr/bin/env python3
"""Time the kernels that tensors of PyTorch on the CPU could use; write a table.

    python docs/kernels.py

Multiplying P by m vectors with half of the rows pending, and folding in all of them, for the network of the paper, in
double precision, with one thread. All kernels take turns, and a ratio is the median of those turn by turn, which other
work on the machine changes little. Some minutes.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # after the number of threads has been set

from ekfcore import partition
from ekfcore.backends._torch_tiles import TorchTiles
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend
from ekfcore.registry import get_backend

TABLE = Path(__file__).resolve().parent / "how-to" / "_kernels.md"
PARTS = (25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1)
BLOCK_SIZES, MEASUREMENTS, PENDING, TURNS = (1024, 5120), (1, 2, 5), 32, 7
HEADER = f"""\
| block size | kernels | {" | ".join(f"m = {m}" for m in MEASUREMENTS)} | fold |
| --- | --- |{" --: |" * (len(MEASUREMENTS) + 1)}
"""


def main() -> None:
    """Measure and tabulate."""
    import torch

    torch.set_num_threads(1)
    host, tensor = np.zeros(1), torch.zeros(1, dtype=torch.float64)
    kernels: dict[str, tuple[Backend, Any]] = {
        "`torch`, with Numba": (get_backend("numba", like=host), np.asarray),
        "`torch`, without Numba": (get_backend("numpy", like=host), np.asarray),
        "`generic` on tensors: products of squares": (get_backend("generic", like=tensor), torch.asarray),
        "batches of tiles, as on a GPU": (TorchTiles(edge=128), torch.asarray),
    }
    lines = []
    for size in BLOCK_SIZES:
        layout = partition(PARTS, block_size=size)
        columns = compare([calls(backend, layout, array) for backend, array in kernels.values()])
        for index, name in enumerate(kernels):
            cells = [f"{1e3 * c[0]:.0f} ms" if index == 0 else f"{c[index]:.1f} ×" for c in columns]
            lines.append(f"| {size if index == 0 else ''} | {name} | {' | '.join(cells)} |\n")
    TABLE.write_text(HEADER + "".join(lines), encoding="utf-8")
    print(TABLE.read_text("utf-8"), f"\nwrote {TABLE}", sep="")


def calls(backend: Backend, layout: BlockLayout, array: Callable[[Any], Any]) -> list[Callable[[], object]]:
    """Return what is timed: products with m vectors, and a fold-in."""
    rng = np.random.default_rng(0)
    rows = array(rng.normal(0.0, 1e-3, (PENDING, layout.n_params)))
    scale, shift = array(np.ones(len(layout.sizes))), array(np.zeros(len(layout.sizes)))
    store = backend.identity(layout, 1.0, like=rows)
    # Memory is handed out when it is written, which the first fold-in does.
    store = backend.fold(store, rows, scale, shift, donate=True)
    found: list[Callable[[], object]] = [
        lambda H=rows[:m]: backend.multiply(store, H, rows[: PENDING // 2], scale, shift) for m in MEASUREMENTS
    ]
    return [*found, lambda: backend.fold(store, rows, scale, shift, donate=True)]


def compare(rivals: list[list[Callable[[], object]]]) -> list[list[float]]:
    """Return, for each thing that is timed, the median seconds of the first rival and the ratios to it."""
    columns = []
    for same in zip(*rivals, strict=True):
        turns = [[seconds(call) for call in same] for _ in range(TURNS + 1)][1:]  # the first one to warm up
        ratios = [median(turn[k] / turn[0] for turn in turns) for k in range(1, len(same))]
        columns.append([median(turn[0] for turn in turns), *ratios])
    return columns


def seconds(call: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
