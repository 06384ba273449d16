"""Explore: molecular dynamics with the current model, from several structures at several temperatures at once."""

from collections.abc import Mapping, Sequence
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
    """What a run left.

    Parameters
    ----------
    frames : list of Frame
        Every so many steps one, without labels; of a run that was stopped also the last sound one.
    temperature : float
        Of the run [K].
    structure : int
        Which of the structures it started from.
    outcome : {"finished", "stopped"}
        Whether the run came to its end.
    reason : str
        Why it was stopped.
    steps : int
        Sound steps.
    seconds : float
        How long it took [s].
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
    backend: str = "auto",
    device: str = "cpu",
) -> list[Trajectory]:
    """Run molecular dynamics from each structure at each temperature.

    Parameters
    ----------
    model : path or callable
        A model file, the folder of a run, or what makes a calculator of ASE; with an executor it must be possible to
        send it to another process, as ``functools.partial(EKFCalculator, path, device="cuda")``.
    structures : sequence of Frame
        Where the runs start; labels are not used.
    temperatures : sequence of float
        Of the runs [K].
    settings : ExploreSettings
        The molecular dynamics.
    seed : int
        The same seed gives the same trajectories, with an executor or without: each run has one thread for itself.
    out : Path
        Folder for the trajectories ``000.extxyz``, ``001.extxyz``, ..., each with a JSON file beside it that tells what
        became of the run. A run that stands there already is not done again.
    executor : concurrent.futures.Executor, optional
        Does the runs, all at once; its workers must see `out`. Without it they are done here, one after the other.
    backend, device : str
        Where a model file computes, see `EKFCalculator`.

    Returns
    -------
    list of Trajectory
        One for each structure and temperature, the temperatures of the first structure first.

    Raises
    ------
    InputError
        If there is nothing to start from, a structure does not fit the model, `out` holds runs of other settings or
        another model, or the executor loses its workers; what was finished is then kept.
    """
    place = {"backend": backend, "device": device}
    runs = _plan(model, structures, temperatures, settings, seed, Path(out), place)
    todo = [run for run in runs if not _is_done(run)]
    if executor is None:
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
            decisive = [settings.model_dump(), float(temperature), seed, number]
            runs.append(
                Run(
                    model=model,
                    frame=frame,
                    structure=structure,
                    temperature=float(temperature),
                    settings=settings,
                    seed=(seed, number),
                    path=out.absolute() / f"{number:0{digits}d}.extxyz",
                    inputs=digest_of(decisive, weights, frames=[bare]),
                    **place,
                )
            )
    return runs


_CURE = "remove both the .extxyz and the .json of this run to do it again"


def _is_done(run: Run) -> bool:
    """Return whether a run stands on the disk."""
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
    """Read what a run left; also what was just written, so that a restart finds the same digits."""
    record = read_record(run.path.with_suffix(".json"), _CURE)
    # Older records do not tell it.
    if not run.path.exists() or record.get("trajectory", digest := file_digest(run.path)) != digest:
        raise InputError(f"{run.path} is not the trajectory that the run has left; {_CURE}")
    start = run.frame  # its file can hold all that the frames were given, a trajectory cannot
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
