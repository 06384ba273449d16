"""Exploration: molecular dynamics with the current model, from several structures at several temperatures."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ekfcore.atoms import Frame, read_frames, validate_frame
from ekfcore.atoms.digest import digest_of
from ekfcore.errors import InputError
from ekfcore.files import sweep
from ekfcore.potentials.model_file import load_model
from ekfcore.record_file import file_digest, read_record

from ._simulate import Model, Run, simulate
from .settings import ExploreSettings

__all__ = ["Trajectory", "explore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """Trajectory and record of a run.

    Parameters
    ----------
    frames : list of Frame
        Frames at intervals of `every` steps, without labels; in a stopped run also the last valid frame.
    temperature : float
        Temperature of the run [K].
    structure : int
        Index of the start structure.
    outcome : {"finished", "stopped"}
        Whether the run came to its end.
    reason : str
        Reason for the stop.
    steps : int
        Number of valid steps.
    seconds : float
        Duration [s].
    """

    frames: list[Frame]
    temperature: float
    structure: int
    outcome: Literal["finished", "stopped"]
    reason: str
    steps: int
    seconds: float


def explore(
    model: Model,
    structures: Sequence[Frame],
    temperatures: Sequence[float],
    settings: ExploreSettings,
    *,
    seed: int,
    out: Path,
    executor: Executor | None = None,
    distribute: Callable[[Callable[[Run], None], list[Run]], object] | None = None,
    backend: str = "auto",
    device: str = "cpu",
) -> list[Trajectory]:
    """Run molecular dynamics from each structure at each temperature.

    Parameters
    ----------
    model : path or callable
        Model file, folder of a run, or function that makes an ASE calculator; with an executor, the function must be
        picklable, as ``functools.partial(EKFCalculator, path, device="cuda")``.
    structures : sequence of Frame
        Start structures; labels are not used.
    temperatures : sequence of float
        Temperatures of the runs [K].
    settings : ExploreSettings
        The molecular dynamics.
    seed : int
        Seed of the trajectories, which do not depend on the executor: each run uses one thread.
    out : Path
        Folder for the trajectories ``000.extxyz``, ``001.extxyz``, ..., each with its record in a JSON file of the same
        name. A run whose files are there already is not done again.
    executor : concurrent.futures.Executor, optional
        Executor for the runs; its workers must see `out`. Without it, the runs are done here, one after the other.
    distribute : callable, optional
        Called instead with a function and its arguments, one for each run; it returns when all calls are done.
    backend, device : str
        Where to compute with a model file, see `EKFCalculator`.

    Returns
    -------
    list of Trajectory
        One trajectory for each structure and temperature, the temperatures of the first structure first.

    Raises
    ------
    InputError
        If there is no structure or temperature, a structure does not fit the model, `out` holds runs of other settings
        or another model, or the executor loses its workers; finished runs are then kept.
    """
    place = {"backend": backend, "device": device}
    runs = _plan(model, structures, temperatures, settings, seed, Path(out), place)
    todo = [run for run in runs if not _is_done(run)]
    if distribute is not None:
        distribute(simulate, todo)
    elif executor is None:
        for run in todo:
            simulate(run)
    else:
        futures = [executor.submit(simulate, run) for run in todo]
        try:
            for future in futures:
                future.result()
        except BrokenExecutor:
            raise InputError(
                f"the workers that explore died; the finished runs are kept in {out}: see whether memory is short, and "
                "run again"
            ) from None
        finally:
            for future in futures:
                future.cancel()
    return [_read(run) for run in runs]


def _plan(
    model: Model,
    structures: Sequence[Frame],
    temperatures: Sequence[float],
    settings: ExploreSettings,
    seed: int,
    out: Path,
    place: Mapping[str, str],
) -> list[Run]:
    if not structures or not temperatures:
        raise InputError(
            f"exploring needs structures and temperatures to start from, got {len(structures)} and {len(temperatures)}"
        )
    if callable(model) and settings.max_uncertainty is not None:
        raise InputError(
            f"explore.max_uncertainty needs the covariance in a model file, got {settings.max_uncertainty:g} and a "
            "calculator; remove it"
        )
    for temperature in temperatures:
        if not 0 < temperature < np.inf:
            raise InputError(f"`temperatures` must be positive [K], got {temperature}")
    for frame in structures:
        validate_frame(frame, require=())
        if settings.ensemble == "npt" and not frame.pbc.all():
            raise InputError(
                f'{frame.source}: pressure needs a cell that repeats in all directions; use ensemble "nvt"'
            )
        chains = settings.ensemble == "npt" or settings.thermostat == "nose-hoover"
        if frame.constraints and chains:
            names = ", ".join(sorted({type(constraint).__name__ for constraint in frame.constraints}))
            raise InputError(
                f"{frame.source}: the chains of Nose and Hoover cannot hold atoms ({names}); use ensemble "
                '"nvt" with thermostat "langevin", or "nve", or remove the constraints'
            )
    out.mkdir(parents=True, exist_ok=True)
    sweep(out)
    weights = b"" if callable(model) else load_model(model, whole=False).weights.tobytes()
    digits = max(3, len(str(len(structures) * len(temperatures) - 1)))
    runs: list[Run] = []
    for structure, frame in enumerate(structures):
        for temperature in temperatures:
            number = len(runs)
            bare = replace(frame, energy=None, forces=None, virial=None)
            inputs = [settings.model_dump(exclude_none=True), float(temperature), seed, number]
            runs.append(
                Run(
                    model=model if callable(model) else Path(model).absolute(),
                    frame=frame,
                    structure=structure,
                    temperature=float(temperature),
                    settings=settings,
                    seed=(seed, number),
                    path=out.absolute() / f"{number:0{digits}d}.extxyz",
                    inputs=digest_of(inputs, weights, frames=[bare]),
                    **place,
                )
            )
    return runs


_CURE = "remove both the .extxyz and the .json of this run to do it again"


def _is_done(run: Run) -> bool:
    """Return whether the record of a run is on disk; raise an error if it is of other inputs."""
    record = run.path.with_suffix(".json")
    if not record.exists():
        return False
    if read_record(record, _CURE).get("inputs") != run.inputs:
        raise InputError(
            f"{record} is of a run with another model, structure, seed or settings; remove its folder, or explore in "
            "another one"
        )
    return True


def _read(run: Run) -> Trajectory:
    """Read a trajectory from disk, even if just written: a restart then sees the same rounded digits."""
    record = read_record(run.path.with_suffix(".json"), _CURE)
    # Records of earlier versions have no digest.
    if not run.path.exists() or record.get("trajectory", digest := file_digest(run.path)) != digest:
        raise InputError(f"{run.path} is not the trajectory that the run has left; {_CURE}")
    start = run.frame  # a trajectory file cannot hold all arrays, info and constraints of a frame
    frames = read_frames(run.path, require=()) if record["frames"] else []
    return Trajectory(
        frames=[
            replace(frame, arrays=start.arrays, info=start.info, constraints=start.constraints) for frame in frames
        ],
        temperature=run.temperature,
        structure=run.structure,
        outcome=record["outcome"],
        reason=record["reason"],
        steps=record["steps"],
        seconds=record["seconds"],
    )
