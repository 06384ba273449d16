#!/usr/bin/env python3
"""Compare one rank with several: the time of an update, the memory of P, the bytes sent, the time of an epoch.

    python asv_bench/ranks.py update            # two ranks with a thread each, one rank with two threads, and with one
    python asv_bench/ranks.py memory            # of P in blocks of 5120, on one rank, two and four
    python asv_bench/ranks.py epoch DATA        # DATA is a folder with train.xyz.xz; batches of eight frames

The ranks are processes of this machine that talk by gloo over its loopback. The network is the paper's, with 26 551
weights for one element. What is compared runs in turn, several times, and the medians are printed,
one for each rank. Where other work is done beside, compare processor seconds: ranks that wait for each other take none.
"""

import argparse
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PARTS = [25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1]


def main() -> None:
    """Start the ranks of each case and print a table, or be one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WORK))
    parser.add_argument("data", nargs="?", type=Path, help="folder with train.xyz.xz")
    parser.add_argument("--turns", type=int, default=3, help="how often each case is run (default 3)")
    parser.add_argument("--frames", type=int, default=32, help="frames of the epoch (default 32)")
    parser.add_argument("--cases", nargs="+", metavar="RANKSxTHREADS", help="what to compare, as 2x1")
    args = parser.parse_args()
    if "RANK" in os.environ:
        print(json.dumps(WORK[args.what](args)), flush=True)
        return
    usual = ["1x1", "2x1", "4x1"] if args.what == "memory" else ["1x1", "1x2", "2x1"]
    cases = [(int(ranks), int(threads)) for ranks, threads in (case.split("x") for case in args.cases or usual)]
    found: dict[tuple[int, int], list[list[dict[str, float]]]] = {case: [] for case in cases}
    for _ in range(1 if args.what == "memory" else args.turns):
        for ranks, threads in cases:
            found[ranks, threads].append(_run(ranks, threads))
    for (ranks, threads), turns in found.items():
        print(f"{ranks} rank(s) with {threads} thread(s) each")
        for name in turns[0][0]:
            each = [statistics.median(turn[rank][name] for turn in turns) for rank in range(ranks)]
            print(f"    {name}: {', '.join(f'{value:.4g}' for value in each)}")


def _run(ranks: int, threads: int) -> list[dict[str, float]]:
    """Return what each rank measures."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    settings = {"WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
    settings |= {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": 1}
    processes = [
        subprocess.Popen(
            [sys.executable, *sys.argv],
            env=os.environ
            | {name: str(value) for name, value in {**settings, "RANK": rank, "LOCAL_RANK": rank}.items()},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(ranks)
    ]
    told = [process.communicate()[0] for process in processes]
    return [json.loads(text.splitlines()[-1]) for text in told]


class _Counted:
    """Ranks that count what this one sends to each of the others."""

    def __init__(self) -> None:
        from ekfcore.distributed.communicator import TorchRanks
        from ekfcore.distributed.launch import find_launch

        launch = find_launch(os.environ)
        assert launch is not None
        self._ranks = TorchRanks(launch)
        self._ranks.connect()
        self.rank, self.size = launch.rank, launch.size
        self.bytes = self.messages = 0

    def gather(self, array: Any) -> list[Any]:
        """Count, and gather."""
        self.bytes, self.messages = self.bytes + array.nbytes, self.messages + 1
        return self._ranks.gather(array)

    def broadcast(self, array: Any, source: int) -> Any:
        """Broadcast; only checkpoints do."""
        return self._ranks.broadcast(array, source)

    def agree(self, what: str, text: str) -> None:
        """Compare."""
        self._ranks.agree(what, text)


def _updates(ranks: _Counted, config: Any, block_size: int, m: int, count: int) -> dict[str, float]:
    """Return what an update takes, all that belongs to it included."""
    import numpy as np

    import ekfcore as ek
    from ekfcore.distributed.sharded import Sharded

    layout = ek.partition(PARTS, block_size=block_size)
    share = Sharded(layout, ranks, rows=config.rows)
    rng = np.random.default_rng(0)
    state = ek.init(np.zeros(layout.n_params), layout, config, backend="numba", share=share)
    gradients = [rng.standard_normal((m, layout.n_params)) for _ in range(3)]
    for k in range(max(3, config.rows // m + 1)):  # kernels are compiled, buffers made, rows full
        state, _ = ek.update(state, gradients[k % 3], np.ones(m), config=config, donate=True)
    ranks.gather(np.zeros(1))
    ranks.bytes = ranks.messages = 0
    start, cpu = time.perf_counter(), time.process_time()
    for k in range(count):
        state, _ = ek.update(state, gradients[k % 3], np.ones(m), config=config, donate=True)
    seconds = (time.perf_counter() - start) / count
    counted = {"messages an update": ranks.messages / count, "MB sent to each an update": 1e-6 * ranks.bytes / count}
    cpu = (time.process_time() - cpu) / count
    return {"ms an update": 1e3 * seconds, "CPU ms an update": 1e3 * cpu, **counted}


def _update(args: argparse.Namespace) -> dict[str, float]:
    from threadpoolctl import threadpool_limits

    from ekfcore import partition
    from ekfcore.presets import preset

    ranks, found = _Counted(), {}
    with threadpool_limits(1):
        for name, config, block_size, m in (
            ("recommended, m = 3", preset("recommended").config, 256, 3),
            ("recommended, m = 24", preset("recommended").config, 256, 24),
            ("rlekf, m = 1", preset("rlekf").config, 5120, 1),
        ):
            if ranks.size > len(partition(PARTS, block_size=block_size).sizes):
                continue  # fewer blocks than ranks
            for what, value in _updates(ranks, config, block_size, m, 48).items():
                found[f"{name}: {what}"] = value
    return found


def _memory(args: argparse.Namespace) -> dict[str, float]:
    import numpy as np

    import ekfcore as ek
    from ekfcore.distributed.sharded import Sharded
    from ekfcore.presets import preset

    ranks = _Counted()
    layout, config = ek.partition(PARTS, block_size=5120), preset("rlekf").config
    share = Sharded(layout, ranks)
    _touched(ek.init(np.zeros(100), ek.partition([100]), config, backend="numba"), config)  # kernels are loaded
    before = _resident()
    state = ek.init(np.zeros(layout.n_params), layout, config, backend="numba", share=share)
    size = state.covariance.backend.store_size(share.layout, like=np.zeros(1))
    state = _touched(state, config)
    return {"MiB of P, counted": 8 * size / 2**20, "MiB of P, measured": _resident() - before}


def _touched(state: Any, config: Any) -> Any:
    """Fold once, so that all of P is written."""
    import numpy as np

    import ekfcore as ek

    H = np.random.default_rng(0).standard_normal(state.weights.shape)
    for _ in range(config.pending):
        state, _ = ek.update(state, H, 1.0, config=config, donate=True)
    return state


def _resident() -> float:
    """Return the memory of this process [MiB]."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def _epoch(args: argparse.Namespace) -> dict[str, float]:
    from threadpoolctl import threadpool_limits

    from ekfcore.training import Settings, prepare

    ranks = _Counted()
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        frames = _first_frames(args.data, args.frames, Path(folder))
        settings = {
            "data": {"train": [str(frames)], "test_fraction": 0},
            "training": {"epochs": 2, "batch": 8},
            "run": {"backend": "numba"},
        }
        trainer = prepare(Settings.from_json(settings), Path(folder) / "run", ranks=ranks)
        ends: list[tuple[float, float]] = []
        trainer.run(on_step=lambda progress: ends.append((time.perf_counter(), time.process_time())))
        # The second epoch: in the first, frames are prepared and kernels loaded.
        first, second = trainer.records
    wall, cpu = (after - before for before, after in zip(ends[len(ends) // 2 - 1], ends[-1], strict=True))
    return {"s of updates in an epoch": second.wall_s - first.wall_s, "s of an epoch": wall, "CPU s of an epoch": cpu}


def _first_frames(data: Path, count: int, folder: Path) -> Path:
    from ase.io import read, write

    write(folder / "frames.xyz", read(data / "train.xyz.xz", f":{count}"), format="extxyz")
    return folder / "frames.xyz"


WORK = {"update": _update, "memory": _memory, "epoch": _epoch}

if __name__ == "__main__":
    main()
