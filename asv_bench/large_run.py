#!/usr/bin/env python3
"""Train on very many frames, or on very many elements, and print what memory it takes.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python asv_bench/large_run.py --frames 10000
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python asv_bench/large_run.py --frames 200 --elements 10

Frames are of 32 atoms at random on an fcc lattice, displaced by 0.1 Å and labelled with ASE's EMT, which knows ten
elements. The nets are the paper's. Memory is that of the process at its peak, less what it had after the imports.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write

from ekfcore.training import Settings, prepare

ELEMENTS = ("Cu", "Al", "Ag", "Au", "Ni", "Pd", "Pt", "C", "N", "O")


def main() -> None:
    """Make the data, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000, help="frames to train on (default 10 000)")
    parser.add_argument("--elements", type=int, default=1, help="how many (default 1, at most 10)")
    parser.add_argument("--steps", type=int, default=400, help="frames to learn (default 400)")
    parser.add_argument("--sample-memory", type=float, default=1.0, help="run.sample_memory [GiB] (default 1)")
    args = parser.parse_args()
    before = memory("VmRSS")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "frames.xyz"
        make(data, args.frames + 40, ELEMENTS[: args.elements])
        settings = {
            "data": {"train": [str(data)], "test_fraction": 40 / (args.frames + 40)},
            "run": {"sample_memory": args.sample_memory},
        }
        trainer = prepare(Settings.from_json(settings), Path(folder) / "run")
        print(f"{len(trainer.train)} frames, {args.elements} elements, {len(trainer.weights)} weights")
        print(f"ready: {memory('VmHWM') - before:.0f} MiB, of which samples may take {1024 * args.sample_memory:.0f}")
        seconds, order = 0.0, np.random.default_rng(0).permutation(len(trainer.train))
        for step in range(1, args.steps + 1):
            start = time.perf_counter()
            trainer.optimizer.step([trainer.train[order[step - 1]]], np.random.default_rng(step))
            seconds += time.perf_counter() - start
            if step % (args.steps // 4) == 0:
                errors = trainer.test.errors(trainer.weights)
                print(
                    f"{step} steps: {1e3 * seconds / step:.0f} ms/step, {errors.energy_rmse:.2f} meV/atom, "
                    f"{errors.force_rmse:.1f} meV/Å; peak {memory('VmHWM') - before:.0f} MiB",
                    flush=True,
                )
        print(f"trace of P: {float(np.sum(trainer.optimizer.state.covariance.traces)):.4g}")


def make(path: Path, count: int, elements: tuple[str, ...]) -> None:
    """Write labelled frames."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(count):
        atoms = bulk("Cu", cubic=True, a=3.9 if len(elements) > 1 else 3.6) * 2
        atoms.symbols = rng.choice(elements, len(atoms))
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    write(path, frames, format="extxyz")


def memory(field: str) -> float:
    """Return what the kernel says about this process [MiB]: VmRSS, memory in use, or VmHWM, the most that ever was."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main()
