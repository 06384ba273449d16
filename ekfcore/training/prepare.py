"""From CONFIG to a training that is ready to run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.checkpoint import restore_state
from ekfcore.devices import place
from ekfcore.errors import InputError
from ekfcore.files import is_vacant
from ekfcore.filter import init
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    NodalPotential,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)
from ekfcore.partition import BlockLayout
from ekfcore.potentials.dataset import Dataset
from ekfcore.potentials.fingerprint import Fingerprint
from ekfcore.potentials.model_file import MODEL_FILE, LoadedModel, load_model
from ekfcore.potentials.position import EpochRecord, Position
from ekfcore.potentials.sample import Potential

from ._layout import fitting_layout
from .adam import AdamOptimizer
from .bias import refit_bias
from .data import read_data
from .elements import check_energies, learn_elements, strangers, without_unknown
from .evaluator import Evaluator
from .kalman import KalmanOptimizer
from .labels import label_notes, unseen, without_doubtful_virials
from .lcurve import write_lcurve
from .loop import Optimizer, Trainer
from .records import METRICS_FILE, write_metrics
from .schedule import measurements
from .settings import Settings
from .tensorboard import TensorBoard

__all__ = ["prepare"]

# A filter then needs fewer steps, see docs/explanation/differences.md; Adam ends higher.
_GAIN = 10.0


def prepare(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    start: LoadedModel | None = None,
    shift_energies: bool = False,
    inputs: str = "",
) -> Trainer:
    """Read the data, build or restore the model, and return the training.

    Parameters
    ----------
    settings : Settings
        CONFIG.
    out : Path
        Folder for the model and the metrics; made here.
    resume : bool
        Go on from the model in `out`; from the beginning where the training was killed before it saved one.
    start : LoadedModel, optional
        Begin with this model, its weights and its filter, where there is nothing to go on from; with a fresh filter if
        the model has none. Adam begins anew in any case, with the first learning rate.
    shift_energies : bool
        Fit the energies of `start` to the training frames first, see `refit_bias`.
    inputs : str
        Kept in the model file, see `LoadedModel`.

    Raises
    ------
    InputError
        If the data, the settings, the memory or the folder do not allow the training.
    CheckpointError
        If the model to go on from cannot be used.
    """
    _check_folder(out, resume)
    begun = out.is_dir() and is_vacant(out)
    saved = load_model(out / MODEL_FILE) if resume and not begun else None
    start = None if saved else start
    train, test, note = read_data(settings, saved=saved, start=start)
    frames = Fingerprint.of(train, test)
    given = settings.model.atom_energies or {}
    optimizer, doubt = without_doubtful_virials(settings.optimizer, train)
    notes = [note, *label_notes(train, test, settings.optimizer, given, doubt), unseen(train)]
    if resume and saved is None:
        begun_with = "" if start else "; if it was to start from another model, give that beside --resume"
        notes.append(f"{out} holds no model yet: the training starts from the beginning{begun_with}")
    if given and shift_energies:
        raise InputError(f"--shift-energies fits what model.atom_energies = {given} gives; leave one of them out")
    saved, start = (
        known and replace(known, model=learn_elements(known.model, train, given)) for known in (saved, start)
    )
    if start is not None and shift_energies:
        start = refit_bias(start, train)
    if start is not None and start.optimizer.get("type") == "adam":
        start = start.without_optimizer()  # whose learning rate has run out
    if start is not None and not _fits(settings, start):
        start = start.without_optimizer()
        notes.append("the filter of the model to start from is of another form; its weights begin with a fresh one")
    origin = saved or start
    if origin is not None:
        settings = settings.model_copy(update={"model": settings.model.completed(origin.model.architecture)})
    architecture = _architecture(settings, [*train, *test], origin)
    # Whether data or a model told what CONFIG leaves out, the model file says the same.
    settings = settings.model_copy(update={"model": settings.model.completed(architecture)})
    layout = fitting_layout(settings, architecture)
    _make_folder(out)
    model = origin.model if origin else _fresh(architecture, train, given)
    check_energies(model, given)
    test, note = without_unknown(model, test)
    notes += [note, "" if origin else strangers(train, architecture.cutoff)]
    like = _weights(settings, model, origin)
    position = saved.position if saved else Position()
    tolerance = settings.model.interpolation
    evaluator = Evaluator(model, like, train, tolerance=tolerance, spacing=position.spacing)
    datasets = _datasets(evaluator.model, train, test, like, memory=settings.run.sample_memory * 2**30)
    return Trainer(
        evaluator=evaluator,
        optimizer=_optimizer(
            settings.model_copy(update={"optimizer": optimizer}), evaluator.model, like, layout, train, origin
        ),
        train=datasets[0],
        test=datasets[1],
        epochs=settings.training.epochs,
        batch=settings.training.batch,
        seed=settings.training.seed,
        settings=settings.as_json(),
        out=out,
        frames=frames,
        position=replace(position, spacing=evaluator.spacing),
        writers=_writers(settings, out, known=len(position.records)),
        notes=[note for note in notes if note],
        inputs=inputs,
    )


def _check_folder(out: Path, resume: bool) -> None:
    """Refuse a folder that holds something already, or nothing to go on from."""
    if resume and not (out / MODEL_FILE).exists() and not (out.is_dir() and is_vacant(out)):
        raise InputError(
            f"{out} holds no {MODEL_FILE} to go on from; give the folder of a run with --out, or leave out --resume to "
            "start one in a new folder"
        )
    if not resume and not is_vacant(out):
        raise InputError(f"{out} exists already; go on from it with --resume, or choose another folder with --out")


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".write-test").touch()
        (out / ".write-test").unlink()
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error.strerror}); choose another folder with --out") from None


def _fresh(architecture: Architecture, train: Sequence[Frame], given: Mapping[str, float]) -> DeepPotential:
    known = {element: energy for element, energy in given.items() if element in architecture.elements}
    return DeepPotential(architecture, fit_statistics(train, architecture, atom_energies=known))


def _writers(settings: Settings, out: Path, *, known: int) -> list[Callable[[Sequence[EpochRecord]], None]]:
    """Return what keeps the errors of each epoch; `known` are those that are kept already."""
    writers: list[Callable[[Sequence[EpochRecord]], None]] = [partial(write_metrics, out / METRICS_FILE)]
    if settings.training.lcurve:
        writers.append(partial(write_lcurve, out / Path(settings.training.lcurve).name))
    if settings.training.tensorboard:
        writers.append(TensorBoard(out / "tensorboard", known=known))
    return writers


def _architecture(settings: Settings, frames: Sequence[Frame], saved: LoadedModel | None) -> Architecture:
    """Complete the architecture from the data; refuse one that differs from that of the model to go on from."""
    wanted = settings.model
    present = {symbol for frame in frames for symbol in frame.symbols}
    elements = wanted.elements or sorted(present)
    missing = present - set(elements)
    if saved is not None and elements != list(saved.model.architecture.elements):
        raise InputError(
            f"model.elements = {elements} differs from {list(saved.model.architecture.elements)} of the model to go on "
            "from; set it back, or start anew in another folder"
        )
    if missing:
        raise InputError(
            f"the data hold {', '.join(sorted(missing))}, which model.elements = {elements} leaves out"
            if saved is None
            else f"the data hold {', '.join(sorted(missing))}, which the model to go on from does not know; "
            f"its elements are {', '.join(elements)}"
        )
    capacity = wanted.capacity or list(neighbour_capacity(frames, elements, wanted.cutoff))
    if not wanted.capacity and not any(capacity):
        raise InputError(
            f"no atom of the data has a neighbour within model.cutoff = {wanted.cutoff:g} Å; raise it, or check the "
            "unit of the positions"
        )
    if isinstance(capacity, dict):
        if set(capacity) != set(elements):
            raise InputError(f"model.capacity must name the elements {', '.join(elements)}, got {capacity}")
        capacity = [capacity[element] for element in elements]
    architecture = wanted.architecture(elements, capacity)
    if saved is not None and architecture != saved.model.architecture:
        old, new = saved.model.architecture.as_json(), architecture.as_json()
        key = next(key for key in new if new[key] != old[key])
        raise InputError(
            f"model.{key} = {new[key]} differs from {old[key]} of the model to go on from; "
            "set it back, or start anew in another folder"
        )
    return architecture


def _weights(settings: Settings, model: DeepPotential, saved: LoadedModel | None) -> Array:
    """Return the weights to start from, in the library and on the device of the run."""
    gain = settings.model.fitting_gain or (1.0 if settings.optimizer.preset == "adam" else _GAIN)
    fresh = partial(initial_weights, model.architecture, seed=settings.training.seed, fitting_gain=gain)
    return place(saved.weights if saved else fresh(), backend=settings.run.backend, device=settings.run.device)


def _datasets(
    model: Potential, train: Sequence[Frame], test: Sequence[Frame], like: Array, *, memory: float
) -> tuple[Dataset, Dataset]:
    """Check that all frames fit the model; what memory the training frames leave is for the others."""
    learned = Dataset(model, train, like=like, memory=memory)
    learned.check()
    judged = Dataset(model, test, like=like, memory=memory - learned.nbytes)
    judged.check()
    return learned, judged


def _optimizer(
    settings: Settings,
    model: DeepPotential | NodalPotential,
    weights: Array,
    layout: BlockLayout | None,
    train: Sequence[Frame],
    saved: LoadedModel | None,
) -> Optimizer:
    """Return the filter or Adam, restored if there is something to go on from."""
    if saved is not None and not saved.has_optimizer:
        saved = None
    kind = "adam" if layout is None else "filter"
    if saved is not None and saved.optimizer.get("type") != kind:
        raise InputError(
            f"optimizer.preset = {settings.optimizer.preset!r} cannot go on from a model trained with the "
            f"{saved.optimizer.get('type')}; start anew in another folder"
        )
    if layout is None:
        batches = -(-len(train) // settings.training.batch)
        adam = AdamOptimizer(model, settings.optimizer.adam(), weights, total_steps=settings.training.epochs * batches)
        if saved is not None:
            adam.restore(saved.optimizer, saved.arrays)
        return adam
    pace = measurements(settings.optimizer.recipe(1), train, batch=settings.training.batch)
    recipe = settings.optimizer.recipe(pace)
    if saved is None:
        return KalmanOptimizer(model, recipe, init(weights, layout, recipe.config, backend=settings.run.backend))
    coupled = bool(saved.optimizer.get("coupled"))
    if coupled != (recipe.config.rows > 0):
        raise InputError(
            f"optimizer.rows = {recipe.config.rows} needs another P than that of the model to go on from, which has "
            f"{'rows' if coupled else 'no rows'} that join its blocks; set back what has changed, or begin with its "
            "weights and a fresh filter in another folder: --start MODEL"
        )
    if tuple(saved.optimizer["sizes"]) != layout.sizes:
        raise InputError(
            f"optimizer.block_size = {recipe.block_size} gives other blocks than those of the model to go on from; "
            "set it back, or start anew in another folder"
        )
    state = restore_state(
        dict(saved.optimizer),
        saved.arrays,
        like=weights,
        backend=settings.run.backend,
        dtype=recipe.config.dtype,
    )
    return KalmanOptimizer(model, recipe, state)


def _fits(settings: Settings, start: LoadedModel) -> bool:
    """Return whether the filter of a model, if it has one, can go on as that of CONFIG."""
    if settings.optimizer.preset == "adam" or start.optimizer.get("type") != "filter":
        return True
    return bool(start.optimizer.get("coupled")) == (settings.optimizer.recipe(1).config.rows > 0)
