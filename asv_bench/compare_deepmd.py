#!/usr/bin/env python3
"""Compare with DeePMD-kit: updates of the covariance, evaluations of the model, training steps, peak memory.

All are timed in one process with the same number of threads, in turns: what else the machine does meets all of them.
README.md beside this file tells what is compared with what. Prints Markdown. Needs Linux.
"""

# Only what loads no library is imported here: libraries read the number of threads when they are loaded.
import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import deepmd_side
from cases import Case, alternate
from machine import describe_machine, describe_versions

HERE = Path(__file__).resolve().parent
BLOCK_SIZE = 5120
FRAMES = 8  # of the data set; as many steps, 40 measurements, are enough for a fold-in
DATA, LKF, ADAM = "copper", "lkf.json", "adam.json"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS")
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"  # PyTorch's own switch

UPDATE, UPDATE_ALONE = "update of the covariance, m = {}", "update alone, m = {}"
ROWS = (1, 5)
FASTER = [  # ekfcore's, what it is compared with
    (UPDATE.format(1), "DeePMD-kit, LKFOptimizer.step"),
    ("training step, preset deepmd-lkf", "DeePMD-kit, step of LKF"),
    ("training step, preset recommended", "DeePMD-kit, step of LKF"),
    ("prediction and five gradients, nodal", "DeePMD-kit, passes of a step of LKF"),
    ("prediction and five gradients, nodal", "exact nets, NumPy"),
    ("prediction and five gradients, nodal", "exact nets, Numba"),
]
LONGER = [
    ("vector step, preset recommended", "DeePMD-kit, step of Adam"),
    ("training step, preset recommended", "DeePMD-kit, step of Adam"),
    (UPDATE.format(1), "reading one triangle of P"),
    (UPDATE.format(5), UPDATE.format(1)),
    (UPDATE_ALONE.format(1), "reading one triangle of P"),
    (UPDATE_ALONE.format(5), UPDATE_ALONE.format(1)),
    ("fold-in of 31 rows", "reading one triangle of P"),
]

Times = dict[str, list[list[float]]]
"""For each case and turn the seconds by each clock."""


