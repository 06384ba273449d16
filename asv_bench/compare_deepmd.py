#!/usr/bin/env python3
"""Compare with DeePMD-kit's optimizer LKF: seconds of a covariance update and of a training step, peak memory.

Both run in one process with the same number of threads, in turns, so that whatever else the machine does meets both.
README.md beside this file tells what is compared with what. Needs Linux, for the name of the processor.
"""

# Only what loads no library is imported here: libraries read the number of threads when they are loaded.
import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import deepmd_lkf

BLOCK_SIZE = 5120
DATA, INPUT = "copper", "input.json"
FRAMES = 8  # of the data set; as many steps, 40 measurements, are enough for a fold-in
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS")
CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}  # on a busy machine only the second says much
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own switch
SYSTEM_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")

Row = tuple[str, list[float], list[float]]
"""What was measured, theirs and ours."""


@dataclass(frozen=True, slots=True)
class Case:
    """Something to time: the mean of so many calls."""

    run: Callable[[], object]
    calls: int = 1

    def seconds(self) -> list[float]:
        """Return the time of a call by each clock [s]."""
        start = [clock() for clock in CLOCKS.values()]
        for _ in range(self.calls):
            self.run()
        return [(clock() - begun) / self.calls for clock, begun in zip(CLOCKS.values(), start, strict=True)]


