"""What the comparisons of active learning differ in: the crystal, what labels it, and how hot it gets."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from ekfcore.active.settings import LearnSettings
from ekfcore.atoms import Frame
from ekfcore.labelling.label import LabelSettings, label
from ekfcore.labelling.ledger import Ledger

START, MAXIMUM, ROUNDS = 10, 4, 3  # labels before the first round; in a round, at most; rounds of a stage


@dataclass(frozen=True)
class System:
    """A crystal, what labels it, and how hot it gets.

    Parameters
    ----------
    element : str
        Its 32 atoms are 2 x 2 x 2 cells of the face-centred lattice.
    lattice : float
        Lattice constant [Å].
    temperatures : tuple of int
        One for each stage [K].
    validation : tuple of int
        Temperatures of the molecular dynamics with EMT whose frames are the test sets [K].
    frames, apart : int
        Frames in each test set, and steps of 2 fs between them.
    label : mapping
        ``[label]`` of CONFIG.
    steps : tuple of str
        Steps of a round whose processor seconds are told.
    thresholds : tuple of int
        Force errors at the last temperature that runs are to get below [meV/Å].
    """

    element: str
    lattice: float
    temperatures: tuple[int, ...]
    validation: tuple[int, ...]
    frames: int
    apart: int
    label: dict[str, Any]
    steps: tuple[str, ...]
    thresholds: tuple[int, ...]

    @property
    def crystal(self) -> Atoms:
        """The crystal at rest."""
        crystal: Atoms = bulk(self.element, cubic=True, a=self.lattice).repeat(2)
        return crystal


def espresso(
    *, cutoff: float = 15.0, mesh: int = 2, smearing: float = 0.15, threshold: float = 1e-5, bands: int = 80
) -> dict[str, Any]:
    """Return the parameters of Quantum ESPRESSO for aluminium; `aluminium_dft.py` tells what each of them costs.

    A coarse mesh wants a wide smearing, whose cold electrons hardly change the forces. The stress is left out: it needs
    a higher cutoff than forces do. Thomas-Fermi screening lets the electrons of a metal converge in fewer steps. The 58
    bands that pw.x takes by itself are too few for this smearing: in a crystal at rest they end amid equal energies,
    and its electrons do not converge.
    """
    electrons = {"conv_thr": threshold, "mixing_mode": "TF", "mixing_beta": 0.7}
    system: dict[str, Any] = {"ecutwfc": cutoff, "nbnd": bands, "nosym": True}
    system |= {"occupations": "smearing", "smearing": "mv", "degauss": smearing}
    return {
        "profile": {
            "object": "ase.calculators.espresso:EspressoProfile",
            "command": "pw.x",
            "pseudo_dir": "/usr/share/espresso/pseudo",
        },
        "pseudopotentials": {"Al": "Al.pz-vbc.UPF"},
        "kpts": [mesh] * 3,
        "koffset": [1, 1, 1],
        "input_data": {
            "control": {"tprnfor": True, "tstress": False, "disk_io": "none", "outdir": "."},
            "system": system,
            "electrons": electrons,
        },
    }


SYSTEMS = {
    "copper": System(
        element="Cu",
        lattice=3.61,
        temperatures=(500, 800, 1200, 1400),
        validation=(1200, 1400),
        frames=100,
        apart=50,
        label={"calculator": "emt"},
        steps=("train", "explore", "judge"),
        thresholds=(100, 50, 40, 30, 25, 20),
    ),
    "aluminium": System(
        element="Al",
        lattice=3.957,
        temperatures=(300, 500, 800, 1000),
        validation=(1000,),
        frames=40,
        apart=200,
        label={"calculator": "espresso", "parameters": espresso(), "executor": {"workers": 1}},
        steps=("train", "explore", "judge", "label"),
        thresholds=(100, 70, 50, 40, 30, 25),
    ),
}


def write_test_set(system: System, temperature: int, out: Path) -> None:
    """Write a test set unless it is there: dynamics with EMT, then the labels."""
    path = out / f"md-{temperature}.xyz"
    if not path.exists():
        frames = label_into(out / f"md-{temperature}.db", _dynamics(system, temperature), system)
        write(path, [frame.to_ase() for frame in frames])


def _dynamics(system: System, temperature: int) -> list[Frame]:
    """Return frames that are far apart in time; no method under test has a part in them."""
    atoms, rng = system.crystal, np.random.default_rng(temperature)
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature, rng=rng)
    dynamics = Langevin(atoms, 2 * units.fs, temperature_K=temperature, friction=0.01 / units.fs, rng=rng)
    dynamics.run(500)
    frames = []
    for k in range(system.frames):
        dynamics.run(system.apart)
        bare = Atoms(atoms.symbols, atoms.positions, cell=atoms.cell, pbc=True)
        frames.append(Frame.from_ase(bare, f"frame {k} of EMT at {temperature} K"))
    return frames


def label_into(path: Path, frames: Sequence[Frame], system: System) -> list[Frame]:
    """Return the labelled frames; labels that the database has are not computed again."""
    found = label(frames, LabelSettings.model_validate(system.label), Ledger(path), log_dir=path.with_suffix(""))
    print(
        f"{path.name}: {len(found.labelled)} labels, {found.seconds:.0f} s, {len(found.quarantined)} failed", flush=True
    )
    return found.labelled


def settings_of(system: System, select: dict[str, Any], seed: int, out: Path) -> LearnSettings:
    """Return CONFIG of a run whose structure and test sets are in a folder."""
    validation = {f"{t} K": [str(out.resolve() / f"md-{t}.xyz")] for t in system.validation}
    table = {
        "data": {"structures": [str(out.resolve() / "crystal.xyz")], "rattled": START, "validation": validation},
        "stages": [{"temperatures": [float(t)], "rounds": ROUNDS} for t in system.temperatures],
        "explore": {"time_step": 2.0, "steps": 2000, "every": 10},
        "select": {"maximum": MAXIMUM, **select},
        "label": system.label,
        "model": {"cutoff": 5.0, "embedding": [8, 16], "axis": 8, "fitting": [32, 32], "fitting_gain": 1.0},
        "training": {"epochs": 20, "seed": seed},
        "run": {"threads": 1},
    }
    return LearnSettings.model_validate(table)
