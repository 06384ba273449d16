#!/usr/bin/env python3
"""Count the neighbours of copper atoms in molecular dynamics with ASE's EMT, for docs/how-to/from-deepmd-kit.md.

python docs/neighbours.py
"""

import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.md.langevin import Langevin
from ase.neighborlist import neighbor_list

CUTOFF = 5.0  # [Å]


def main() -> None:
    """Print the largest number of neighbours, in the first picosecond after equilibration and in the four after it."""
    for temperature in (300, 1400):
        atoms = bulk("Cu", cubic=True).repeat(3)
        print(f"{temperature} K: perfect crystal {most(atoms)}", end="")
        atoms.calc = EMT()
        rng = np.random.default_rng(0)
        friction = 0.02 / units.fs
        dynamics = Langevin(atoms, 2 * units.fs, temperature_K=temperature, friction=friction, fixcm=False, rng=rng)
        dynamics.run(500)
        counts = []
        for _ in range(250):
            dynamics.run(10)
            counts.append(most(atoms))
        print(f", first picosecond {max(counts[:50])}, five picoseconds {max(counts)}")


def most(atoms: object) -> int:
    """Return the largest number of neighbours of an atom."""
    return int(np.bincount(neighbor_list("i", atoms, CUTOFF)).max())


if __name__ == "__main__":
    main()
