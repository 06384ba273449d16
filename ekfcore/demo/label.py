"""Make the demo data set: 32 atoms of silicon, labelled with Kohn-Sham DFT.

The packaged files `silicon_train.xyz.xz` and `silicon_test.xyz.xz` were written by ::

    python -m ekfcore.demo.label --out DIR [--frames N] [--seed S]

which needs the Debian packages ``quantum-espresso`` and ``quantum-espresso-data`` (6.7) and ``ekfcore[atoms]``.

Cell
    body-centred supercell of diamond silicon, 32 atoms, a = 5.47 Å, vectors a(-1, 1, 1), a(1, -1, 1), a(1, 1, -1): the
    nearest images are 9.5 Å apart.
Frames
    300 K and 900 K, each with and without a random strain of up to 2 % in every component. Each frame is the end of its
    own 0.6 ps Langevin run under Keating's classical potential: no two frames are correlated, and frame i does not
    depend on how many are made.
Electrons
    functional PBE, norm-conserving pseudopotential Si.pbe-rrkj.UPF, plane-wave cutoff 18 Ry (density 72 Ry),
    Monkhorst-Pack mesh 2 x 2 x 2 shifted off Gamma (4 points after time reversal), fixed occupations (there is a gap,
    hence no smearing), SCF threshold 1e-6 Ry.

Labelled frames are kept in DIR/frames and not computed again. A frame takes about 20 s on one core;
pw.x takes its number of threads from OMP_NUM_THREADS.
"""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.calculator import all_changes
from ase.calculators.espresso import Espresso, EspressoProfile
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from ekfcore.errors import EKFError, InputError

__all__ = ["label", "main", "sample"]

_Array = NDArray[np.float64]

_LATTICE_CONSTANT = 5.47  # [Å], PBE
_PSEUDOPOTENTIAL = "Si.pbe-rrkj.UPF"
_PSEUDO_DIR = Path("/usr/share/espresso/pseudo")  # folder of the Debian package quantum-espresso-data
_CUTOFF = 18.0  # [Ry]
_PULAY = -0.0023  # [eV/Å^3] Pulay stress of the finite cutoff
_MESH, _SHIFT = (2, 2, 2), (1, 1, 1)
_THRESHOLD = 1e-6  # [Ry]
_TEST_EVERY = 5  # every fifth frame is for testing; coprime to the four frame types, so that all are tested
# name, temperature [K], largest strain
_TYPES = (("300K", 300.0, 0.0), ("300K_strained", 300.0, 0.02), ("900K", 900.0, 0.0), ("900K_strained", 900.0, 0.02))


def _keating(
    positions: _Array, second: NDArray[np.intp], shift: _Array, alpha: float = 3.03, beta: float = 0.861
) -> tuple[float, _Array]:
    """Return energy [eV] and forces [eV/Å] of Keating's valence force field (Phys. Rev. 145, 637 (1966)).

    E = (3 / 16 d^2) [alpha sum_bonds (r.r - d^2)^2 + 2 beta sum_angles (r.r' + d^2 / 3)^2], d the bond length. Atom i
    has bonds to the images second[i] (4,), displaced by shift[i] (4, 3) [Å]; alpha and beta are in eV/Å^2.
    """
    bonds = positions[second] + shift - positions[:, None]  # (atoms, 4, 3)
    d2 = 3 / 16 * _LATTICE_CONSTANT**2
    excess = bonds @ bonds.transpose(0, 2, 1) - d2 * (4 * np.eye(4) - 1) / 3  # (atoms, 4, 4)
    # Each bond is seen from both its ends, and each angle stands twice in the matrix.
    weight = 3 / (16 * d2) * (np.eye(4) * alpha / 2 + (1 - np.eye(4)) * beta)
    pull = 4 * (weight * excess) @ bonds  # dE/dbond
    forces: _Array = pull.sum(axis=1)
    np.subtract.at(forces, second, pull)
    return float((weight * excess**2).sum()), forces


def _langevin(crystal: Atoms, temperature: float, rng: np.random.Generator) -> _Array:
    """Return the positions [Å] after 0.6 ps of Langevin dynamics (BAOAB) that starts at the lattice sites."""
    step, friction = 2 * units.fs, 0.02 / units.fs
    second, shift = neighbor_list("jS", crystal, 0.52 * _LATTICE_CONSTANT)
    bonds = second.reshape(-1, 4), shift.reshape(-1, 4, 3) @ crystal.cell[:]
    mass = crystal.get_masses()[:, None]
    x: _Array = crystal.positions.copy()
    spread = np.sqrt(units.kB * temperature / mass)  # of the velocities
    keep = np.exp(-friction * step)
    v = np.sqrt(2) * spread * rng.standard_normal(x.shape)  # half of this energy becomes potential energy
    forces = _keating(x, *bonds)[1]
    for _ in range(300):
        v += step / 2 * forces / mass
        x += step / 2 * v
        v = keep * v + np.sqrt(1 - keep**2) * spread * rng.standard_normal(x.shape)
        x += step / 2 * v
        forces = _keating(x, *bonds)[1]
        v += step / 2 * forces / mass
    return x


