"""Run by each rank: trains every case into a folder of its own, or goes on there.

    python trainings.py DATA OUT EPOCHS
"""

import os
import sys
from pathlib import Path

from ekfcore.distributed.communicator import join
from ekfcore.distributed.launch import find_launch
from ekfcore.training import Settings, prepare

CASES = [
    *(("three", preset, backend) for preset in ("recommended", "rlekf") for backend in ("numpy", "numba", "torch", "generic")),
    *(("one", preset, "numpy") for preset in ("recommended", "rlekf", "adam")),
]


def main() -> None:
    """Train."""
    data, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    launch = find_launch(os.environ)
    assert launch is not None
    ranks = join(launch)
    for elements, preset, backend in CASES:
        optimizer = {"preset": preset}
        if preset != "adam":
            # Blocks that differ, of which no rank has as many as another; several agings of rows, several folds.
            optimizer |= {"block_size": 41, **({"rows": 24} if preset == "recommended" else {"pending": 5})}
        if preset == "rlekf":
            optimizer["virial_prefactor"] = 1.0
        settings = {
            "data": {"train": [str(data / f"{elements}.xyz")]},
            "model": {"cutoff": 4.0, "embedding": [4], "axis": 2, "fitting": [6]},
            "optimizer": optimizer,
            "training": {"epochs": epochs, "batch": 4},
            "run": {"backend": backend},
        }
        place = out / f"{elements}-{preset}-{backend}"
        assert prepare(Settings.from_json(settings), place, resume=place.is_dir(), ranks=ranks).run()
    ranks.leave()


if __name__ == "__main__":
    main()
