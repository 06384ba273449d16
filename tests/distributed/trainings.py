"""Run by each rank: trains every case into a folder of its own, or goes on there.

python trainings.py DATA OUT whole|begin|resume
"""

import os
import sys
from functools import partial
from pathlib import Path

from ekfcore.distributed.communicator import TorchRanks
from ekfcore.distributed.launch import find_launch
from ekfcore.training import Settings, Trainer, prepare

CASES = [
    *(
        ("three", preset, backend)
        for preset in ("recommended", "rlekf")
        for backend in ("numpy", "numba", "torch", "generic")
    ),
    *(("one", preset, "numpy") for preset in ("recommended", "rlekf", "adam")),
]


def describe(data: Path, elements: str, preset: str, backend: str) -> tuple[str, Settings]:
    """Return a name for a case, and its CONFIG."""
    # Blocks that differ, so that no rank has as many as another; several agings of rows, or several folds.
    optimizer: dict[str, object] = {"preset": preset}
    if preset == "recommended":
        optimizer |= {"block_size": 23, "rows": 24}
    if preset == "rlekf":
        optimizer |= {"block_size": 23, "pending": 5, "virial_prefactor": 1.0}
    settings = {
        "data": {"train": [str(data / f"{elements}.xyz")]},
        "model": {"cutoff": 4.0, "embedding": [4], "axis": 2, "fitting": [6]},
        "optimizer": optimizer,
        "training": {"epochs": 2, "batch": 4},
        "run": {"backend": backend},
    }
    return f"{elements}-{preset}-{backend}", Settings.from_json(settings)


def _has_made(trainer: Trainer, steps: int) -> bool:
    return trainer.position.step >= steps


def main() -> None:
    """Train."""
    data, out, word = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    launch = find_launch(os.environ)
    assert launch is not None
    ranks = TorchRanks(launch)
    ranks.connect()
    for case in CASES:
        name, settings = describe(data, *case)
        trainer = prepare(settings, out / name, resume=word == "resume", ranks=ranks)
        steps = 3 if word == "begin" else 10**9  # within the second epoch
        finished = trainer.run(should_stop=partial(_has_made, trainer, steps))
        assert finished == (word != "begin")
    ranks.leave()


if __name__ == "__main__":
    main()
