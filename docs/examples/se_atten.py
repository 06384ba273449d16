#!/usr/bin/env python3
"""Train DeePMD-kit's se_atten (DPA-1) with the filter, on silicon labelled with DFT, and run it in DeePMD-kit.

python docs/examples/se_atten.py [--quick] [--out FILE]
"""

import argparse
import tempfile
import time
from importlib.resources import files
from pathlib import Path

import numpy as np

import ekfcore as ek
from ekfcore.atoms import read_frames
from ekfcore.deepmd.kit_model import DeepmdModel
from ekfcore.potentials.dataset import Dataset
from ekfcore.presets import preset
from ekfcore.training import KalmanOptimizer

SETTINGS = {  # the section "model" of an input of DeePMD-kit
    "type_map": ["Si"],
    "descriptor": {
        "type": "se_atten",
        "sel": "auto",
        "rcut": 4.5,
        "rcut_smth": 0.5,
        "neuron": [8, 16],
        "axis_neuron": 4,
        "attn": 16,
        "attn_layer": 1,
        "smooth_type_embedding": True,  # without it, forces jump where a neighbour crosses the cutoff
    },
    "fitting_net": {"neuron": [24, 24]},
}


def main() -> None:
    """Train, print, save, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few frames, one epoch")
    parser.add_argument("--out", type=Path, help="keep the model in this .pth")
    args = parser.parse_args()
    count, epochs = (16, 1) if args.quick else (96, 5)
    folder = Path(str(files("ekfcore.demo")))
    frames = read_frames([folder / "silicon_train.xyz.xz"])[:count]
    model = DeepmdModel.from_settings(SETTINGS, frames, seed=0)
    train = Dataset(model, frames, like=model.weights)
    test = Dataset(model, read_frames([folder / "silicon_test.xyz.xz"])[:count], like=model.weights)
    recipe = preset("recommended", measurements_per_epoch=6 * count)
    layout = ek.partition(model.layer_sizes, block_size=recipe.block_size)
    state = ek.init(model.weights, layout, recipe.config)
    optimizer, rng, spent = KalmanOptimizer(model, recipe, state), np.random.default_rng(0), 0.0
    print(f"{len(model.weights)} weights, {len(train)} frames to learn from, {len(test)} to test on")
    for epoch in range(epochs + 1):
        error = test.errors(optimizer.weights)
        print(
            f"epoch {epoch}: {error.energy_rmse:5.1f} meV/atom {error.force_rmse:7.1f} meV/Å {spent:5.0f} s", flush=True
        )
        start = time.process_time()
        for k in rng.permutation(len(train)) if epoch < epochs else ():
            optimizer.step([train[k]], rng)
        spent += time.process_time() - start
    model.store(optimizer.weights)
    with tempfile.TemporaryDirectory() as scratch:
        compare(model, args.out or Path(scratch) / "silicon.pth", test)


def compare(model: DeepmdModel, path: Path, test: Dataset) -> None:
    """Save the model and let DeePMD-kit evaluate it."""
    from deepmd.infer import DeepPot

    model.save(path)
    frame, sample = test.frames[0], test[0]
    _, forces, _ = DeepPot(str(path)).eval(frame.positions.reshape(1, -1), frame.cell.reshape(1, 9), [0] * 32)
    ours = model.predict(model.weights, sample.environment)["forces"].numpy()
    print(f"DeePMD-kit's forces differ by {np.max(np.abs(forces[0] - ours)):.0e} eV/Å at most")


if __name__ == "__main__":
    main()
