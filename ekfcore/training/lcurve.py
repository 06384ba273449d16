"""The errors of each epoch in the layout of DeePMD-kit's ``lcurve.out``."""

from collections.abc import Sequence
from pathlib import Path

from ekfcore.files import replace_file

from .records import EpochRecord

__all__ = ["write_lcurve"]

_COLUMNS = ("rmse_val", "rmse_trn", "rmse_e_val", "rmse_e_trn", "rmse_f_val", "rmse_f_trn")


def write_lcurve(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write the table, replacing the old one only once the new one is complete.

    Energies are in eV/atom and forces in eV/Å, over all frames. The root of the loss, with which DeePMD-kit begins, is
    nan: a filter has none. The last column, there the learning rate, is the memory factor of a filter.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    lines = [f"# step {_pairs([f'{name:>11}' for name in _COLUMNS])}   lr      "]
    lines.append("# If there is no available reference data, rmse_*_{val,trn} will print nan")
    for record in records:
        errors = [record.energy_rmse_test, record.energy_rmse_train, record.force_rmse_test, record.force_rmse_train]
        cells = [float("nan"), float("nan"), *(error / 1000 for error in errors)]
        lines.append(f"{record.step:7d}{_pairs([f'{cell:11.2e}' for cell in cells])}   {record.lam:8.1e}")
    with replace_file(path) as handle:
        handle.write(("\n".join(lines) + "\n").encode())


def _pairs(cells: Sequence[str]) -> str:
    """Set validation and training close to each other."""
    return "".join(f"   {cells[k]} {cells[k + 1]}" for k in range(0, len(cells), 2))
