"""Run by each rank: trains every case into a folder of its own, or goes on there.

    python trainings.py DATA OUT EPOCHS [resume]
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


def describe(data: Path, epochs: int, elements: str, preset: str, backend: str) -> tuple[str, Settings]:
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
        "training": {"epochs": epochs, "batch": 4},
        "run": {"backend": backend},
    }
    return f"{elements}-{preset}-{backend}", Settings.from_json(settings)


def main() -> None:
    """Train."""
    data, out, epochs, resume = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), "resume" in sys.argv
    launch = find_launch(os.environ)
    assert launch is not None
    ranks = join(launch)
    for case in CASES:
        name, settings = describe(data, epochs, *case)
        assert prepare(settings, out / name, resume=resume, ranks=ranks).run()
    ranks.leave()


if __name__ == "__main__":
    main()
