"""The rounds of active learning: train, explore, choose, label, and again."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from ekfcore.atoms import Frame, errors, read_frames
from ekfcore.atoms.digest import digest_of
from ekfcore.dynamics.explore import Trajectory, explore
from ekfcore.errors import InputError
from ekfcore.labelling.calculators import make_calculator
from ekfcore.labelling.executors import ProcessExecutor
from ekfcore.labelling.ledger import frame_key
from ekfcore.potentials.model_file import MODEL_FILE
from ekfcore.threads import thread_count
from ekfcore.training import LoadedModel, evaluate

from ._messages import exploration, failed, finished, validated
from ._stock import Stock
from ._timing import Clock
from .acquisition import choose
from .report import RoundReport, read_report, write_report, write_table
from .round_models import load_or_train
from .selection import Fate, Selection
from .settings import LearnSettings, Stage
from .tables import write_frames, write_selection

__all__ = ["Learner", "Stopped"]

# The files of a round in the order in which they are written: each stands for all that comes before it.
_TRAIN, _SELECTED, _CHOSEN, _REPORT = "train.extxyz", "selected.extxyz", "chosen.json", "report.json"


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
        self.structures = read_frames(settings.data.structures, require=())
        self.stock = Stock(settings, out, self.structures)
        self.validation = {name: read_frames(paths) for name, paths in settings.data.validation.items()}
        self.reports: list[RoundReport] = []
        self._unclaimed: list[RoundReport] = []
        self._known: list[Frame] = []

    @property
    def seed(self) -> int:
        """Seed of all that is random."""
        return self.settings.training.seed

    def inputs(self) -> dict[str, str]:
        """Return a digest of the contents of the files that each key of ``[data]`` names."""
        judged_by = [frame for frames in self.validation.values() for frame in frames]
        files = {"structures": self.structures, "train": self.stock.given, "validation": judged_by}
        return {key: digest_of(frames=frames) for key, frames in files.items()}

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
        self._begin()
        self._read_rounds()
        for index, stage in enumerate(self.settings.stages, start=1):
            self._run_stage(index, stage)
            if self.stock.budget == 0:
                self._say(f"The budget of {self.settings.stop.labels} labels is used up.")
                break
        return self._finish()

    def _read_rounds(self) -> None:
        """Read the rounds that were finished before, and finish one whose frames are chosen already."""
        while (self._folder(len(self.reports) + 1) / _CHOSEN).exists():
            folder = self._folder(len(self.reports) + 1)
            done = folder / _REPORT
            report = read_report(done if done.exists() else folder / _CHOSEN)
            if not done.exists() or report.quarantined:  # which may have been lifted since
                report = self._label_round(folder, report)
            self._note(report)
        self._unclaimed = list(self.reports)

    def _run_stage(self, index: int, stage: Stage) -> None:
        """Do the rounds of a stage; those at its temperatures that were finished before count."""
        few = 0
        for _ in range(stage.rounds):
            report = self._claim(stage)
            if report is None:
                if self.stock.budget == 0:
                    return
                report = self._new_round(index, stage)
            few = few + 1 if report.is_settled(self.settings.stop.share) else 0
            if few == 2:
                self._say(finished(index, self.settings.stop.share))
                return

    def _claim(self, stage: Stage) -> RoundReport | None:
        """Take the first round at the temperatures of a stage that no other stage has taken."""
        found = next((report for report in self._unclaimed if report.temperatures == stage.temperatures), None)
        if found is not None:
            self._unclaimed.remove(found)
        return found

    def _begin(self) -> None:
        """Get the labels that the first model is trained on."""
        self._pause()
        found = self.stock.begin(self.out / "start", self._should_stop)
        self._pause()
        if found is None:
            return
        if not found.labelled:
            raise InputError(
                f"none of the {self.settings.data.rattled} rattled structures could be labelled; see "
                f"{self.out / 'start'} for why"
            )
        self._say(f"Labelled {len(found.labelled)} rattled structures to begin with{failed(found)}.")

    def _folder(self, number: int) -> Path:
        return self.out / f"round-{number:02d}"

    def _new_round(self, index: int, stage: Stage) -> RoundReport:
        """Do a round, or what is left of it: once begun, it ends with the frames and the choice that it began with."""
        number = len(self.reports) + 1
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        report = self._label_round(folder, self._choose_round(number, folder, index, stage))
        self._note(report)
        return report

    def _note(self, report: RoundReport) -> None:
        self.reports.append(report)
        write_table(self.out / "report.csv", self.reports)

    def _choose_round(self, number: int, folder: Path, stage_index: int, stage: Stage) -> RoundReport:
        """Train, explore and choose; return what is known then of the round."""
        clock = Clock()
        if not (folder / _TRAIN).exists():
            write_frames(folder / _TRAIN, self.stock.all(self.reports))
        with clock("train"):
            models = self._train_models(folder, number)
        validation = self._validate(models[0])
        self._say(f"Round {number}: trained on {len(self._known)} frames{validated(validation)}")
        with clock("explore"):
            runs = self._explore(folder / "explore", stage, number)
        frames = [frame for run in runs for frame in run.frames]
        if not frames:
            raise InputError(
                f"round {number}: no frame came of {len(runs)} run{'s' * (len(runs) > 1)} of molecular dynamics: the "
                f"first one stopped itself, as {runs[0].reason}; lower the temperatures or explore.time_step, remove "
                f"{folder / 'explore'} and go on with --resume, or begin anew with more labels or epochs"
            )
        with clock("judge"):
            selection = self._choose(frames, models, number)
        write_selection(folder / "selection.csv", runs, selection)
        for line in exploration(runs, selection):
            self._say(line)
        counts = {fate.value: selection.count(fate) for fate in Fate}
        report = RoundReport(
            round=number,
            stage=stage_index,
            temperatures=stage.temperatures,
            trained_on=len(self._known),
            explored=len(frames),
            stopped=sum(run.outcome != "finished" for run in runs),
            low=selection.low,
            high=selection.high,
            validation=validation,
            wall_s=clock.wall,
            cpu_s=clock.cpu,
            **counts,  # type: ignore[arg-type]
        )
        write_frames(folder / _SELECTED, [frames[k] for k in selection.chosen])
        write_report(folder / _CHOSEN, report)
        return report

    def _label_round(self, folder: Path, report: RoundReport) -> RoundReport:
        """Label the frames that a round has chosen, and write down what came of it."""
        frames = read_frames(folder / _SELECTED, require=()) if report.selected else []
        clock = Clock()
        self._pause()
        with clock("label"):
            found = self.stock.label(frames, folder / "label", self._should_stop)
        self._pause()
        report = replace(
            report,
            labelled=[frame_key(frame) for frame in found.labelled],
            quarantined=len(found.quarantined),
            wall_s=clock.wall | report.wall_s,
            cpu_s=clock.cpu | report.cpu_s,
        )
        write_report(folder / _REPORT, report)
        return report

    def _train_models(self, folder: Path, number: int) -> list[LoadedModel]:
        """Train the models of a round on the frames in its folder."""
        self._pause()
        self._known = read_frames(folder / _TRAIN)
        count = self.settings.select.models if self.settings.select.method == "committee" else 1
        models = []
        for member in range(count):
            before = self._folder(number - 1) / "model"
            start = before if self.settings.update.start == "warm" and number > 1 else None
            model = load_or_train(
                self.settings,
                folder / _TRAIN,
                folder / ("model" if member == 0 else f"model-{member}"),
                seed=self.seed + 1000 * member,
                start=start,
                should_stop=self._should_stop,
                say=self._say,
            )
            if model is None:
                raise Stopped
            models.append(model)
        return models

    def _explore(self, folder: Path, stage: Stage, number: int) -> list[Trajectory]:
        """Run molecular dynamics, on the host as many runs at a time as there are threads: each has one to itself."""
        self._pause()
        run = self.settings.run
        count = min(run.threads or thread_count(), len(self.structures) * len(stage.temperatures))
        with ProcessExecutor(count) if run.device == "cpu" and count > 1 else nullcontext() as executor:
            return explore(
                folder.parent / "model",
                self.structures,
                stage.temperatures,
                self.settings.explore,
                seed=self.seed + number,
                out=folder,
                executor=executor,
                backend=run.backend,
                device=run.device,
            )

    def _choose(self, frames: Sequence[Frame], models: Sequence[LoadedModel], number: int) -> Selection:
        self._pause()
        budget = self.stock.budget
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
        write_frames(folder / _TRAIN, self.stock.all(self.reports))
        before = _stamp(folder)
        with clock("train"):
            models = self._train_models(folder, number)
        validation = self._validate(models[0])
        report = RoundReport(
            round=number,
            stage=0,
            temperatures=[],
            trained_on=len(self._known),
            validation=validation,
            wall_s=clock.wall,
            cpu_s=clock.cpu,
        )
        if before == _stamp(folder) and (folder / _REPORT).exists():  # nothing was trained: it took what it took
            done = read_report(folder / _REPORT)
            report = replace(report, wall_s=done.wall_s, cpu_s=done.cpu_s)
        write_report(folder / _REPORT, report)
        self._note(report)
        self._say(f"Trained on all {len(self._known)} labelled frames{validated(validation)}")
        return models

    def _pause(self) -> None:
        if self._should_stop():
            raise Stopped


def _stamp(folder: Path) -> int | None:
    """Return when the model in a folder was saved, if there is one."""
    path = folder / "model" / MODEL_FILE
    return path.stat().st_mtime_ns if path.exists() else None
