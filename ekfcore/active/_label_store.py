"""The labels of a run: given and computed ones, and the budget for more."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError
from ekfcore.labelling.label import LabelReport, label
from ekfcore.labelling.ledger import Ledger, frame_key

from .rattle import rattled
from .report import RoundReport
from .settings import LearnSettings

__all__ = ["LabelStore"]


class LabelStore:
    """The labels of a run; a label in the ledger is never computed again.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    out : Path
        Folder of the run.
    structures : sequence of Frame
        Start structures of the exploration.

    Raises
    ------
    InputError
        If a file cannot be read, or the structures hold elements that the first labels will lack.
    """

    def __init__(self, settings: LearnSettings, out: Path, structures: Sequence[Frame]) -> None:
        self.settings, self.structures = settings, structures
        self.ledger = Ledger(out / "labels.db")
        self.given = read_frames(settings.data.train) if settings.data.train else []
        self.first: list[Frame] = []
        self._check_elements()

    @property
    def budget(self) -> int | None:
        """Number of labels that may still be computed; None if there is no limit."""
        wanted = self.settings.stop.labels
        return None if wanted is None else max(0, wanted - len(self.given) - len(self.ledger))

    def begin(self, log_dir: Path, should_stop: Callable[[], bool]) -> LabelReport | None:
        """Set the frames that the first model is trained on: those of CONFIG, or labelled rattled structures.

        Parameters
        ----------
        log_dir : Path
            Folder for the logs of failed calculations.
        should_stop : callable
            Called at intervals; labels computed before it returns True are kept.

        Returns
        -------
        LabelReport or None
            Outcome of the labelling; None if CONFIG gives labels.
        """
        if self.given:
            self.first = self.given
            return None
        found = self.label(
            rattled(self.structures, self.settings.data, self.settings.training.seed), log_dir, should_stop
        )
        self.first = found.labelled
        return found

    def label(self, frames: Sequence[Frame], log_dir: Path, should_stop: Callable[[], bool]) -> LabelReport:
        """Label frames within the budget; labels in the ledger do not count against it."""
        wanted = self._affordable(frames)
        return label(wanted, self.settings.label, self.ledger, log_dir=log_dir, should_stop=should_stop)

    def all(self, reports: Iterable[RoundReport]) -> list[Frame]:
        """Return the first labels, those of the rounds in order, and the other labels in the ledger.

        Raises
        ------
        InputError
            If the ledger lacks labels of the rounds.
        """
        first = {frame_key(frame) for frame in self.first}
        keys = dict.fromkeys(key for report in reports for key in report.labelled)
        if lost := [key for key in keys if key not in first and key not in self.ledger]:
            raise InputError(
                f"{self.ledger.path}: lacks {len(lost)} of the labels that the rounds have paid for, as {lost[0]}; "
                "put back a copy that has them"
            )
        others = sorted(key for key in self.ledger if key not in first and key not in keys)
        return [*self.first, *(self.ledger.get(key) for key in [*keys, *others] if key not in first)]

    def _affordable(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames that are labelled already, and as many others as the budget allows."""
        left = self.budget
        kept = []
        for frame in frames:
            if frame_key(frame) not in self.ledger and left is not None:
                if left == 0:
                    continue
                left -= 1
            kept.append(frame)
        return kept

    def _check_elements(self) -> None:
        """Refuse structures with elements that the first model cannot know, before any label is computed."""
        data, budget = self.settings.data, self.settings.stop.labels
        copies = data.rattled if budget is None else min(data.rattled, budget)
        first = self.given or self.structures[:copies]
        missing = {symbol for frame in self.structures for symbol in frame.symbols}
        missing -= {symbol for frame in first for symbol in frame.symbols}
        if missing:
            cure = "add labelled frames with them to data.train"
            if not self.given:
                cure = f"{copies} rattled copies begin with so many of the {len(self.structures)} structures: raise "
                cure += "data.rattled" if copies == data.rattled else "stop.labels"
            raise InputError(f"data.structures hold {', '.join(sorted(missing))}, which no first label has; {cure}")
