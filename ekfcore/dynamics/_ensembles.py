"""Molecular dynamics of ASE, set up from settings."""

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

_SLOWER = 10  # a barostat must be slower than the thermostat beside it


def draw_velocities(atoms: Atoms, temperature: float, rng: np.random.Generator) -> None:
    """Give atoms the velocities of Maxwell and Boltzmann; the centre of mass rests, unless atoms are held."""
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
            pdamp=_SLOWER * damping,
        )
    if settings.thermostat == "nose-hoover":
        return NoseHooverChainNVT(atoms, step, temperature_K=temperature, tdamp=damping)
    # The centre of mass diffuses like any other degree of freedom; holding it would falsify the ensemble.
    return Langevin(atoms, step, temperature_K=temperature, friction=1 / damping, fixcm=False, rng=rng)
