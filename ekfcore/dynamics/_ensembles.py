"""Integrators and velocities of ASE molecular dynamics, from settings."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT
from ase.md.verlet import VelocityVerlet

from .settings import ExploreSettings

__all__ = ["draw_velocities", "make_dynamics"]

_BAROSTAT_RATIO = 10  # times the thermostat's: a barostat must be slower than the thermostat


def draw_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Draw Maxwell-Boltzmann velocities; the centre of mass is at rest unless there are constraints."""
    masses = atoms.get_masses()[:, None]
    velocities = rng.standard_normal((len(atoms), 3)) * np.sqrt(units.kB * temperature / masses)
    if len(atoms) > 1 and not atoms.constraints:
        velocities -= np.sum(masses * velocities, axis=0) / np.sum(masses)
    atoms.set_velocities(velocities)


def make_dynamics(
    atoms: Atoms, temperature: float, settings: ExploreSettings, rng: np.random.Generator
) -> MolecularDynamics:
    """Return the integrator of an ensemble; `rng` makes the noise of Langevin dynamics."""
    step, damping = settings.time_step * units.fs, settings.damping * units.fs
    if settings.ensemble == "nve":
        return VelocityVerlet(atoms, step)
    if settings.ensemble == "npt":
        return IsotropicMTKNPT(
            atoms,
            step,
            temperature_K=temperature,
            pressure_au=settings.pressure * units.GPa,
            tdamp=damping,
            pdamp=_BAROSTAT_RATIO * damping,
        )
    if settings.thermostat == "nose-hoover":
        return NoseHooverChainNVT(atoms, step, temperature_K=temperature, tdamp=damping)
    # The centre of mass diffuses like any other degree of freedom; fixing it would change the ensemble.
    return Langevin(atoms, step, temperature_K=temperature, friction=1 / damping, fixcm=False, rng=rng)
