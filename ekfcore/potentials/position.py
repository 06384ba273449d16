"""Position of a training, and the records of its epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["EpochRecord", "Position", "known_fields"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """Errors and diagnostics after an epoch.

    Parameters
    ----------
    epoch, step : int
        Epochs and batches done.
    wall_s : float
        Time spent in updates, without evaluations [s].
    lam : float
        Memory factor; the learning rate for Adam.
    energy_rmse_train, energy_rmse_test : float
        Error over the frames that have an energy; nan if there are none [meV/atom].
    force_rmse_train, force_rmse_test : float
        Error over the frames that have forces; nan if there are none [meV/Å].
    virial_rmse_train, virial_rmse_test : float, optional
        Error over the frames that have a virial, if there are any [meV/atom].
    energy_noise, force_noise : float, optional
        Standard deviation that the filter gives a measured energy [meV/atom] and the mean of a group of forces [meV/Å].
    energy_kpu_scale, force_kpu_scale : float, optional
        Factors that scale the variances of P to the errors on training frames, see `kpu_scale`.
    """

    epoch: int
    step: int
    wall_s: float
    lam: float
    energy_rmse_train: float
    energy_rmse_test: float
    force_rmse_train: float
    force_rmse_test: float
    virial_rmse_train: float | None = None
    virial_rmse_test: float | None = None
    energy_noise: float | None = None
    force_noise: float | None = None
    energy_kpu_scale: float | None = None
    force_kpu_scale: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Position of a training; with the seed it determines every later random choice.

    Parameters
    ----------
    epoch, batch : int
        Epochs done, and batches done in the current epoch.
    update : int
        Updates done in the current batch before one of them broke down.
    step : int
        Batches done in all.
    wall_s : float
        Time spent in updates [s].
    records : tuple of EpochRecord
        Errors after each epoch.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    step: int = 0
    wall_s: float = 0.0
    records: tuple[EpochRecord, ...] = field(default=())


def known_fields(kind: type[EpochRecord | Position], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows; a file of a later version may have more."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}