def sample(index: int, *, seed: int = 0) -> Atoms:
    """Draw frame `index`; it depends on nothing but `index` and `seed`."""
    name, temperature, largest = _TYPES[index % len(_TYPES)]
    rng = np.random.default_rng([seed, index])
    primitive = bulk("Si", "diamond", a=_LATTICE_CONSTANT)
    vectors = _LATTICE_CONSTANT * (1.0 - 2.0 * np.eye(3))
    atoms = make_supercell(primitive, np.rint(vectors @ np.linalg.inv(primitive.cell[:])).astype(int))
    strain = rng.uniform(-largest, largest, (3, 3))
    atoms.set_cell(atoms.cell[:] @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
    frame = Atoms(atoms.symbols, _langevin(atoms, temperature, rng).round(8), cell=atoms.cell, pbc=True)
    frame.info["config_type"] = name
    return frame


def label(atoms: Atoms, directory: Path) -> Atoms:
    """Return a copy of `atoms` with DFT energy [eV], forces [eV/Å] and stress [eV/Å^3]; pw.x works in `directory`."""
    settings = {
        "control": {"tprnfor": True, "tstress": True, "disk_io": "none", "outdir": "."},
        "system": {"ecutwfc": _CUTOFF, "nosym": True},
        # Thomas-Fermi screening saves two of eleven SCF steps here.
        "electrons": {"conv_thr": _THRESHOLD, "mixing_mode": "TF", "mixing_beta": 0.7},
    }
    calculator = Espresso(
        profile=EspressoProfile("pw.x", _PSEUDO_DIR),
        directory=directory,
        pseudopotentials={"Si": _PSEUDOPOTENTIAL},
        input_data=settings,
        kpts=_MESH,
        koffset=_SHIFT,
    )
    result: Atoms = atoms.copy()
    try:
        calculator.calculate(result, ["energy"], all_changes)
    except subprocess.CalledProcessError as error:
        raise EKFError(f"pw.x stopped with code {error.returncode}: see {directory / 'espresso.pwo'}") from error
    labels = {key: calculator.results[key] for key in ("energy", "forces", "stress")}
    labels["stress"][:3] += _PULAY
    result.calc = SinglePointCalculator(result, **labels)
    return result


def _labelled(index: int, out: Path, seed: int) -> Atoms:
    path = out / "frames" / f"{index:04d}.xyz"
    drawn = sample(index, seed=seed)
    if path.exists():
        stored = read(path)
        if not isinstance(stored, Atoms) or not np.allclose(stored.positions, drawn.positions, rtol=0, atol=1e-6):
            raise InputError(f"{path}: not the frame that seed {seed} gives; use its seed, or another --out")
        return stored
    result = label(drawn, out / "scf")
    unfinished = path.with_suffix(".part")
    write(unfinished, result, format="extxyz")
    unfinished.rename(path)  # so that a file of this name is always whole
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m ekfcore.demo.label", description="Make the demo data set.")
    parser.add_argument("--out", type=Path, required=True, help="directory for the data and the work files")
    parser.add_argument("--frames", type=int, default=120, help="number of frames, a fifth of them for testing (120)")
    parser.add_argument("--seed", type=int, default=0, help="of the configurations (0)")
    options = parser.parse_args(arguments)
    try:
        if options.frames < _TEST_EVERY:
            raise InputError(f"--frames {options.frames}: at least {_TEST_EVERY} are needed, one of them for testing")
        if shutil.which("pw.x") is None:
            raise InputError("pw.x was not found: apt-get install quantum-espresso")
        if not (_PSEUDO_DIR / _PSEUDOPOTENTIAL).exists():
            raise InputError(f"{_PSEUDO_DIR / _PSEUDOPOTENTIAL} was not found: apt-get install quantum-espresso-data")
        (options.out / "frames").mkdir(parents=True, exist_ok=True)
        frames = []
        for index in range(options.frames):
            frames.append(_labelled(index, options.out, options.seed))
            print(f"frame {index + 1}/{options.frames}: {frames[-1].get_potential_energy():.6f} eV", flush=True)
    except (EKFError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    test = frames[_TEST_EVERY - 1 :: _TEST_EVERY]
    train = [frame for index, frame in enumerate(frames) if index % _TEST_EVERY != _TEST_EVERY - 1]
    write(options.out / "silicon_train.xyz.xz", train, format="extxyz")
    write(options.out / "silicon_test.xyz.xz", test, format="extxyz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
