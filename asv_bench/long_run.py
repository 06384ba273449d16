#!/usr/bin/env python3
"""Train for very many updates, and watch whether P stays a covariance.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python asv_bench/long_run.py DATA --updates 100000

DATA is a folder with train.xyz.xz. The filter is the recommended one, unless --optimizer says otherwise: a TOML table
such as '{rows = 64}'. The nets are small and the frames few, so that 100 000 updates take minutes and P, which is made
dense for its eigenvalues, fits: --embedding, --axis, --fitting, --cutoff and --frames choose them.
"""

import argparse
import tempfile
import time
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ekfcore import Covariance, EKFState, UpdateInfo
from ekfcore.potentials.dataset import Dataset
from ekfcore.training import Settings, Trainer, kalman, prepare

COLUMNS = ("updates", "seconds", "min HPH/prior", "smallest eigenvalue", "largest", "trace", "sum of them", "finite")

REFINED = 100  # steps after which the nodes of the embedding are looked at, as each epoch does


def main() -> None:
    """Train and print a line now and then."""
    args = _arguments()
    optimizer = {"preset": "recommended"} | tomllib.loads(f"optimizer = {args.optimizer}")["optimizer"]
    model = {"embedding": args.embedding, "axis": args.axis, "fitting": args.fitting, "cutoff": args.cutoff}
    settings = {
        "data": {"train": [str(args.data / "train.xyz.xz")]},
        "model": model,
        "optimizer": optimizer,
        "training": {"seed": args.seed},
        "run": {"backend": args.backend},
    }
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1, user_api="blas"):
        trainer = prepare(Settings.from_json(settings), Path(folder) / "run")
        state = trainer.optimizer.state
        config, layout = trainer.optimizer.recipe.config, state.covariance.layout
        print(f"small nets and few frames, for speed: {model}, {args.frames} frames")
        print(f"{layout.n_params} weights in blocks of {layout.sizes}")
        print(f"{trainer.optimizer.recipe}\n")
        watch = _Watch(config.p0)
        kalman.update = partial(_observed, kalman.update, watch)
        _print_line(COLUMNS)
        _train(trainer, args, watch)
        used = Dataset(trainer.train.model, trainer.train.frames[: args.frames], like=trainer.weights)
        print(f"\nfinite: {watch.finite}")
        for name, dataset in (("these frames", used), ("test frames", trainer.test)):
            errors = dataset.errors(trainer.weights)
            print(f"errors of {name}: {errors.energy_rmse:.3g} meV/atom, {errors.force_rmse:.3g} meV/Å")
    print(f"smallest H P H^T / prior: {watch.least_ever:.3e}; smallest eigenvalue of P: {watch.smallest_ever:.3e}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train.xyz.xz")
    parser.add_argument("--updates", type=int, default=100_000, help="how many (default 100 000)")
    parser.add_argument("--frames", type=int, default=8, help="of the training set, over and over (default 8)")
    parser.add_argument("--lines", type=int, default=20, help="lines to print (default 20)")
    parser.add_argument("--embedding", type=int, nargs="+", default=[4, 8], help="widths (default 4 8)")
    parser.add_argument("--axis", type=int, default=2, help="columns of the second factor (default 2)")
    parser.add_argument("--fitting", type=int, nargs="+", default=[10, 10], help="widths (default 10 10)")
    parser.add_argument("--cutoff", type=float, default=4.0, help="[Å] (default 4)")
    parser.add_argument("--optimizer", default="{}", help="TOML table of what differs from the preset")
    parser.add_argument("--backend", default="auto", help="as of ekfcore train")
    parser.add_argument("--seed", type=int, default=1, help="of weights and groups (default 1)")
    return parser.parse_args()


class _Watch:
    """What the updates so far did; `p0` is the prior variance of a weight."""

    def __init__(self, p0: float) -> None:
        self.p0, self.updates, self.finite = p0, 0, True
        self.least = self.least_ever = self.smallest_ever = float("inf")

    def note(self, H: NDArray[np.floating], state: EKFState, info: UpdateInfo) -> None:
        """Count an update; the least ratio is that since the last line."""
        length = np.sum(H.reshape(-1, H.shape[-1]) ** 2, axis=1)
        ratios = info.hph[length > 0] / (self.p0 * length[length > 0])
        self.least = min(self.least, *ratios.tolist())
        self.least_ever = min(self.least_ever, self.least)
        self.updates += 1
        self.finite &= bool(np.all(np.isfinite(state.weights)) and np.isfinite(info.trace))

    def line(self, P: Covariance) -> list[object]:
        """Return what is printed of P, and begin to look for the least ratio anew."""
        dense = P.multiply(np.eye(P.layout.n_params))
        values = np.linalg.eigvalsh((dense + dense.T) / 2)
        self.smallest_ever = min(self.smallest_ever, float(values[0]))
        least, self.least = self.least, float("inf")
        return [
            least,
            values[0],
            values[-1],
            np.sum(P.traces),
            np.sum(values),
            self.finite and np.isfinite(dense).all(),
        ]


def _observed(update: Any, watch: _Watch, state: EKFState, H: Any, e: Any, **options: Any) -> Any:
    """Update, and have it noted."""
    state, info = update(state, H, e, **options)
    watch.note(H, state, info)
    return state, info


def _train(trainer: Trainer, args: argparse.Namespace, watch: _Watch) -> None:
    """Step through the frames until there are enough updates."""
    start, step, lines = time.perf_counter(), 0, 0
    frames = min(args.frames, len(trainer.train))
    while watch.updates < args.updates:
        if step % REFINED == 0:
            trainer.refine()
        trainer.optimizer.step([trainer.train[step % frames]], np.random.default_rng([args.seed, step]))
        step += 1
        if watch.updates >= (lines + 1) * args.updates / args.lines:
            lines += 1
            seconds = time.perf_counter() - start
            _print_line([watch.updates, f"{seconds:.0f}", *watch.line(trainer.optimizer.state.covariance)])


def _print_line(cells: Any) -> None:
    texts = [f"{cell:.3e}" if isinstance(cell, float) else str(cell) for cell in cells]
    print(" ".join(f"{text:>20}" for text in texts), flush=True)


if __name__ == "__main__":
    main()
