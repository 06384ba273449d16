#!/usr/bin/env python3
"""Draw what the covariance says about a small network, and how fast it shrinks when it chooses the data itself.

    python docs/kpu.py

It takes ten seconds.
"""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads has been set
from matplotlib.figure import Figure
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.models.perceptron import Perceptron
from ekfcore.uncertainty import CovarianceRoot

PICTURE = Path(__file__).resolve().parent / "_static" / "kpu.png"
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#7f7f7f"
MODEL = Perceptron((1, 16, 16, 1))
NOISE = 0.05  # standard deviation of the labels
CONFIG = ek.EKFConfig(memory=ek.MemoryFactor(1.0), noise=NOISE**2, p0=1.0)
Vector = NDArray[np.float64]


def main() -> None:
    """Draw both panels."""
    figure = Figure(figsize=(9.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = np.sort(np.concatenate([np.random.default_rng(0).uniform(-3.0, -0.5, 12), np.linspace(1.0, 2.0, 5)]))
    state, inside = trained(x), np.linspace(-4.0, 4.0, 161)
    y, H = gradients(state, inside)
    sigma = np.sqrt(CovarianceRoot(state).kpu(H))
    for times, alpha in ((2, 0.15), (1, 0.25)):
        left.fill_between(inside, y - times * sigma, y + times * sigma, color=BLUE, alpha=alpha, linewidth=0)
    left.plot(inside, y, color=BLUE, label="prediction, with one and two roots of KPU")
    left.plot(inside, truth(inside), "--", color=GREY, label="truth")
    left.plot(x, truth(x), "o", color=ORANGE, markersize=5, label="training data")
    left.set(xlabel="x", ylabel="y", ylim=(-2.6, 2.6), title="Uncertain where there are no data")
    left.legend(frameon=False, fontsize=8, loc="upper center")
    most = [falling(seed, lambda state, H, rng: int(np.argmax(ek.kpu(state, H)))) for seed in range(10)]
    random = [falling(seed, lambda state, H, rng: int(rng.integers(len(H)))) for seed in range(10)]
    for curves, colour, name in ((random, GREY, "at random"), (most, BLUE, "largest KPU")):
        middle = np.mean(curves, axis=0)
        right.plot(middle, color=colour, label=name)
        right.fill_between(
            range(len(middle)), *np.quantile(curves, [0.1, 0.9], 0), color=colour, alpha=0.2, linewidth=0
        )
        print(f"{name}: log det P falls by {-middle[-1]:.1f}, at half of the labels by {-middle[len(middle) // 2]:.1f}")
    right.set(xlabel="labels", ylabel="change of log det P", title="Choosing by KPU lowers the entropy faster")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=160)
    print(f"wrote {PICTURE}")


def truth(x: Vector) -> Vector:
    """Return what the network is to learn."""
    values: Vector = np.sin(2 * x) + 0.3 * x
    return values


def gradients(state: ek.EKFState, x: Vector) -> tuple[Vector, Vector]:
    """Return predictions and their gradients."""
    parts = [MODEL.jacobian(state.weights, np.asarray([[v]]), [{"y": np.ones((1, 1))}]) for v in x]
    return np.concatenate([y for y, _ in parts]), np.concatenate([H for _, H in parts])


def trained(x: Vector, epochs: int = 10) -> ek.EKFState:
    """Train on these points."""
    state = ek.init(MODEL.initial_weights(seed=1), ek.partition(MODEL.layer_sizes, strategy="global"), CONFIG)
    rng = np.random.default_rng(2)
    for _ in range(epochs):
        for k in rng.permutation(len(x)):
            y, H = gradients(state, x[k : k + 1])
            state, _ = ek.update(state, H, truth(x[k : k + 1]) - y, config=CONFIG)
    return state


def falling(seed: int, choose: Callable[[ek.EKFState, Vector, np.random.Generator], int]) -> Vector:
    """Return the change of log det P label by label, at the weights of a trained network; labels are not needed."""
    rng = np.random.default_rng(seed)
    state = trained(np.linspace(-1.0, 1.0, 8), epochs=5)
    pool = rng.normal(0.0, 1.2, 200)  # most candidates lie where the network has been
    _, H = gradients(state, pool)
    config = ek.EKFConfig(memory=ek.MemoryFactor(1.0), noise=NOISE**2)
    changes, left = [0.0], list(range(len(pool)))
    for _ in range(30):
        rows = H[left.pop(choose(state, H[left], rng))]
        changes.append(changes[-1] - float(np.log1p(ek.kpu(state, rows)[0] / NOISE**2)))
        state, _ = ek.update(state, rows, 0.0, config=config)
    return np.asarray(changes)


if __name__ == "__main__":
    main()
