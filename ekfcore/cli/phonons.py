"""``ekfcore phonons``."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ekfcore.errors import InputError

from ._options import Commands, add_command, add_run_options, limited_threads

if TYPE_CHECKING:
    from ase.calculators.calculator import BaseCalculator

    from ekfcore.atoms import Frame
    from ekfcore.properties.phonons import Phonons

__all__ = ["add_parser", "run"]

_UNRELAXED = 0.01  # [eV/Å] force above which the structure counts as not relaxed

_EPILOG = """\
examples:
  ekfcore phonons run copper.cif
  ekfcore phonons run copper.cif --reference emt --supercell 4 4 4
  ekfcore phonons run GaAs.cif --reference tblite.ase:TBLite --parameters xtb.toml

STRUCTURE is a crystal in any format that ASE reads. It is taken as it is: relax it first.
NAME is a calculator of ASE or an import path; the keys of the TOML file FILE are its keywords.
"""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    summary = "calculate the phonons of a crystal, next to those of a reference"
    parser = add_command(commands, "phonons", summary=summary, epilog=_EPILOG)
    parser.add_argument("model", metavar="MODEL", help="folder of a run, or a model.npz")
    parser.add_argument("structure", metavar="STRUCTURE", help="file with one crystal")
    parser.add_argument("--reference", metavar="NAME", help="calculator to compare with")
    parser.add_argument("--parameters", metavar="FILE", type=Path, help="TOML file with its parameters")
    parser.add_argument(
        "--supercell", metavar="N", type=int, nargs=3, help="multiples of the cell (default: at least 10 Å wide)"
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("phonons"), help="folder (default: phonons)")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Calculate the phonons, write the files and print a table."""
    from ekfcore.labelling.calculators import make_calculator
    from ekfcore.plots.phonons import PICTURE, plot_phonons
    from ekfcore.potentials import EKFCalculator
    from ekfcore.properties.phonon_files import BAND_FILE, DOS_FILE, write_phonons
    from ekfcore.properties.phonons import find_phonons
    from ekfcore.settings.toml import read_toml

    if arguments.parameters and not arguments.reference:
        raise InputError(f"--parameters {arguments.parameters} belongs to a --reference; name one")
    backend = arguments.backend or "auto"
    model = EKFCalculator(arguments.model, backend=backend, device=arguments.device or "cpu")
    calculators: dict[str, BaseCalculator] = {"model": model}
    if arguments.reference:
        parameters = read_toml(arguments.parameters) if arguments.parameters else {}
        calculators[arguments.reference] = make_calculator(arguments.reference, parameters)
    crystal = _read_crystal(arguments.structure)
    with limited_threads(arguments.threads, backend=backend):
        found = find_phonons(crystal, calculators, supercell=arguments.supercell)
    write_phonons(found, arguments.out)
    plot_phonons(found, arguments.out / PICTURE)
    print(_table(found))
    print(f"{BAND_FILE}, {DOS_FILE} and {PICTURE} are in {arguments.out}.")
    return 0


def _read_crystal(path: str) -> "Frame":
    from ekfcore.atoms import read_frames

    frames = read_frames(path, require=())
    if len(frames) != 1:
        raise InputError(f"{path}: must hold one structure, got {len(frames)}; write the one that is meant to a file")
    return frames[0]


def _table(found: "Phonons") -> str:
    a, b, c = found.supercell
    first = next(iter(found.bands))
    lines = [
        f"supercell {a} x {b} x {c}, {found.displacements} displaced",
        f"{'':<24}{'lowest':>10}{'highest':>10}{'RMS from model':>16}{'largest force':>15}",
        f"{'':<24}{'THz':>10}{'THz':>10}{'THz':>16}{'eV/Å':>15}",
    ]
    for name, bands in found.bands.items():
        difference = "" if name == first else f"{np.sqrt(np.mean((bands - found.bands[first]) ** 2)):.3f}"
        lowest = round(float(bands.min()), 2) + 0.0  # + 0.0 turns -0.0 into 0.0
        lines.append(f"{name:<24}{lowest:>10.2f}{bands.max():>10.2f}{difference:>16}{found.forces[name]:>15.3f}")
    unrelaxed = [name for name, force in found.forces.items() if force > _UNRELAXED]
    if unrelaxed:
        lines.append(f"Not relaxed for {', '.join(unrelaxed)}: forces act on the structure before it is displaced.")
    return "\n".join(lines)
