#!/usr/bin/env python3
"""Train DeePMD-kit's example of water from an input.json for two epochs, with ekfcore's filter and with DeePMD-kit's.

    python docs/experiments/water.py DATA

DATA is the folder data of the example, with data_0 to data_3. Prints a row of a Markdown table for each run: energy
[meV/atom] and force errors [meV/Å] on data_3. One core needs a quarter of an hour.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ekfcore.deepmd import load_input  # after the number of threads has been set
from ekfcore.training import prepare

SEEDS = (10, 1, 2)  # the first is that of the example
MODEL = {
    "type_map": ["O", "H"],
    "descriptor": {"type": "se_e2_a", "sel": [46, 92], "rcut": 6.0, "neuron": [25, 25, 25], "axis_neuron": 16},
    "fitting_net": {"neuron": [50, 50, 50], "resnet_dt": False},
}


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data.resolve()
    for preset in ("recommended", "deepmd-lkf"):
        found = [errors(data, preset, seed) for seed in SEEDS]
        columns = (" ".join(f"{value:.3g}" for value in column) for column in zip(*found, strict=True))
        print(f"| `{preset}` | {' | '.join(columns)} |", flush=True)


def errors(data: Path, preset: str, seed: int) -> tuple[float, float]:
    """Return the errors after two epochs."""
    systems = [str(data / f"data_{k}") for k in range(4)]
    training = {"training_data": {"systems": systems[:3], "batch_size": 1}, "validation_data": {"systems": systems[3:]}}
    content = {"model": MODEL, "optimizer": {"type": "LKF"}, "training": {**training, "numb_steps": 640, "seed": seed}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        settings, _ = load_input(path, [f"optimizer.preset={preset}"])
        trainer = prepare(settings, Path(folder) / "run")
        trainer.run()
    last = trainer.records[-1]
    return last.energy_rmse_test, last.force_rmse_test


if __name__ == "__main__":
    main()
