#!/usr/bin/env python3
"""Write data sets that have virials, to choose how much these count.

    python docs/experiments/virials.py DATA OUT
    python docs/experiments/choose.py OUT --sets built-in Cu_movement AgAu_EMT --epochs 3 --marks \\
        --variants virial_prefactor=0 virial_noise=0.01 virial_noise=0.1

DATA is a folder with the sets AgAu, Ni and NaCl (extended XYZ) and Cu_pwmat_movement (MOVEMENT files of PWmat). The
stresses of the latter are those of density-functional theory, at fixed volume, with a pressure of 140 GPa that does not
belong to the energies. The structures of the others, strained at random by up to 3 % and 2 % in shear, are given labels
that a calculation of seconds allows: EMT and GFN1-xTB, whose energies, forces and virials belong
to each other. A fifth of the structures is held out by choose.py, as everywhere.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from tblite.ase import TBLite

from ekfcore.atoms import read_frames


def main() -> None:
    """Label and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--most", type=int, default=80, help="structures of a set")
    args = parser.parse_args()
    movements = [read_frames(path) for path in sorted((args.data / "Cu_pwmat_movement").glob("MOVEMENT_*"))]
    save(args.out / "Cu_movement", (frame.to_ase() for frames in movements for frame in frames))
    calculators: dict[str, tuple[str, BaseCalculator]] = {
        "AgAu_EMT": ("AgAu", EMT()),
        "Ni_EMT": ("Ni", EMT()),
        "NaCl_xTB": ("NaCl", TBLite(method="GFN1-xTB", verbosity=0)),
    }
    for name, (folder, calculator) in calculators.items():
        structures = read(args.data / folder / "train.xyz.xz", ":")
        chosen = np.linspace(0, len(structures) - 1, min(args.most, len(structures))).round().astype(int)
        save(args.out / name, labelled([structures[k] for k in chosen], calculator))


def labelled(structures: list[Atoms], calculator: BaseCalculator) -> Iterator[Atoms]:
    """Strain and label."""
    rng = np.random.default_rng(1)
    for structure in structures:
        strain = np.diag(rng.uniform(-0.03, 0.03, 3)) + np.triu(rng.uniform(-0.02, 0.02, (3, 3)), 1)
        atoms = Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=True)
        atoms.set_cell(atoms.cell @ (np.eye(3) + strain), scale_atoms=True)
        atoms.calc = calculator
        labels = {name: calculator.get_property(name, atoms) for name in ("energy", "forces", "stress")}
        atoms.calc = SinglePointCalculator(atoms, **labels)
        yield atoms


def save(folder: Path, structures: Iterator[Atoms]) -> None:
    """Write a set."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = list(structures)
    write(folder / "train.xyz.xz", frames)
    print(f"{folder.name}: {len(frames)} structures", flush=True)


if __name__ == "__main__":
    main()
