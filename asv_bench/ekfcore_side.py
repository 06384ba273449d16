"""Our side of the comparison: updates, evaluations of the model, and training steps, with Numba's kernels."""

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.bandwidth import COPIED, copier, triangle_bytes
from benchmarks.filters import PARTS, RunningFilter, random_rows, running_filter, settle, steady_config
from benchmarks.model import Model
from benchmarks.timing import calls_in_cycles
from benchmarks.training import steps_in_cycles
from cases import Case
from threadpoolctl import threadpool_limits

from ekfcore import partition, update
from ekfcore.partition import BlockLayout
from ekfcore.training import Settings, prepare

__all__ = [
    "BACKEND",
    "layout_of",
    "make_evaluation",
    "make_parts",
    "make_reading",
    "make_step",
    "make_trainer",
    "make_updates",
]

BACKEND = "numba"


def _one_blas_thread() -> AbstractContextManager[object]:
    """Keep BLAS to one thread beside the threads of Numba's kernels, as the command line does."""
    return threadpool_limits(1, user_api="blas")


_Ours = partial(Case, context=_one_blas_thread)


def layout_of(block_size: int) -> BlockLayout:
    """Return the blocks of the paper's network by DeePMD-kit's rule."""
    return partition(PARTS, block_size=block_size, strategy="deepmd")


def make_updates(block_size: int, rows: Sequence[int]) -> list[Case]:
    """Return updates with so many measurements, each with its share of the fold-ins."""
    layout, config = layout_of(block_size), steady_config("float64")
    w = random_rows(BACKEND, "float64", 1, layout.n_params)[0, :]
    # One filter for all of them: each turn ends with a fold-in, so the next one starts afresh.
    running = RunningFilter(settle(w, layout, config, BACKEND), config)

    def case(m: int) -> Case:
        H = random_rows(BACKEND, "float64", m, layout.n_params)
        return _Ours(lambda: running.update(H, np.full(m, 0.01)), calls=calls_in_cycles(config, [m]))

    return [case(m) for m in rows]


def make_parts(block_size: int, rows: Sequence[int]) -> list[Case]:
    """Return updates with so many measurements half-way between two fold-ins, and a fold-in."""
    config = steady_config("float64")
    waiting = {"block_size": block_size, "strategy": "deepmd"}
    state = running_filter(BACKEND, "float64", **waiting, pending=config.pending // 2)
    full = running_filter(BACKEND, "float64", **waiting, pending=config.pending - 1)

    def case(m: int) -> Case:
        H = random_rows(BACKEND, "float64", m, sum(PARTS))
        return _Ours(lambda: update(state, H, np.full(m, 0.01), config=config, donate=True), calls=10)

    return [*(case(m) for m in rows), _Ours(lambda: full.covariance.fold(donate=True), calls=3)]


def make_reading(block_size: int) -> Case:
    """Return the reading of one triangle of P at the speed at which the same threads copy memory."""
    copied = 2 * COPIED  # both what is read and what is written
    return _Ours(copier(np.zeros(1)), calls=5, per_call=copied / triangle_bytes(layout_of(block_size), "float64"))


def make_evaluation(embedding: str) -> Case:
    """Return the prediction for a frame with the gradients of its energy and of four groups of forces."""
    model = Model()
    args = ("numpy", embedding, "float64")
    model.setup(*args)
    compiled = embedding != "exact, whole arrays"
    return (_Ours if compiled else Case)(lambda: model.time_everything(*args), calls=20)


def make_step(data: Path, optimizer: dict[str, Any], folder: Path) -> Case:
    """Return a step of the training on one frame, with its share of the fold-ins, or of the times that rows age."""
    trainer, rng = make_trainer(data, optimizer, folder), np.random.default_rng(0)
    samples, kalman = trainer.train[:1], trainer.optimizer
    return _Ours(lambda: kalman.step(samples, rng), calls=steps_in_cycles(kalman.recipe))


def make_trainer(data: Path, optimizer: dict[str, Any], folder: Path) -> Any:
    """Return a training of one epoch as `ekfcore train` runs it, ready to start."""
    settings = {
        "data": {"train": [str(data)], "test": [str(data)]},
        "optimizer": optimizer,
        "training": {"epochs": 1},
        "run": {"backend": BACKEND},
    }
    return prepare(Settings.from_json(settings), Path(tempfile.mkdtemp(dir=folder)))
