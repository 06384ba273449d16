"""How far predictions are from their labels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from .frame import Frame, check_labelled

__all__ = ["Errors", "errors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Root mean square and mean absolute errors over a set of frames.

    Parameters
    ----------
    frames, atoms : int
        How many were compared.
    with_energy, with_forces : int
        Frames that have such a label; errors without any are nan.
    energy_rmse, energy_mae : float
        Of the energy per atom, one value a frame [meV/atom].
    force_rmse, force_mae : float
        Over all Cartesian components of all atoms of all frames [meV/Å].
    virial_rmse, virial_mae : float, optional
        Of the virial per atom, over the nine components of the frames that have one [meV/atom].
    """

    frames: int
    atoms: int
    with_energy: int
    with_forces: int
    energy_rmse: float
    energy_mae: float
    force_rmse: float
    force_mae: float
    virial_rmse: float | None = None
    virial_mae: float | None = None

    def as_json(self) -> dict[str, int | float]:
        """Return the numbers under names that carry their units.

        Returns
        -------
        dict
            Plain numbers; without what has no labels, and with the number of frames that have one where some lack it.
        """
        report: dict[str, int | float] = {"frames": self.frames, "atoms": self.atoms}
        if min(self.with_energy, self.with_forces) < self.frames:
            report |= {"frames_with_energy": self.with_energy, "frames_with_forces": self.with_forces}
        if self.with_energy:
            report["energy_rmse_meV_per_atom"] = self.energy_rmse
            report["energy_mae_meV_per_atom"] = self.energy_mae
        if self.with_forces:
            report["force_rmse_meV_per_A"] = self.force_rmse
            report["force_mae_meV_per_A"] = self.force_mae
        if self.virial_rmse is not None and self.virial_mae is not None:
            report["virial_rmse_meV_per_atom"] = self.virial_rmse
            report["virial_mae_meV_per_atom"] = self.virial_mae
        return report


def errors(predictions: Iterable[Mapping[str, Any]], frames: Sequence[Frame]) -> Errors:
    """Compare predictions with the labels of their frames.

    Parameters
    ----------
    predictions : iterable of mappings
        One a frame, in the same order: ``energy`` [eV], ``forces``, shape (N, 3) [eV/Å], and, if known, ``virial``,
        shape (3, 3) [eV].
    frames : sequence of Frame
        Labelled; each is compared where it has a label.

    Returns
    -------
    Errors
        A prediction that is not finite gives errors that are not finite.

    Raises
    ------
    InputError
        If there are no frames, or a frame has no label.
    """
    energy, force, virial = [], [], []
    for prediction, frame in zip(predictions, frames, strict=True):
        check_labelled(frame)
        if frame.energy is not None:
            energy.append((np.asarray(prediction["energy"]) - frame.energy) / frame.n_atoms)
        if frame.forces is not None:
            force.append(np.asarray(prediction["forces"]) - frame.forces)
        if frame.virial is not None and "virial" in prediction:
            virial.append((np.asarray(prediction["virial"]) - frame.virial) / frame.n_atoms)
    if not frames:
        raise InputError("no frames to compare predictions with; give at least one")
    energy_rmse, energy_mae = _rmse_mae(energy)
    force_rmse, force_mae = _rmse_mae(force)
    virial_rmse, virial_mae = _rmse_mae(virial) if virial else (None, None)
    return Errors(
        frames=len(frames),
        atoms=sum(frame.n_atoms for frame in frames),
        with_energy=len(energy),
        with_forces=len(force),
        energy_rmse=energy_rmse,
        energy_mae=energy_mae,
        force_rmse=force_rmse,
        force_mae=force_mae,
        virial_rmse=virial_rmse,
        virial_mae=virial_mae,
    )


def _rmse_mae(differences: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Both errors over all components, in thousandths of the unit; nan if there are none."""
    if not differences:
        return math.nan, math.nan
    values = 1e3 * np.concatenate([difference.ravel() for difference in differences])
    return float(np.sqrt(np.mean(values**2))), float(np.mean(np.abs(values)))
