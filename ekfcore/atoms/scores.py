"""Errors of predictions with respect to labels."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from .frame import Frame, check_labelled
from .quantities import QUANTITIES

__all__ = ["Errors", "errors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Root mean square and mean absolute errors over a set of frames.

    Parameters
    ----------
    frames, atoms : int
        Number of frames and atoms compared.
    with_energy, with_forces : int
        Number of frames with such a label; errors without labels are nan.
    energy_rmse, energy_mae : float
        Errors of the energy per atom, one value a frame [meV/atom].
    force_rmse, force_mae : float
        Errors over all Cartesian components of all atoms of all frames [meV/Å].
    virial_rmse, virial_mae : float, optional
        Errors of the virial per atom, over the nine components in frames that have a virial [meV/atom].
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
        """Return the errors under names with units.

        Returns
        -------
        dict
            Plain numbers, without quantities that lack labels; with numbers of labelled frames if some lack labels.
        """
        missing = {name for name, n in (("energy", self.with_energy), ("force", self.with_forces)) if not n}
        report: dict[str, int | float] = {"frames": self.frames, "atoms": self.atoms}
        if min(self.with_energy, self.with_forces) < self.frames:
            report |= {"frames_with_energy": self.with_energy, "frames_with_forces": self.with_forces}
        for quantity in QUANTITIES:
            for kind in ("rmse", "mae"):
                value = getattr(self, f"{quantity.name}_{kind}")
                if value is not None and quantity.name not in missing:
                    report[f"{quantity.name}_{kind}_{quantity.json_unit}"] = value
        return report


def errors(predictions: Iterable[Mapping[str, Any]], frames: Sequence[Frame]) -> Errors:
    """Compare predictions with the labels of their frames.

    Parameters
    ----------
    predictions : iterable of mappings
        One a frame, in the same order: ``energy`` [eV], ``forces``, shape (N, 3) [eV/Å], and, if known, ``virial``,
        shape (3, 3) [eV].
    frames : sequence of Frame
        Labelled frames; each is compared in the quantities that it has labels of.

    Returns
    -------
    Errors
        Errors, not finite if a prediction is not.

    Raises
    ------
    InputError
        If there are no frames, or a frame has no label.
    """
    differences: dict[str, list[NDArray[np.float64]]] = {quantity.name: [] for quantity in QUANTITIES}
    for prediction, frame in zip(predictions, frames, strict=True):
        check_labelled(frame)
        for quantity in QUANTITIES:
            label = getattr(frame, quantity.label)
            if label is not None and (quantity.expected or quantity.label in prediction):
                away = np.asarray(prediction[quantity.label]) - label
                differences[quantity.name].append(away / frame.n_atoms if quantity.per_atom else away)
    if not frames:
        raise InputError("no frames to compare predictions with; give at least one")
    found: dict[str, Any] = {}
    for quantity in QUANTITIES:
        values = differences[quantity.name]
        both = _rmse_mae(values) if values or quantity.expected else (None, None)
        found |= dict(zip((f"{quantity.name}_rmse", f"{quantity.name}_mae"), both, strict=True))
    return Errors(
        frames=len(frames),
        atoms=sum(frame.n_atoms for frame in frames),
        with_energy=len(differences["energy"]),
        with_forces=len(differences["force"]),
        **found,
    )


def _rmse_mae(differences: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Return both errors over all components, in thousandths of the unit; nan if there are no components."""
    if not differences:
        return math.nan, math.nan
    values = 1e3 * np.concatenate([difference.ravel() for difference in differences])
    return float(np.sqrt(np.mean(values**2))), float(np.mean(np.abs(values)))
