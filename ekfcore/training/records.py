"""The table of the errors after each epoch."""

import csv
from collections.abc import Sequence
from dataclasses import MISSING, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from ekfcore.errors import InputError
from ekfcore.files import write_csv
from ekfcore.potentials.position import EpochRecord

__all__ = ["METRICS_FILE", "read_metrics", "write_metrics"]

METRICS_FILE = "metrics.csv"
"""Name of the table in the folder of a run."""


_COLUMNS = tuple("lambda" if field.name == "lam" else field.name for field in fields(EpochRecord))


def write_metrics(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write the table, replacing the old one only once the new one is complete.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_csv(path, _COLUMNS, ([getattr(record, field.name) for field in fields(EpochRecord)] for record in records))


def read_metrics(path: Path) -> list[EpochRecord]:
    """Read the table.

    Raises
    ------
    InputError
        If it is missing or not such a table.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a table of metrics ({error}); give the metrics.csv of a run") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give the metrics.csv of a run") from None
    # Tables of earlier versions lack the last columns.
    if not rows or len(rows[0]) < _REQUIRED or tuple(rows[0]) != _COLUMNS[: len(rows[0])]:
        raise InputError(f"{path} is not a table of metrics: its columns must be {', '.join(_COLUMNS)}")
    records = [_record(path, line, rows[0], row) for line, row in enumerate(rows[1:], start=2)]
    for line, (before, after) in enumerate(pairwise(records), start=3):
        if after.epoch != before.epoch + 1:
            raise InputError(f"{path}, line {line}: epoch {after.epoch} must not follow {before.epoch}; {_CURE}")
    return records


_CURE = "mend it, or --resume the run, which writes the table again"
_REQUIRED = sum(field.default is MISSING for field in fields(EpochRecord))


def _record(path: Path, line: int, columns: Sequence[str], row: Sequence[str]) -> EpochRecord:
    if len(row) != len(columns):
        raise InputError(f"{path}, line {line}: must have {len(columns)} numbers, got {len(row)}; {_CURE}")
    numbers: dict[str, Any] = {}
    for field, cell in zip(fields(EpochRecord), row, strict=False):
        kind = int if field.type in (int, "int") else float
        optional = field.default is not MISSING
        try:
            numbers[field.name] = None if optional and not cell else kind(cell)
        except ValueError:
            raise InputError(
                f"{path}, line {line}: {field.name} must be a number, got {cell[:40]!r}; {_CURE}"
            ) from None
    return EpochRecord(**numbers)
