"""The errors of each epoch for TensorBoard."""

import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ekfcore.atoms.quantities import ENERGY, FORCE, QUANTITIES
from ekfcore.errors import InputError
from ekfcore.potentials.position import EpochRecord

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes new records as scalars when called with all records; ``tensorboard --logdir FOLDER`` shows them.

    Parameters
    ----------
    folder : Path
        Folder of the event files.
    known : int
        Number of records that an earlier run has saved in its model. The last of them is written again, since that run
        may have been killed after saving the model and before writing this record.

    Raises
    ------
    InputError
        If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, *, known: int = 0) -> None:
        try:
            files: Any = import_module("tensorboard.summary.writer.event_file_writer")
            self._events: Any = import_module("tensorboard.compat.proto.event_pb2")
            self._summaries: Any = import_module("tensorboard.compat.proto.summary_pb2")
        except ImportError:
            raise InputError(
                'training.tensorboard = true needs TensorBoard; run: pip install "ekfcore[tensorboard]"'
            ) from None
        self._make_writer: Callable[[str], Any] = files.EventFileWriter
        self._writer: Any = None
        self._folder, self._known = folder, max(0, known - 1)

    def __call__(self, records: Sequence[EpochRecord]) -> None:
        """Write the new records; the step of a scalar is its epoch. InputError if the folder cannot be written."""
        if self._writer is None:  # opened late: this folder must not exist before the model does
            self._writer = self._open()
            # A START event makes TensorBoard discard later steps of earlier files.
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._add(self._known + 1, session_log=start)
        for record in records[self._known :]:
            values = [self._summaries.Summary.Value(tag=k, simple_value=v) for k, v in _scalars(record).items()]
            summary = self._summaries.Summary(value=values)
            self._add(record.epoch, summary=summary)
        self._known = len(records)
        self._writer.flush()

    def _add(self, epoch: int, **what: Any) -> None:
        self._writer.add_event(self._events.Event(wall_time=time.time(), step=epoch, **what))

    def _open(self) -> Any:
        # TensorBoard reads files in the order of their names, which hold their start time in whole seconds.
        begun = [path.name.split(".")[3] for path in self._folder.glob("events.out.tfevents.*")]
        last = max((int(second) for second in begun if second.isdecimal()), default=0)
        time.sleep(min(1.0, max(0.0, last + 1 - time.time())))
        try:
            return self._make_writer(str(self._folder))
        except OSError as error:
            raise InputError(f"{self._folder} cannot be written ({error.strerror}); choose another --out") from None


def _scalars(record: EpochRecord) -> dict[str, float]:
    found: dict[str, float | None] = {"lambda": record.lam, "time_s": record.wall_s}
    for quantity in QUANTITIES:
        for part in ("train", "test"):
            found[f"{quantity.name}_rmse_{quantity.json_unit}/{part}"] = getattr(record, f"{quantity.name}_rmse_{part}")
    for quantity in (ENERGY, FORCE):
        found[f"{quantity.name}_noise_{quantity.json_unit}"] = getattr(record, f"{quantity.name}_noise")
    return {name: value for name, value in found.items() if value is not None}
