"""Tables that ``ekfcore kpu`` writes beside its picture: its own, and one in the layout of DP-GEN."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ekfcore.files import write_csv, write_text

from .kpu import FrameUncertainty

__all__ = ["DEVIATIONS", "TABLE", "Row", "write_deviations", "write_table"]

TABLE, DEVIATIONS = "kpu.csv", "model_devi.out"
"""Names of the files."""

_Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Row:
    """One frame: its uncertainty, and its errors where it has labels.

    Parameters
    ----------
    n_atoms : int
        Atoms of the frame.
    found : FrameUncertainty
        Uncertainty.
    energy_error : float, optional
        Predicted minus labelled energy per atom [eV].
    force_rmse : float, optional
        Over all components of all atoms [eV/Å].
    force_errors : array, shape (k, 3), optional
        Errors of the atoms whose uncertainty is known [eV/Å].
    """

    n_atoms: int
    found: FrameUncertainty
    energy_error: float | None = None
    force_rmse: float | None = None
    force_errors: _Vector | None = None


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write one line a frame: kpu_energy [(eV/atom)^2], kpu_force_mean and kpu_force_max [(eV/Å)^2], errors."""
    columns = ["frame", "natoms", "kpu_energy", "kpu_force_mean", "kpu_force_max", "energy_error", "force_rmse"]
    lines = []
    for number, row in enumerate(rows):
        values = row.found.energy, row.found.force_mean, row.found.force_max, row.energy_error, row.force_rmse
        lines.append([number, row.n_atoms, *("" if value is None else f"{value:.9g}" for value in values)])
    write_csv(path, columns, lines)


def write_deviations(rows: Sequence[Row], path: Path) -> None:
    """Write the columns of DP-GEN.

    The deviation of the force on an atom is the root of its variance, where DP-GEN has that of a committee. Deviations
    of the virial are not calculated: zeros.
    """
    names = [f"{kind}_devi_{quantity}" for quantity in "vf" for kind in ("max", "min", "avg")]
    lines = [f"#{'step':>11}" + "".join(f"{name:>19}" for name in names)]
    for number, row in enumerate(rows):
        sigma = np.sqrt(row.found.forces)
        values = [0.0, 0.0, 0.0, np.max(sigma), np.min(sigma), np.mean(sigma)]
        lines.append(f"{number:>12}" + "".join(f"{value:>19.6e}" for value in values))
    write_text(path, "\n".join(lines) + "\n")
