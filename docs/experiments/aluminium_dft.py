#!/usr/bin/env python3
"""What the settings of Quantum ESPRESSO for aluminium are worth, and the phonons of models learned from its labels.

    python docs/experiments/aluminium_dft.py converge        # a table of forces and processor seconds; ten minutes
    python docs/experiments/aluminium_dft.py phonons OUT     # of the final models of `active_learning.py run OUT`

Both need pw.x, and print Markdown tables.
"""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from active_systems import SYSTEMS, espresso
from ase.build import bulk
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.labelling.calculators import make_calculator
from ekfcore.potentials import EKFCalculator
from ekfcore.properties.phonons import find_phonons

ALUMINIUM = SYSTEMS["aluminium"]
FINEST = {"cutoff": 18.0, "mesh": 4, "smearing": 0.05, "threshold": 1e-7}
OTHERS: list[dict[str, Any]] = [
    {},
    {"threshold": 1e-7},
    {"cutoff": 18.0},
    {"cutoff": 12.0},
    {"smearing": 0.05},
    {"mesh": 4, "smearing": 0.05},
]


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(dest="what", required=True)
    words.add_parser("converge", help="compare settings")
    words.add_parser("phonons", help="compare models").add_argument("out", type=Path, help="folder of the runs")
    args = parser.parse_args()
    if args.what == "converge":
        _converge()
    else:
        _phonons(args.out)


def _converge() -> None:
    """Print how far the forces on one frame are from those of the finest settings."""
    finest, seconds = _forces(**FINEST)
    size = 1e3 * np.sqrt(np.mean(finest**2))
    print(f"Forces on a crystal whose atoms were displaced by 0.15 Å, {size:.0f} meV/Å (RMS):\n")
    print("| cutoff [Ry] | mesh | smearing [Ry] | threshold [Ry] | force difference [meV/Å] | processor seconds |")
    print("|---|---|---|---|---|---|")
    print(_row(FINEST, "", seconds), flush=True)
    for change in OTHERS:
        forces, seconds = _forces(**change)
        print(_row(change, f"{1e3 * np.sqrt(np.mean((forces - finest) ** 2)):.1f}", seconds), flush=True)


def _row(changed: dict[str, Any], difference: str, seconds: float) -> str:
    used = espresso(**changed)
    system, electrons = used["input_data"]["system"], used["input_data"]["electrons"]
    mesh = " × ".join(map(str, used["kpts"]))
    cells = [f"{system['ecutwfc']:g}", mesh, f"{system['degauss']:g}", f"{electrons['conv_thr']:g}", difference]
    return f"| {' | '.join(cells)} | {seconds:.0f} |"


def _forces(**changed: Any) -> tuple[NDArray[np.float64], float]:
    """Return the forces on the frame, and the processor seconds that they took."""
    atoms = ALUMINIUM.crystal
    atoms.rattle(0.15, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        atoms.calc = make_calculator("espresso", espresso(**changed) | {"directory": folder})
        before = os.times()
        forces = atoms.get_forces()
    after = os.times()
    return forces, sum(after[2:4]) - sum(before[2:4])  # those of child processes


def _phonons(out: Path) -> None:
    """Print how far the frequencies of the models along a path are from those of the labels' own method."""
    crystal = Frame.from_ase(bulk(ALUMINIUM.element, cubic=True, a=ALUMINIUM.lattice), "aluminium")
    models = {path.parents[1].name: EKFCalculator(path) for path in sorted(out.glob("*-*/final/model"))}
    with tempfile.TemporaryDirectory() as folder:
        reference = make_calculator("espresso", espresso(threshold=1e-9) | {"directory": folder})
        bands = find_phonons(crystal, {"DFT": reference, **models}, supercell=[2, 2, 2]).bands
    print(f"Highest frequency with Quantum ESPRESSO: {bands['DFT'].max():.2f} THz\n")
    print("| model | RMS difference [THz] | largest [THz] | highest frequency [THz] |\n|---|---|---|---|")
    for name in models:
        off = bands[name] - bands["DFT"]
        print(f"| {name} | {np.sqrt(np.mean(off**2)):.3f} | {np.abs(off).max():.3f} | {bands[name].max():.2f} |")


if __name__ == "__main__":
    main()
