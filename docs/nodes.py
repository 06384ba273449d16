#!/usr/bin/env python3
"""Compare the nodal embedding with the exact nets on the demonstration's data; print the table, draw the picture.

    python docs/nodes.py

It takes half a minute, of which the training of a few epochs is the most.
"""

import os
import tempfile
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # after the number of threads has been set
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from ekfcore.models.deep_potential import NodalPotential, find_kernels, interpolation_error
from ekfcore.training import load_settings, prepare

PICTURE = Path(__file__).resolve().parent / "_static" / "nodes.png"
SPACINGS = [2.0**-k for k in range(3, 11)]  # [1/Å]
EPOCHS, REPEATS = 3, 50
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#7f7f7f"


def main() -> None:
    """Train a little, then compare before and after."""
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(str(files("ekfcore.demo"))) / "demo.toml"
        trainer = prepare(load_settings(demo, [f"training.epochs={EPOCHS}"]), Path(folder) / "run")
        weights = {"initial weights": trainer.weights}
        trainer.run()
        weights[f"after {EPOCHS} epochs"] = trainer.weights
    model, frames = trainer.model.exact, trainer.test.frames[:2]
    kernels = find_kernels(np)
    assert kernels is not None
    w = trainer.weights
    exact = milliseconds(model, w, frames[0])
    print(f"{'nodes apart [1/Å]':>18}{'nodes':>7}{'largest relative error':>24}{'ms':>8}{'times faster':>14}")
    errors: dict[str, list[float]] = {name: [] for name in weights}
    for spacing in SPACINGS:
        nodal = NodalPotential(model, spacing, kernels)
        for name, values in weights.items():
            errors[name].append(interpolation_error(nodal, values, frames))
        nodes = nodal.environment(frames[0], like=w).groups[0].B.shape[2]
        ms = milliseconds(nodal, w, frames[0])
        print(f"{f'1/{1 / spacing:.0f}':>18}{nodes:7d}{errors[name][-1]:24.1e}{ms:8.2f}{exact / ms:14.1f}")
    print(f"{'exact nets':>18}{'':7}{'':24}{exact:8.2f}\nthe training chose {trainer.model}")
    draw(errors)
    print(f"wrote {PICTURE}")


def milliseconds(model: object, w: object, frame: object) -> float:
    """Return the median time of a prediction and the gradients of an energy and a group of forces [ms]."""
    sample = model.environment(frame, like=w)  # type: ignore[attr-defined]
    group = np.zeros((frame.n_atoms, 3))  # type: ignore[attr-defined]
    group[:6] = 1 / 18
    cotangents = [{"energy": np.asarray(1.0)}, {"forces": group}]

    def once() -> None:
        model.linearize(w, sample)[1](cotangents)  # type: ignore[attr-defined]

    return 1e3 * median(seconds(once) for _ in range(REPEATS))


def seconds(call: Callable[[], None]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def draw(errors: dict[str, list[float]]) -> None:
    """Draw the errors against the spacing, with the slope of the order of the interpolation."""
    figure = Figure(figsize=(5.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(errors.items(), (BLUE, ORANGE), strict=True):
        axes.loglog(SPACINGS, values, "o-", color=colour, label=name)
    guide = np.asarray(SPACINGS[4:7])
    axes.loglog(guide, 8 * errors[name][4] * (guide / guide[0]) ** 8, "--", color=GREY, label="eighth power")
    axes.axhline(1e-9, color=GREY, linewidth=1)
    axes.text(SPACINGS[0], 1.6e-9, "tolerance of the training", color=GREY, fontsize=8, ha="right")
    axes.set_xticks(SPACINGS)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"1/{1 / x:.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("distance of the nodes [1/Å]")
    axes.set_ylabel("largest relative error")
    axes.grid(True, which="major", alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=160)


if __name__ == "__main__":
    main()
