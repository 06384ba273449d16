#!/usr/bin/env python3
"""Train on the demonstration's data with the filter and with Adam; draw the picture of the README and its figures.

    python docs/figures.py [--adam-epochs N]

Both train the same model on energies and forces, on one thread, each from the initial weights that are its default. It
takes a few minutes.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

os.environ.setdefault("OMP_NUM_THREADS", "1")

from ekfcore.training import EpochRecord, load_settings, prepare  # after the number of threads has been set

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "_static" / "filter-and-adam.png"
BLUE, GREY = "#0072b2", "#7f7f7f"
PLAIN = FuncFormatter(lambda value, position: f"{value:g}")
QUANTITIES = (("force", "Force RMSE, test [meV/Å]"), ("energy", "Energy RMSE, test [meV/atom]"))


def main() -> None:
    """Train, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--filter-epochs", type=int, default=20)
    parser.add_argument("--adam-epochs", type=int, default=300, help="the schedule of its learning rate fits itself")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "Kalman filter": train("recommended", args.filter_epochs, Path(folder) / "filter"),
            "Adam": train("adam", args.adam_epochs, Path(folder) / "adam"),
        }
    for name, records in runs.items():
        report(name, records)
    draw(runs)
    print(f"wrote {PICTURE}")


def train(preset: str, epochs: int, out: Path) -> Sequence[EpochRecord]:
    """Return the errors after each epoch."""
    overrides = [f"optimizer.preset={preset}", f"training.epochs={epochs}"]
    if preset != "adam":  # whose loss leaves virials out by itself
        overrides.append("optimizer.virial_prefactor=0")
    trainer = prepare(load_settings(Path(str(files("ekfcore.demo"))) / "demo.toml", overrides), out)
    trainer.run()
    return trainer.records


def report(name: str, records: Sequence[EpochRecord]) -> None:
    """Print the errors after the first epochs, and after doublings of them."""
    for record in records:
        epoch = record.epoch
        if epoch & (epoch - 1) == 0 or epoch == len(records):
            print(
                f"{name:<14} epoch {epoch:>4} {record.wall_s:>7.1f} s "
                f"{record.energy_rmse_test:>8.2f} meV/atom {record.force_rmse_test:>8.1f} meV/Å"
            )


def draw(runs: dict[str, Sequence[EpochRecord]]) -> None:
    """Draw both errors against the epochs."""
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    for axes, (quantity, title) in zip(figure.subplots(1, 2), QUANTITIES, strict=True):
        for (name, records), colour in zip(runs.items(), (BLUE, GREY), strict=True):
            curve(axes, name, records, quantity, colour)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("epoch")
        axes.set_xlim(0.9, 1000)
        axes.xaxis.set_major_formatter(PLAIN)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(PLAIN)
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=150)


def curve(axes: Axes, name: str, records: Sequence[EpochRecord], quantity: str, colour: str) -> None:
    """Draw one curve with its name at its end."""
    epochs = [record.epoch for record in records]
    errors = [getattr(record, f"{quantity}_rmse_test") for record in records]
    axes.loglog(epochs, errors, color=colour, linewidth=2)
    axes.annotate(
        name,
        (epochs[-1], errors[-1]),
        textcoords="offset points",
        xytext=(6, 0),
        va="center",
        color=colour,
    )


if __name__ == "__main__":
    main()