def main() -> None:
    """Compare, and print tables."""
    args = _arguments()
    if importlib.util.find_spec("deepmd") is None or importlib.util.find_spec("torch") is None:
        sys.exit('the comparison needs DeePMD-kit; run: pip install "ekfcore[atoms,deepmd]"')
    _restart_with(_environment(args))
    print(f"{describe_machine(args.threads)}.\n{describe_versions()}.")
    print(f"PyTorch's huge pages: {'on' if args.huge_pages else 'off'}; medians of {args.turns} turns.\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_data(folder)
        deepmd_side.hide_library()
        cases = dict(_cases(folder))
        times: Times = dict(zip(cases, alternate(list(cases.values()), args.turns), strict=True))
        _print_times("times faster", FASTER, times, inverse=True)
        _print_times("times as long", LONGER, times, inverse=False)
        _print_memory(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5, help="how often each is timed (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="threads of both (default 1)")
    parser.add_argument("--huge-pages", action="store_true", help="give DeePMD-kit transparent huge pages")
    args = parser.parse_args()
    if args.turns < 1 or args.threads < 1:
        parser.error("--turns and --threads must be at least 1")
    return args


def _environment(args: argparse.Namespace) -> dict[str, str]:
    fixed = {"DP_INTER_OP_PARALLELISM_THREADS": "1", "NUM_WORKERS": "0", HUGE_PAGES: "1" if args.huge_pages else "0"}
    return dict.fromkeys(THREADS, str(args.threads)) | fixed


def _restart_with(variables: dict[str, str]) -> None:
    if any(os.environ.get(name) != value for name, value in variables.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | variables)


def _cases(folder: Path) -> Iterator[tuple[str, Case]]:
    """Yield everything that is timed, by the names in the tables."""
    import ekfcore_side as ours

    lkf_update, blocks = deepmd_side.make_update(BLOCK_SIZE)
    if blocks != ours.layout_of(BLOCK_SIZE).sizes:
        sys.exit(f"DeePMD-kit {version('deepmd-kit')} cuts P into {blocks}, preset deepmd-lkf into other blocks")
    filtering, data = deepmd_side.Filtering(folder / LKF), folder / DATA
    yield "DeePMD-kit, LKFOptimizer.step", Case(lkf_update)
    yield from zip((UPDATE.format(m) for m in ROWS), ours.make_updates(BLOCK_SIZE, ROWS), strict=True)
    parts = *(UPDATE_ALONE.format(m) for m in ROWS), "fold-in of 31 rows"
    yield from zip(parts, ours.make_parts(BLOCK_SIZE, ROWS), strict=True)
    yield "reading one triangle of P", ours.make_reading(BLOCK_SIZE)
    yield "DeePMD-kit, step of LKF", Case(filtering.step)
    yield "DeePMD-kit, passes of a step of LKF", Case(filtering.passes, calls=5)
    yield "prediction and five gradients, nodal", ours.make_evaluation("nodal")
    yield "exact nets, Numba", ours.make_evaluation("exact")
    yield "exact nets, NumPy", ours.make_evaluation("exact, whole arrays")
    yield "DeePMD-kit, step of Adam", Case(deepmd_side.make_adam_step(folder / ADAM), calls=20)
    for preset in ("deepmd-lkf", "recommended"):
        yield f"training step, preset {preset}", ours.make_step(data, {"preset": preset}, folder)
    vector = {"preset": "recommended", "mode": "vector"}
    yield "vector step, preset recommended", ours.make_step(data, vector, folder)


def _write_data(folder: Path) -> None:
    """Write copper frames as deepmd/npy, and beside them what DeePMD-kit is to train on them."""
    import numpy as np
    from benchmarks.copper import copper_frames

    from ekfcore.atoms import neighbour_pairs

    frames, data = copper_frames(FRAMES), folder / DATA
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
    for name, optimizer in ((LKF, {"type": "LKF", "kf_blocksize": BLOCK_SIZE}), (ADAM, {"type": "Adam"})):
        settings = deepmd_side.settings(data, optimizer, neighbours=neighbours, steps=FRAMES)
        (folder / name).write_text(json.dumps(settings))


def _print_times(title: str, rows: Sequence[tuple[str, str]], times: Times, *, inverse: bool) -> None:
    """Print medians, and the median, lowest and highest of the ratios turn by turn."""
    print(f"| ekfcore | [ms] | compared with | [ms] | {title} | lowest to highest | by CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, other in rows:
        pair = times[name], times[other]
        ratios = [
            [(b[clock] / a[clock] if inverse else a[clock] / b[clock]) for a, b in zip(*pair, strict=True)]
            for clock in (0, 1)
        ]
        ours, theirs = (f"{1e3 * median(turn[0] for turn in turns):.4g}" for turns in pair)
        wall, cpu = (f"{median(clock):.3g}" for clock in ratios)
        print(
            f"| {name} | {ours} | {other} | {theirs} | {wall} | {min(ratios[0]):.3g} to {max(ratios[0]):.3g} | {cpu} |"
        )
    print(flush=True)


def _print_memory(folder: Path) -> None:
    """Print where the memory goes of eight steps of LKF on each side, in a process of its own."""
    used = {side: _memory(side, folder) for side in ("DeePMD-kit", "ekfcore")}
    stages = list(used["ekfcore"])
    print(f"| memory of a training with LKF, N_b {BLOCK_SIZE} [MiB] | {' | '.join(stages)} |")
    print("|---|" + "---|" * len(stages))
    for side, row in used.items():
        print(f"| {side} | {' | '.join(f'{row[stage]:.0f}' if stage in row else '' for stage in stages)} |")
    share = used["ekfcore"]["peak"] / used["DeePMD-kit"]["peak"]
    print(f"| ekfcore / DeePMD-kit |{' |' * (len(stages) - 1)} {share:.2f} |")


def _memory(side: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, str(HERE / "peak_memory.py"), side, str(folder / DATA), str(folder / LKF)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the training with {side} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
