"""The rounds of active learning: train, explore, select, label, repeat."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ekfcore.atoms import Frame, errors, read_frames
from ekfcore.atoms.digest import digest_of
from ekfcore.dynamics.explore import Trajectory, explore
from ekfcore.errors import InputError
from ekfcore.labelling.calculators import make_calculator
from ekfcore.labelling.distribute import distribute
from ekfcore.labelling.executors import ProcessExecutor, open_executor
from ekfcore.labelling.ledger import frame_key
from ekfcore.potentials.model_file import MODEL_FILE
from ekfcore.threads import thread_count
from ekfcore.training import LoadedModel, evaluate

from ._label_store import LabelStore
from ._messages import exploration, failed, finished, validated
from ._timing import Clock
from .acquisition import Share, choose, judged
from .report import RoundReport, read_report, write_report, write_table
from .round_models import load_or_train
from .selection import Outcome, Selection
from .settings import LearnSettings, Stage
from .tables import write_frames, write_selection

__all__ = ["Learner", "Stopped"]

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

# Files of a round in the order in which they are written: each implies that all earlier steps are done.
_TRAIN, _SELECTED, _CHOSEN, _REPORT = "train.extxyz", "selected.extxyz", "chosen.json", "report.json"


class Stopped(Exception):  # noqa: N818 -- it is no error
    """`should_stop` returned True; all finished work is on disk."""


class Learner:
    """Does the rounds of active learning; steps whose results are on disk are not repeated.

    Parameters
    ----------
    settings : LearnSettings
        CONFIG.
    out : Path
        Folder of the run.
    on_message : callable
        Called with each line about the progress.
    should_stop : callable
        Called between the steps, and during training and labelling.

    Raises
    ------
    InputError
        If a file cannot be read, the calculator cannot be made or the executor not be opened; nothing is written then.
    """

    def __init__(
        self,
        settings: LearnSettings,
        out: Path,
        *,
        on_message: Callable[[str], None] = print,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings, self.out, self._on_message, self._should_stop = settings, out, on_message, should_stop
        make_calculator(settings.label.calculator, settings.label.parameters)  # so that mistakes show at once
        with open_executor(settings.label.executor):  # for the same reason
            pass
        self.structures = read_frames(settings.data.structures, require=())
        self.labels = LabelStore(settings, out, self.structures)
        self.validation = {name: read_frames(paths) for name, paths in settings.data.validation.items()}
        self.reports: list[RoundReport] = []
        self._unclaimed: list[RoundReport] = []
        self._known: list[Frame] = []

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""
        return self.settings.training.seed

    def inputs(self) -> dict[str, str]:
        """Return a digest of the contents of the files that each key of ``[data]`` names."""
        validation = [frame for frames in self.validation.values() for frame in frames]
        files = {"structures": self.structures, "train": self.labels.given, "validation": validation}
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
            If `should_stop` returned True.
        InputError
            If the user must correct something before the run can go on.
        """
        self._make_first_labels()
        self._read_rounds()
        for index, stage in enumerate(self.settings.stages, start=1):
            self._run_stage(index, stage)
            if self.labels.budget == 0:
                self._on_message(f"The budget of {self.settings.stop.labels} labels is used up.")
                break
        return self._finish()

    def _read_rounds(self) -> None:
        """Read the rounds that were finished before, and finish a round whose frames are already selected."""
        while (self._folder(len(self.reports) + 1) / _CHOSEN).exists():
            folder = self._folder(len(self.reports) + 1)
            done = folder / _REPORT
            report = read_report(done if done.exists() else folder / _CHOSEN)
            if not done.exists() or report.quarantined:  # the quarantine may have been lifted since
                report = self._label_round(folder, report)
            self._add_report(report)
        self._unclaimed = list(self.reports)

    def _run_stage(self, index: int, stage: Stage) -> None:
        """Do the rounds of a stage; earlier rounds at its temperatures count."""
        reliable_rounds = 0
        for _ in range(stage.rounds):
            report = self._claim(stage)
            if report is None:
                if self.labels.budget == 0:
                    return
                report = self._new_round(index, stage)
            reliable_rounds = reliable_rounds + 1 if report.is_converged(self.settings.stop.share) else 0
            if reliable_rounds == 2:
                self._on_message(finished(index, self.settings.stop.share))
                return

    def _claim(self, stage: Stage) -> RoundReport | None:
        """Return the first earlier round at the temperatures of a stage that no other stage has claimed."""
        found = next((report for report in self._unclaimed if report.temperatures == stage.temperatures), None)
        if found is not None:
            self._unclaimed.remove(found)
        return found

    def _make_first_labels(self) -> None:
        """Get the labels that the first model is trained on."""
        self._check_stop()
        found = self.labels.begin(self.out / "start", self._should_stop)
        self._check_stop()
        if found is None:
            return
        if not found.labelled:
            raise InputError(
                f"none of the {self.settings.data.rattled} rattled structures could be labelled; see "
                f"{self.out / 'start'} for why"
            )
        self._on_message(f"Labelled {len(found.labelled)} rattled structures to begin with{failed(found)}.")

    def _folder(self, number: int) -> Path:
        return self.out / f"round-{number:02d}"

    def _new_round(self, index: int, stage: Stage) -> RoundReport:
        """Do a round, or the rest of one, which keeps the training frames and the selection that it has on disk."""
        number = len(self.reports) + 1
        folder = self._folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        report = self._label_round(folder, self._choose_round(number, folder, index, stage))
        self._add_report(report)
        return report

    def _add_report(self, report: RoundReport) -> None:
        self.reports.append(report)
        write_table(self.out / "report.csv", self.reports)

    def _choose_round(self, number: int, folder: Path, stage_index: int, stage: Stage) -> RoundReport:
        """Train, explore and select; return the report without the labels."""
        clock = Clock()
        if not (folder / _TRAIN).exists():
            write_frames(folder / _TRAIN, self.labels.all(self.reports))
        with clock("train"):
            models = self._train_models(folder, number)
        validation = self._validate(models[0])
        self._on_message(f"Round {number}: trained on {len(self._known)} frames{validated(validation)}")
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
            selection = self._choose(frames, models, number, folder)
        write_selection(folder / "selection.csv", runs, selection)
        for line in exploration(runs, selection):
            self._on_message(line)
        counts = {outcome.value: selection.count(outcome) for outcome in Outcome}
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
        """Label the selected frames of a round and write its final report."""
        frames = read_frames(folder / _SELECTED, require=()) if report.selected else []
        clock = Clock()
        self._check_stop()
        with clock("label"):
            found = self.labels.label(frames, folder / "label", self._should_stop)
        self._check_stop()
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
        self._check_stop()
        self._known = read_frames(folder / _TRAIN)
        models = []
        for member, path in enumerate(self._model_folders(folder)):
            before = self._folder(number - 1) / "model"
            start = before if self.settings.update.start == "warm" and number > 1 else None
            model = load_or_train(
                self.settings,
                folder / _TRAIN,
                path,
                seed=self.seed + 1000 * member,
                start=start,
                should_stop=self._should_stop,
                on_message=self._on_message,
            )
            if model is None:
                raise Stopped
            models.append(model)
        return models

    def _model_folders(self, folder: Path) -> list[Path]:
        """Return the folders of the model of a round, or of the members of its committee."""
        count = self.settings.select.models if self.settings.select.method == "committee" else 1
        return [folder / ("model" if member == 0 else f"model-{member}") for member in range(count)]

    def _explore(self, folder: Path, stage: Stage, number: int) -> list[Trajectory]:
        """Run molecular dynamics; on the CPU, as many runs at a time as there are threads, one thread each."""
        self._check_stop()
        run = self.settings.run
        count = min(run.threads or thread_count(), len(self.structures) * len(stage.temperatures))
        here = run.device == "cpu" and count > 1 and not self.settings.offload.explore
        with ProcessExecutor(count) if here else nullcontext() as executor:
            return explore(
                folder.parent / "model",
                self.structures,
                stage.temperatures,
                self.settings.explore,
                seed=self.seed + number,
                out=folder,
                executor=executor,
                distribute=self._distribute if self.settings.offload.explore else None,
                backend=run.backend,
                device=run.device,
            )

    def _distribute(self, function: Callable[[_Argument], _Result], arguments: Sequence[_Argument]) -> list[_Result]:
        """Compute on the executor of the labels."""
        place, folder = self.settings.label.executor, self.labels.ledger.jobs
        folder.mkdir(parents=True, exist_ok=True)
        found = distribute(function, arguments, place, folder, should_stop=self._should_stop)
        if found is None:
            raise Stopped
        return found

    def _judge(self, frames: Sequence[Frame], folder: Path) -> list[Any]:
        """Judge frames of a round on the executor of the labels."""
        run, size = self.settings.run, -(-len(frames) // self.settings.label.executor.worker_count)
        shares = [
            Share(
                frames=frames[first : first + size],
                known=self._known if self.settings.select.covariance == "fresh" else [],
                models=[path.absolute() for path in self._model_folders(folder)],
                settings=self.settings.select,
                backend=run.backend,
                device=run.device,
            )
            for first in range(0, len(frames), size)
        ]
        return [found for share in self._distribute(judged, shares) for found in share]

    def _choose(self, frames: Sequence[Frame], models: Sequence[LoadedModel], number: int, folder: Path) -> Selection:
        self._check_stop()
        budget = self.labels.budget
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
            judge=partial(self._judge, folder=folder) if self.settings.offload.judge else None,
        )

    def _validate(self, model: LoadedModel) -> dict[str, dict[str, float]]:
        """Return the errors on each validation set."""
        result = {}
        for name, frames in self.validation.items():
            found = errors(evaluate(model.model, model.weights, frames), frames)
            result[name] = {"energy_rmse": found.energy_rmse, "force_rmse": found.force_rmse}
        return result

    def _finish(self) -> list[LoadedModel]:
        """Train on all labels, and add the last line of the table."""
        folder, clock = self.out / "final", Clock()
        folder.mkdir(exist_ok=True)
        number = len(self.reports) + 1
        write_frames(folder / _TRAIN, self.labels.all(self.reports))
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
        if before == _stamp(folder) and (folder / _REPORT).exists():  # nothing was trained: keep the earlier times
            done = read_report(folder / _REPORT)
            report = replace(report, wall_s=done.wall_s, cpu_s=done.cpu_s)
        write_report(folder / _REPORT, report)
        self._add_report(report)
        self._on_message(f"Trained on all {len(self._known)} labelled frames{validated(validation)}")
        return models

    def _check_stop(self) -> None:
        if self._should_stop():
            raise Stopped


def _stamp(folder: Path) -> int | None:
    """Return the modification time of the model in a folder, or None if there is no model [ns]."""
    path = folder / "model" / MODEL_FILE
    return path.stat().st_mtime_ns if path.exists() else None
