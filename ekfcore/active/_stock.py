"""The labels of a run: those that it began with, those that it has paid for, and how many more it may."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError
from ekfcore.labelling.label import LabelReport, label
from ekfcore.labelling.ledger import Ledger, frame_key

from .rattle import rattled
from .report import RoundReport
from .settings import LearnSettings

__all__ = ["Stock"]


class Stock:
    """What is labelled; nothing that is in the ledger is paid for again.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    out : Path
        Folder of the run.
    structures : sequence of Frame
        Where exploring starts.

    Raises
    ------
    InputError
        If a file cannot be read, or the structures hold elements that no first label will have.
    """

    def __init__(self, settings: LearnSettings, out: Path, structures: Sequence[Frame]) -> None:
        self.settings, self.structures = settings, structures
        self.ledger = Ledger(out / "labels.db")
        self.given = read_frames(settings.data.train) if settings.data.train else []
        self.first: list[Frame] = []
        self._check_elements()

    @property
    def budget(self) -> int | None:
        """How many labels may still be made; None if as many as are wanted."""
        wanted = self.settings.stop.labels
        return None if wanted is None else max(0, wanted - len(self.given) - len(self.ledger))

    def begin(self, log_dir: Path, should_stop: Callable[[], bool]) -> LabelReport | None:
        """Find what the first model is trained on: what CONFIG gives, or labels of rattled structures.

        Parameters
        ----------
        log_dir : Path
            Folder for what went wrong.
        should_stop : callable
            Asked now and then; what has been labelled until then is kept.

        Returns
        -------
        LabelReport or None
            What was labelled, if anything had to be.
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
        """Label frames as far as the budget goes; those in the ledger are ready."""
        wanted = self._affordable(frames)
        return label(wanted, self.settings.label, self.ledger, log_dir=log_dir, should_stop=should_stop)

    def all(self, reports: Iterable[RoundReport]) -> list[Frame]:
        """Return the first labels, those of the rounds in their order, and what else was paid for.

        Raises
        ------
        InputError
            If the ledger has lost some of them.
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
        """Return those that are labelled already, and as many of the others as the budget allows."""
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
        """Refuse structures that no model of the first round could know, before a label of them is paid for."""
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
