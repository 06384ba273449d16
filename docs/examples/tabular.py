#!/usr/bin/env python3
"""Regress two tables of scikit-learn with a small network of PyTorch: the filter against Adam at three rates.

python docs/examples/tabular.py [--quick]
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import ekfcore as ek
from ekfcore.torch.optimizer import EKF

TABLES = {
    "friedman1, a function without noise": lambda: make_friedman1(500, noise=0.0, random_state=0),
    "diabetes, patients": lambda: load_diabetes(return_X_y=True),
}
FILTERS = {
    "filter": ek.EKFConfig(memory=ek.MemoryFactor(0.99, 0.9999), noise=1.0, p0=0.1),
    "not fading": ek.EKFConfig(memory=ek.MemoryFactor(1.0), noise=0.5, p0=0.1),  # half of the variance is noise
}


def split(x: Tensor, y: Tensor, seed: int) -> list[Tensor]:
    """Return inputs and labels of training and test, in units of the training's deviation."""
    x, x_test, y, y_test = train_test_split(x, y, test_size=0.25, random_state=seed)
    tables = (x - x.mean(0)) / x.std(0), y - y.mean(), (x_test - x.mean(0)) / x.std(0), y_test - y.mean()
    return [torch.tensor(t if t.ndim == 2 else t[:, None] / y.std()) for t in tables]


def run(data: list[Tensor], seed: int, epochs: int, how: ek.EKFConfig | float) -> tuple[list[float], float]:
    """Return the test errors after each epoch of a filter, or of Adam with some rate, and the CPU seconds."""
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(10, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)).double()
    x, y, x_test, y_test = data
    adam = torch.optim.Adam(net.parameters(), how) if isinstance(how, float) else None
    ekf = EKF(net.parameters(), how) if adam is None else None
    errors, start = [], time.process_time()
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(1 if ekf else 32):
            if ekf:
                ekf.step(lambda k=batch: (net(x[k]), y[k]))
            else:
                adam.zero_grad()
                nn.functional.mse_loss(net(x[batch]), y[batch]).backward()
                adam.step()
        with torch.no_grad():
            errors.append(float((net(x_test) - y_test).square().mean().sqrt()))
    return errors, time.process_time() - start


def report(name: str, train: Callable[[int], tuple[list[float], float]], seeds: int, shown: tuple[int, ...]) -> None:
    """Print medians over splits and initial weights."""
    curves, seconds = zip(*[train(seed) for seed in range(seeds)], strict=True)
    middle = np.median(curves, axis=0)
    cells = "  ".join(f"{middle[k - 1]:.3f} ({k})" for k in shown if k <= len(middle))
    print(f"  {name:<12} {cells}  best {middle.min():.3f} ({middle.argmin() + 1})  {np.median(seconds):.1f} s")


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, few epochs")
    args = parser.parse_args()
    seeds, epochs, adam_epochs = (1, 1, 3) if args.quick else (5, 10, 300)
    for title, load in TABLES.items():
        print(f"{title}: median test error of {seeds} (epoch)")
        data = [split(*load(), seed) for seed in range(seeds)]
        for name, config in FILTERS.items():
            report(name, lambda s, d=data, c=config: run(d[s], s, epochs, c), seeds, (1, 3, 10))
        for rate in (1e-2, 3e-3, 1e-3):
            report(f"Adam {rate:g}", lambda s, d=data, r=rate: run(d[s], s, adam_epochs, r), seeds, (10, 30, 300))


if __name__ == "__main__":
    main()