def main() -> None:
    """Compare, and print a table."""
    args = _arguments()
    if importlib.util.find_spec("deepmd") is None or importlib.util.find_spec("torch") is None:
        sys.exit('the comparison needs DeePMD-kit; run: pip install "ekfcore[atoms,deepmd]"')
    _restart_with(_environment(args))
    if args.memory:
        folder = Path(args.memory[1])
        {"DeePMD-kit": _train_theirs, "ekfcore": _train_ours}[args.memory[0]](folder)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_data(folder)
        # Memory before anything large is made here: a process counts the peak of the one that starts it as its own.
        memory = [] if args.skip_memory else _compare_memory(folder)
        deepmd_lkf.hide_library()
        times = _compare_times(folder, args.pairs)
    _print_table([*times, *memory], args)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="how often each is timed, in turns (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of both (default 1)")
    parser.add_argument("--huge-pages", action="store_true", help="give DeePMD-kit transparent huge pages")
    parser.add_argument("--skip-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)  # how the script calls itself: side, folder
    args = parser.parse_args()
    if args.pairs < 1 or args.threads < 1:
        parser.error("--pairs and --threads must be at least 1")
    return args


def _environment(args: argparse.Namespace) -> dict[str, str]:
    fixed = {"DP_INTER_OP_PARALLELISM_THREADS": "1", "NUM_WORKERS": "0", HUGE_PAGES: "1" if args.huge_pages else "0"}
    return dict.fromkeys(THREADS, str(args.threads)) | fixed


def _restart_with(variables: dict[str, str]) -> None:
    if any(os.environ.get(name) != value for name, value in variables.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | variables)


# --- Peak memory


def _compare_memory(folder: Path) -> list[Row]:
    theirs, ours = ([_peak_memory(side, folder)] for side in ("DeePMD-kit", "ekfcore"))
    return [("training, preset deepmd-lkf, peak memory [MiB]", theirs, ours)]


def _peak_memory(side: str, folder: Path) -> float:
    """Return the peak memory of a training in a process of its own [MiB]."""
    command = [sys.executable, *sys.argv, "--memory", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the training with {side} failed:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def _train_theirs(folder: Path) -> None:
    deepmd_lkf.hide_library()
    os.chdir(folder)  # where the trainer writes its files
    deepmd_lkf.make_trainer(folder / INPUT).run()


def _train_ours(folder: Path) -> None:
    _our_trainer(folder, "deepmd-lkf").run()


# --- Times


def _compare_times(folder: Path, pairs: int) -> list[Row]:
    their_update, our_update = _alternate(_updates(), pairs)
    their_step = Case(deepmd_lkf.make_step(folder / INPUT))
    steps = _alternate([their_step, _our_step(folder, "deepmd-lkf"), _our_step(folder, "recommended")], pairs)
    compared = [
        ("update of the covariance, m = 1", their_update, our_update),
        ("training step, preset deepmd-lkf", steps[0], steps[1]),
        ("training step, preset recommended", steps[0], steps[2]),
    ]
    return [
        (f"{what}, {clock} [s]", [times[index] for times in theirs], [times[index] for times in ours])
        for what, theirs, ours in compared
        for index, clock in enumerate(CLOCKS)
    ]


def _alternate(cases: Sequence[Case], pairs: int) -> list[list[list[float]]]:
    """Return for each case its times in each turn [s], after one turn to warm up."""
    turns = [[case.seconds() for case in cases] for _ in range(pairs + 1)][1:]
    return [list(times) for times in zip(*turns, strict=True)]


def _updates() -> list[Case]:
    """Return an update of each, with the same blocks."""
    import numpy as np
    from benchmarks.common import PARTS

    from ekfcore import init, partition, update
    from ekfcore.presets import preset

    theirs, blocks = deepmd_lkf.make_update(BLOCK_SIZE)
    layout = partition(PARTS, block_size=BLOCK_SIZE, strategy="deepmd")
    if blocks != layout.sizes:
        sys.exit(f"DeePMD-kit {version('deepmd-kit')} cuts P into {blocks}, preset deepmd-lkf into {layout.sizes}")
    rng, config = np.random.default_rng(0), preset("deepmd-lkf").config
    H = rng.normal(0.0, 0.01, layout.n_params)
    state = init(rng.normal(0.0, 0.1, layout.n_params), layout, config, backend="numpy")

    def ours() -> None:
        nonlocal state
        state, _ = update(state, H, 0.1, config=config, donate=True)

    return [Case(theirs), Case(ours, calls=config.pending)]


def _our_step(folder: Path, preset: str) -> Case:
    import numpy as np

    trainer, rng = _our_trainer(folder, preset), np.random.default_rng(0)
    sample, optimizer = trainer.train.samples[:1], trainer.optimizer
    return Case(lambda: optimizer.step(sample, rng), calls=optimizer.recipe.config.pending)


def _our_trainer(folder: Path, preset: str) -> Any:
    from ekfcore.training import Settings, prepare

    data = [str(folder / DATA)]
    settings = {
        "data": {"train": data, "test": data},
        "optimizer": {"preset": preset},
        "training": {"epochs": 1},
        "run": {"backend": "numpy"},
    }
    return prepare(Settings.from_json(settings), Path(tempfile.mkdtemp(dir=folder)))


# --- Data


def _write_data(folder: Path) -> None:
    """Write copper frames as deepmd/npy, and beside them what DeePMD-kit is to train on them."""
    import numpy as np
    from benchmarks.common import copper_frames

    from ekfcore.atoms import neighbour_pairs

    frames = copper_frames(FRAMES)
    data = folder / DATA
    (data / "set.000").mkdir(parents=True)
    (data / "type.raw").write_text("0\n" * frames[0].n_atoms)
    (data / "type_map.raw").write_text("Cu\n")
    arrays = {
        "coord": [frame.positions for frame in frames],
        "box": [frame.cell for frame in frames],
        "energy": [frame.energy for frame in frames],
        "force": [frame.forces for frame in frames],
    }
    for name, rows in arrays.items():
        np.save(data / "set.000" / f"{name}.npy", np.reshape(np.asarray(rows), (FRAMES, -1)))
    neighbours = max(int(np.bincount(neighbour_pairs(frame, 6.0)[0]).max()) for frame in frames)
    settings = deepmd_lkf.settings(folder / DATA, neighbours=neighbours, block_size=BLOCK_SIZE, steps=FRAMES)
    (folder / INPUT).write_text(json.dumps(settings))


# --- The table


def _print_table(rows: Sequence[Row], args: argparse.Namespace) -> None:
    """Print medians, and the median, lowest and highest of the ratios of the pairs."""
    names = {"DeePMD-kit": "deepmd-kit", "ekfcore": "ekfcore", "torch": "torch", "NumPy": "numpy", "SciPy": "scipy"}
    system = SYSTEM_HUGE_PAGES.read_text().strip() if SYSTEM_HUGE_PAGES.exists() else "none"
    print(f"{_processor()}, {os.cpu_count()} cores, {args.threads} thread(s) each, load {os.getloadavg()[0]:.1f}")
    print(", ".join(f"{name} {version(package)}" for name, package in names.items()))
    print(f"huge pages for DeePMD-kit: {'on' if args.huge_pages else 'off'}; setting of the system: {system}\n")
    width = max(len(what) for what, _, _ in rows)
    print(f"{'':{width}}  {'DeePMD-kit':>10}  {'ekfcore':>10}  {'ratio':>6}  lowest to highest")
    for what, theirs, ours in rows:
        ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}" if len(ratios) > 1 else ""
        print(f"{what:{width}}  {median(theirs):10.4g}  {median(ours):10.4g}  {median(ratios):6.1f}  {spread}")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


if __name__ == "__main__":
    main()
