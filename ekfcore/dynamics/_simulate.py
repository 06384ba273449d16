"""One run of molecular dynamics with checks at each step, in any process that an executor chooses."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from ase.io import write
from threadpoolctl import threadpool_limits

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.errors import InputError
from ekfcore.files import write_text
from ekfcore.potentials.calculator import EKFCalculator
from ekfcore.potentials.kpu import KalmanUncertainty
from ekfcore.record_file import file_digest, write_record
from ekfcore.threads import limited_threads

from ._ensembles import draw_velocities, make_dynamics
from .settings import ExploreSettings

__all__ = ["Model", "Run", "simulate"]

Model: TypeAlias = str | Path | Callable[[], BaseCalculator]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of molecular dynamics, as sent to a worker.

    Parameters
    ----------
    model : path or callable
        Model file or maker of a calculator, see `explore`.
    frame : Frame
        Start structure.
    structure : int
        Index of the start structure.
    temperature : float
        Temperature [K].
    settings : ExploreSettings
        The molecular dynamics.
    seed : tuple of int
        Seed of the velocities and the noise.
    path : Path
        Trajectory to write, with a JSON file of the same name.
    inputs : str
        Digest of everything that determines the trajectory.
    backend, device : str
        Where to compute with a model file.
    """

    model: Model
    frame: Frame
    structure: int
    temperature: float
    settings: ExploreSettings
    seed: tuple[int, int]
    path: Path
    inputs: str
    backend: str
    device: str


def simulate(run: Run) -> None:
    """Do a run; write the trajectory and then its record."""
    start = time.perf_counter()
    # Always one thread: another number changes the order of sums, and with it the trajectory.
    with limited_threads(1), threadpool_limits(1), np.errstate(all="ignore"):
        model = run.model
        calculator = model() if callable(model) else EKFCalculator(model, backend=run.backend, device=run.device)
        kept, reason, steps = _follow(run, calculator, _watch(run))
    text = io.StringIO()
    write(text, kept, format="extxyz")
    write_text(run.path, text.getvalue())
    record = {
        "outcome": "stopped" if reason else "finished",
        "reason": reason,
        "steps": steps,
        "seconds": time.perf_counter() - start,
        "frames": len(kept),
        "temperature": run.temperature,
        "structure": run.structure,
        "source": run.frame.source,
        "seed": run.seed,
        "inputs": run.inputs,
        "trajectory": file_digest(run.path),
    }
    write_record(run.path.with_suffix(".json"), record)


def _watch(run: Run) -> Callable[[Atoms], None]:
    """Return what raises an error for a frame of which the model is too uncertain."""
    limit = run.settings.max_uncertainty
    if limit is None or callable(run.model):
        return lambda atoms: None
    uncertainty = KalmanUncertainty.load(run.model, backend=run.backend, device=run.device, fraction=1.0)

    def check(atoms: Atoms) -> None:
        found = math.sqrt(uncertainty(Frame.from_ase(_bare(atoms), run.frame.source)).force_max)
        if found > limit:
            raise InputError(f"an error bar of {found:.3g} eV/Å is above explore.max_uncertainty = {limit:g}")

    return check


def _follow(run: Run, calculator: BaseCalculator, watch: Callable[[Atoms], None]) -> tuple[list[Atoms], str, int]:
    """Return the frames to keep, the reason for an early stop (or an empty text), and the number of valid steps."""
    settings, rng = run.settings, np.random.default_rng(run.seed)
    atoms = _bare(run.frame.to_ase())
    atoms.calc = calculator
    draw_velocities(atoms, run.temperature, rng)
    atoms.get_forces()  # outside the try: a structure that does not fit the model is an input error
    dynamics = make_dynamics(atoms, run.temperature, settings, rng)
    kept: list[Atoms] = []
    last, valid = None, 0
    try:
        for step, _ in enumerate(dynamics.irun(settings.steps)):
            _check(atoms, run)
            last, valid = _snapshot(atoms, step, settings), step
            if step and step % settings.every == 0:
                kept.append(last)
                watch(last)  # after it was kept: a label of this frame is what the model lacks
    except (InputError, np.linalg.LinAlgError) as error:
        if last is not None and valid % settings.every:
            kept.append(last)
        return kept, str(error), valid
    return kept, "", valid


def _check(atoms: Atoms, run: Run) -> None:
    """Raise an error that names the limit that the atoms exceed, if they do."""
    limits, forces = run.settings, atoms.get_forces()
    if not (np.isfinite(forces).all() and np.isfinite(atoms.get_potential_energy())):
        raise InputError("energy and forces are no longer finite")
    largest = np.linalg.norm(forces, axis=1).max()
    if largest > limits.max_force:
        raise InputError(f"a force of {largest:.3g} eV/Å is above explore.max_force = {limits.max_force:g}")
    temperature, limit = atoms.get_temperature(), limits.max_temperature_factor * run.temperature
    if not temperature <= limit:
        raise InputError(
            f"{temperature:.0f} K are above explore.max_temperature_factor = {limits.max_temperature_factor:g} times "
            f"{run.temperature:g} K"
        )
    _, _, vectors = neighbour_pairs(Frame.from_ase(_bare(atoms), run.frame.source), limits.min_distance)
    if len(vectors):
        distance = np.linalg.norm(vectors, axis=1).min()
        raise InputError(f"two atoms at {distance:.3g} Å are closer than explore.min_distance")


def _snapshot(atoms: Atoms, step: int, settings: ExploreSettings) -> Atoms:
    snapshot = _bare(atoms)
    snapshot.info |= {"step": step, "time": step * settings.time_step, "temperature": round(atoms.get_temperature(), 2)}
    return snapshot


def _bare(atoms: Atoms) -> Atoms:
    """Return a copy without velocities, and without predictions that could be taken for labels."""
    bare: Atoms = atoms.copy()
    bare.set_array("momenta", None)
    return bare
