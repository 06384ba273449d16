"""The errors of each epoch in the layout of DeePMD-kit's ``lcurve.out``."""

from collections.abc import Sequence
from pathlib import Path

from ekfcore.atoms.quantities import QUANTITIES
from ekfcore.files import write_text
from ekfcore.potentials.position import EpochRecord

__all__ = ["write_lcurve"]


def write_lcurve(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write the table, replacing the old one only once the new one is complete.

    Energies and virials are in eV/atom and forces in eV/Å, over all frames; the virial has columns if any frame has
    one. The first two columns, the root of the loss in DeePMD-kit, are nan, as a filter has no loss. The last column,
    the learning rate in DeePMD-kit, is the memory factor of a filter.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    quantities = [q.name for q in QUANTITIES if any(_errors(record, q.name) != (None, None) for record in records)]
    names = [f"rmse{part}_{end}" for part in ("", *(f"_{name[0]}" for name in quantities)) for end in ("val", "trn")]
    lines = [f"# step {_pairs([f'{name:>11}' for name in names])}   lr      "]
    lines.append("# If there is no available reference data, rmse_*_{val,trn} will print nan")
    for record in records:
        errors = [error for name in quantities for error in _errors(record, name)]
        cells = [float("nan")] * 2 + [float("nan") if error is None else error / 1000 for error in errors]
        lines.append(f"{record.step:7d}{_pairs([f'{cell:11.2e}' for cell in cells])}   {record.lam:8.1e}")
    write_text(path, "\n".join(lines) + "\n")


def _errors(record: EpochRecord, quantity: str) -> tuple[float | None, float | None]:
    """Return the errors on test and training frames, in thousandths of the units."""
    return getattr(record, f"{quantity}_rmse_test"), getattr(record, f"{quantity}_rmse_train")


def _pairs(cells: Sequence[str]) -> str:
    """Join the cells in pairs of validation and training, with less space within a pair than between pairs."""
    return "".join(f"   {cells[k]} {cells[k + 1]}" for k in range(0, len(cells), 2))
