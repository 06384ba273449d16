#!/usr/bin/env python3
"""Fit a sine with the same loop in every array library that is here.

python docs/examples/sine.py [--quick] [--plot FILE]
"""

import argparse
import importlib
import os
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.arrays import to_numpy
from ekfcore.models.perceptron import Perceptron

os.environ.setdefault("JAX_ENABLE_X64", "1")  # before JAX is imported
LIBRARIES = ("numpy", "torch", "jax.numpy", "cupy", "array_api_strict")
MODEL = Perceptron((1, 16, 1))
CONFIG = ek.EKFConfig()
POINTS = np.linspace(-3.0, 3.0, 40)
GRID = np.linspace(-6.0, 6.0, 121)


def train(xp: Any, points: NDArray[np.float64], epochs: int) -> ek.EKFState:
    """Return the filter after some epochs; nothing here but `xp` knows the library."""
    state = ek.init(xp.asarray(MODEL.initial_weights(seed=0)), ek.partition(MODEL.layer_sizes), CONFIG)
    one, rng = xp.ones((1, 1), dtype=xp.float64), np.random.default_rng(0)
    for _ in range(epochs):
        for point in rng.permutation(points):
            x = xp.asarray([[point]], dtype=xp.float64)
            y, H = MODEL.jacobian(state.weights, x, [{"y": one}])
            state, _ = ek.update(state, H, xp.sin(x[0, :]) - y, config=CONFIG)
    return state


def predict(xp: Any, state: ek.EKFState) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the prediction on the grid and its uncertainty, the root of KPU."""
    eye = xp.reshape(xp.eye(len(GRID), dtype=xp.float64), (len(GRID), len(GRID), 1))
    x = xp.asarray(GRID[:, None])
    y, H = MODEL.jacobian(state.weights, x, [{"y": eye[k, ...]} for k in range(len(GRID))])
    return to_numpy(y), to_numpy(ek.kpu(state, H)) ** 0.5


def main() -> None:
    """Train with each library, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few points, once")
    parser.add_argument("--plot", metavar="FILE", help="draw what has been learned")
    args = parser.parse_args()
    points, epochs = (POINTS[::8], 1) if args.quick else (POINTS, 10)
    curves, inside = {}, abs(GRID) <= 3
    for name in LIBRARIES:
        try:
            xp = importlib.import_module(name)
            xp.asarray([0.0])  # CuPy without a GPU can be imported, and no more
        except Exception as error:  # whatever a library says that cannot be used
            print(f"{name:<17} not here ({type(error).__name__})")
            continue
        start = time.perf_counter()
        curves[name] = predict(xp, train(xp, points, epochs))
        error = np.sqrt(np.mean((curves[name][0] - np.sin(GRID))[inside] ** 2))
        print(f"{name:<17} error {error:.4f}  {time.perf_counter() - start:5.1f} s")
    spread = max(float(abs(y - curves["numpy"][0]).max()) for y, _ in curves.values())
    print(f"the libraries differ by {spread:.0e} at most")
    if args.plot:
        draw(args.plot, *curves["numpy"])


def draw(path: str, y: NDArray[np.float64], sigma: NDArray[np.float64]) -> None:
    """Draw prediction and uncertainty."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 3.0), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(GRID, y - sigma, y + sigma, color="#0072b2", alpha=0.2, linewidth=0)
    axes.plot(GRID, y, color="#0072b2", label="prediction, with the root of KPU")
    axes.plot(GRID, np.sin(GRID), "--", color="#7f7f7f", label="sine")
    axes.plot(POINTS, np.sin(POINTS), ".", color="#d55e00", label="training data")
    axes.set(xlabel="x", ylim=(-3, 3))
    axes.legend(frameon=False, fontsize=8, loc="upper center", ncols=3)
    figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
