"""Reports of the rounds of active learning, and their table."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from ekfcore.errors import InputError
from ekfcore.files import write_csv
from ekfcore.record_file import file_digest, read_record, write_record

__all__ = ["STEPS", "RoundReport", "read_report", "write_report", "write_table"]

STEPS = ("train", "explore", "judge", "label")
"""Steps of a round that are timed."""
_FILES = "files"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """Results of a round.

    Parameters
    ----------
    round, stage : int
        Numbers from 1; the final training, without exploration, belongs to stage 0.
    temperatures : list of float
        Temperatures of the runs [K].
    trained_on : int
        Number of labelled frames that the models of the round were trained on.
    explored : int
        Number of frames from molecular dynamics.
    stopped : int
        Number of runs of molecular dynamics that stopped early.
    reliable, selected, spared, discarded : int
        Number of frames with each outcome.
    low, high : float
        Thresholds, in the unit of the values.
    labelled : list of str
        Keys of the new labels.
    quarantined : int
        Number of selected frames that could not be labelled.
    validation : mapping of str to mapping
        Energy RMSE [meV/atom] and force RMSE [meV/Å] of each set, before the new labels.
    wall_s, cpu_s : mapping of str to float
        Wall-clock and CPU time of each step; of the last attempt only, if a round was interrupted [s].
    """

    round: int
    stage: int
    temperatures: list[float]
    trained_on: int
    explored: int = 0
    stopped: int = 0
    reliable: int = 0
    selected: int = 0
    spared: int = 0
    discarded: int = 0
    low: float = 0.0
    high: float = 0.0
    labelled: list[str] = field(default_factory=list)
    quarantined: int = 0
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    @property
    def unreliable_share(self) -> float:
        """Share of the explored frames above the lower threshold."""
        return 1 - self.reliable / self.explored if self.explored else 0.0

    def is_converged(self, share: float) -> bool:
        """Return whether at most that share of the explored frames was unreliable, and no run stopped itself."""
        return self.explored > 0 and not self.stopped and self.unreliable_share <= share

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Make a report from its JSON data."""
        return cls(**data)

    def row(self) -> dict[str, Any]:
        """Return the cells of the table."""
        row: dict[str, Any] = {k: v for k, v in asdict(self).items() if not isinstance(v, list | dict)}
        row["temperatures"] = " ".join(f"{temperature:g}" for temperature in self.temperatures)
        row["labelled"] = len(self.labelled)
        for name, found in self.validation.items():
            row |= {f"{quantity} {name}": value for quantity, value in found.items()}
        for step in STEPS:
            row[f"{step}_wall_s"], row[f"{step}_cpu_s"] = self.wall_s.get(step, 0.0), self.cpu_s.get(step, 0.0)
        return row


def write_report(path: Path, report: RoundReport) -> None:
    """Write a report, with a digest of the frames in its folder, as JSON, all of it or nothing."""
    files = {frames.name: file_digest(frames) for frames in sorted(path.parent.glob("*.extxyz"))}
    write_record(path, {**asdict(report), _FILES: files})


def read_report(path: Path) -> RoundReport:
    """Read a report.

    Raises
    ------
    InputError
        If the file is not a report, or the frames in its folder were altered.
    """
    cure = "put it back, or remove the folder to do the round again"
    data = read_record(path, cure)
    files = data.pop(_FILES, {})  # reports of earlier versions have none
    try:
        report = RoundReport.from_json(data)
    except TypeError as error:
        raise InputError(f"{path} is not the report of a round ({error}); {cure}") from None
    for name, digest in files.items():
        frames = path.with_name(name)
        if frames.exists() and file_digest(frames) != digest:
            raise InputError(f"{frames} was altered after the round: its SHA-256 differs; {cure}")
    return report


def write_table(path: Path, reports: Sequence[RoundReport]) -> None:
    """Write all rounds as CSV."""
    rows = [report.row() for report in reports]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(path, columns, ([row.get(column, "") for column in columns] for row in rows))
