"""The rounds of active learning: train, explore, choose, label, and again."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ekfcore.atoms import Frame, errors, read_frames
from ekfcore.errors import InputError
from ekfcore.training import LoadedModel, evaluate

from ._clock import Clock
from ._words import exploration, failed, finished, validated
from .calculators import make_calculator
from .explore import Trajectory, explore
from .judge import choose
from .label import LabelReport, label
from .ledger import Ledger, frame_key
from .models import load_or_train
from .report import RoundReport, read_report, write_report, write_table
from .select import Fate, Selection
from .settings import LearnSettings, Stage
from .start import rattled
from .tables import write_frames, write_selection

__all__ = ["Learner", "Stopped"]

_REPORT = "report.json"


class Stopped(Exception):  # noqa: N818 -- it is no error
    """Someone asked to stop; all that was done is on disk."""


class Learner:
    """Goes through the rounds; whatever is found on disk is not done again.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    out : Path
        Folder of the run.
    say : callable
        Told in words what happens.
    should_stop : callable
        Asked now and then.

    Raises
    ------
    InputError
        If a file cannot be read or the calculator cannot be made; nothing has been written then.
    """

    def __init__(
        self,
        settings: LearnSettings,
        out: Path,
        *,
        say: Callable[[str], None] = print,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.out, self._say, self._should_stop = settings, out, say, should_stop
        make_calculator(settings.label.calculator, settings.label.parameters)  # for a mistake to show at once
        self.ledger = Ledger(out / "labels.db")
        self.structures = read_frames(settings.data.structures, require=())
        self.validation = {name: read_frames(paths) for name, paths in settings.data.validation.items()}
        self.reports: list[RoundReport] = []
        self._known: list[Frame] = []

    @property
    def seed(self) -> int:
        """Seed of all that is random."""
        return self.settings.training.seed

    def run(self) -> list[LoadedModel]:
        """Do all rounds, then train on all labels.

        Returns
        -------
        list of LoadedModel
            The final model, or the members of the final committee.

        Raises
        ------
        Stopped
            If `should_stop` said so.
        InputError
            If something has to be corrected before the run can go on.
        """
        self._known = self._first_labels()
        for index, stage in enumerate(self.settings.stages, start=1):
            self._run_stage(index, stage)
            if self._budget() == 0:
                self._say(f"The budget of {self.settings.stop.labels} labels is used up.")
                break
        return self._finish()

    def _run_stage(self, index: int, stage: Stage) -> None:
        few = 0
        for _ in range(stage.rounds):
            if self._budget() == 0:
                return
            report = self._round(index, stage)
            few = few + 1 if report.unreliable_share <= self.settings.stop.share else 0
            if few == 2:
                self._say(finished(index, self.settings.stop.share))
                return

    def _first_labels(self) -> list[Frame]:
        """Return the labelled frames that the first model is trained on."""
        if self.settings.data.train:
            return read_frames(self.settings.data.train)
        frames = rattled(self.structures, self.settings.data, self.seed)
        budget = self._budget()
        if budget is not None:
            already = sum(frame_key(frame) in self.ledger for frame in frames)
            frames = frames[: budget + already]
        found = self._label(frames, self.out / "start")
        if not found.labelled:
            raise InputError(
                f"none of the {len(frames)} rattled structures could be labelled; see {self.out / 'start'} for why"
            )
        self._say(f"Labelled {len(found.labelled)} rattled structures to begin with{failed(found)}.")
        return found.labelled

    def _round(self, stage_index: int, stage: Stage) -> RoundReport:
        """Do a round, or read what it brought."""
        number = len(self.reports) + 1
        folder = self.out / f"round-{number:02d}"
        if (folder / _REPORT).exists():
            report = read_report(folder / _REPORT)
        else:
            report = self._new_round(number, folder, stage_index, stage)
            write_report(folder / _REPORT, report)
        self._known = [*self._known, *(self.ledger.get(key) for key in report.labelled)]
        self.reports.append(report)
        write_table(self.out / "report.csv", self.reports)
        return report

    def _new_round(self, number: int, folder: Path, stage_index: int, stage: Stage) -> RoundReport:
        folder.mkdir(parents=True, exist_ok=True)
        clock = Clock()
        with clock("train"):
            models = self._train(folder, number)
        validation = self._validate(models[0])
        self._say(f"Round {number}: trained on {len(self._known)} frames{validated(validation)}")
        with clock("explore"):
            runs = self._explore(folder / "explore", stage, number)
        frames = [frame for run in runs for frame in run.frames]
        with clock("judge"):
            selection = self._choose(frames, models, number)
        write_selection(folder / "selection.csv", runs, selection)
        for line in exploration(runs, selection):
            self._say(line)
        with clock("label"):
            found = self._label([frames[k] for k in selection.chosen], folder / "label")
        counts = {fate.value: selection.count(fate) for fate in Fate}
        return RoundReport(
            round=number,
            stage=stage_index,
            temperatures=stage.temperatures,
            trained_on=len(self._known),
            explored=len(frames),
            stopped=sum(run.outcome != "finished" for run in runs),
            low=selection.low,
            high=selection.high,
            labelled=[frame_key(frame) for frame in found.labelled],
            quarantined=len(found.quarantined),
            validation=validation,
            wall_s=clock.wall,
            cpu_s=clock.cpu,
            **counts,
        )

    def _train(self, folder: Path, number: int) -> list[LoadedModel]:
        """Train the models of a round on all that is known."""
        self._pause()
        write_frames(folder / "train.extxyz", self._known)
        count = self.settings.select.models if self.settings.select.method == "committee" else 1
        models = []
        for member in range(count):
            before = self.out / f"round-{number - 1:02d}" / "model"
            start = before if self.settings.update.start == "warm" and number > 1 else None
            model = load_or_train(
                self.settings,
                folder / "train.extxyz",
                folder / ("model" if member == 0 else f"model-{member}"),
                seed=self.seed + 1000 * member,
                start=start,
                should_stop=self._should_stop,
            )
            if model is None:
                raise Stopped
            models.append(model)
        return models

    def _explore(self, folder: Path, stage: Stage, number: int) -> list[Trajectory]:
        self._pause()
        return explore(
            folder.parent / "model",
            self.structures,
            stage.temperatures,
            self.settings.explore,
            seed=self.seed + number,
            out=folder,
        )

    def _choose(self, frames: Sequence[Frame], models: Sequence[LoadedModel], number: int) -> Selection:
        self._pause()
        budget = self._budget()
        maximum = self.settings.select.maximum
        return choose(
            frames,
            self._known,
            models,
            self.settings.select,
            self.settings.optimizer,
            epochs=self.settings.training.epochs,
            maximum=maximum if budget is None else min(maximum, budget),
            seed=[self.seed, number],
            backend=self.settings.run.backend,
            device=self.settings.run.device,
        )

    def _label(self, frames: Sequence[Frame], folder: Path) -> LabelReport:
        """Label frames, of which those in the ledger are ready."""
        self._pause()
        found = label(frames, self.settings.label, self.ledger, log_dir=folder, should_stop=self._should_stop)
        self._pause()
        return found

    def _validate(self, model: LoadedModel) -> dict[str, dict[str, float]]:
        """Return the errors on each validation set."""
        result = {}
        for name, frames in self.validation.items():
            found = errors(evaluate(model.model, model.weights, frames), frames)
            result[name] = {"energy_rmse": found.energy_rmse, "force_rmse": found.force_rmse}
        return result

    def _finish(self) -> list[LoadedModel]:
        """Train on all labels, and tell of it in a last line of the table."""
        folder, clock = self.out / "final", Clock()
        folder.mkdir(exist_ok=True)
        number = len(self.reports) + 1
        with clock("train"):
            models = self._train(folder, number)
        validation = self._validate(models[0])
        self.reports.append(
            RoundReport(
                round=number,
                stage=0,
                temperatures=[],
                trained_on=len(self._known),
                validation=validation,
                wall_s=clock.wall,
                cpu_s=clock.cpu,
            )
        )
        write_table(self.out / "report.csv", self.reports)
        self._say(f"Trained on all {len(self._known)} labelled frames{validated(validation)}")
        return models

    def _budget(self) -> int | None:
        """Return how many labels may still be made."""
        wanted = self.settings.stop.labels
        given = len(self._known) if self.settings.data.train else len(self.ledger)
        return None if wanted is None else max(0, wanted - given)

    def _pause(self) -> None:
        if self._should_stop():
            raise Stopped
