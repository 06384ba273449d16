"""Build a training from CONFIG."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.digest import digest_of
from ekfcore.atoms.potential import Potential
from ekfcore.checkpoint import restore_state
from ekfcore.distributed.sharded import Sharded
from ekfcore.errors import InputError
from ekfcore.files import is_vacant, make_folder
from ekfcore.filter import init
from ekfcore.partition import BlockLayout
from ekfcore.potentials.dataset import Dataset
from ekfcore.potentials.fingerprint import Fingerprint
from ekfcore.potentials.model_file import MODEL_FILE, LoadedModel, load_model
from ekfcore.potentials.placing import place_weights
from ekfcore.potentials.position import EpochRecord, Position
from ekfcore.ranks import ALONE, Ranks
from ekfcore.share import Share

from ._layout import fitting_layout
from ._resume import with_batch, with_beginning
from .adam import AdamOptimizer
from .bias import refit_bias
from .data import read_data
from .elements import check_energies, learn_elements, unseen_pairs, without_unknown
from .kalman import KalmanOptimizer
from .labels import label_notes, unseen_inputs, without_doubtful_virials
from .lcurve import write_lcurve
from .loop import Optimizer, Trainer
from .records import METRICS_FILE, write_metrics
from .schedule import measurements
from .settings import Settings
from .tensorboard import TensorBoard

__all__ = ["prepare"]

# Factor on initial weights: a filter then needs fewer steps, see docs/explanation/differences.md; Adam ends higher.
_GAIN = 10.0


def prepare(
    settings: Settings,
    out: Path,
    *,
    resume: bool = False,
    start: LoadedModel | None = None,
    shift_energies: bool = False,
    inputs: str = "",
    ranks: Ranks = ALONE,
) -> Trainer:
    """Read the data, build or restore the model, and return a trainer.

    Parameters
    ----------
    settings : Settings
        CONFIG.
    out : Path
        Folder for the model and the metrics; made here.
    resume : bool
        Continue from the model in `out`; start from the beginning if the training was killed before it saved one.
    start : LoadedModel, optional
        Model whose weights and filter the training starts from, unless it resumes one; with a fresh filter if the model
        has none. Adam always restarts with the first learning rate.
    shift_energies : bool
        Fit the energies of `start` to the training frames first, see `refit_bias`.
    inputs : str
        Kept in the model file, see `LoadedModel`.
    ranks : Ranks
        Processes that train together; each calls this with the same arguments and sees the same files.

    Raises
    ------
    InputError
        If the data, the settings, the memory or the folder do not allow the training.
    CheckpointError
        If the model to continue from cannot be used.
    """
    _check_folder(out, resume)
    begun = out.is_dir() and is_vacant(out)
    saved = load_model(out / MODEL_FILE) if resume and not begun else None
    start = None if saved else start
    settings = with_batch(settings, saved, ranks)
    settings, unheard = with_beginning(settings, saved) if saved else (settings, "")
    train, test, note = read_data(settings, saved=saved, start=start)
    frames = Fingerprint.of(train, test)
    _agree(ranks, settings, frames, saved or start)
    given = settings.model.given_energies
    optimizer, doubt = without_doubtful_virials(settings.optimizer, train)
    notes = [note, *label_notes(train, test, settings.optimizer, given, doubt), unseen_inputs(train), unheard]
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
        start = start.without_optimizer()  # its learning rate has decayed already
    if start is not None and not _fits(settings, start):
        start = start.without_optimizer()
        notes.append("the filter of the model to start from is of another form; its weights begin with a fresh one")
    origin = saved or start
    model, settings = _model(settings, train, test, origin, resumed=saved is not None)
    layout = fitting_layout(settings, model.layer_sizes, ranks)
    share = _share(settings, layout, ranks)
    if ranks.rank == 0:
        make_folder(out)
    check_energies(model, given)
    test, note = without_unknown(model, test)
    notes += [note, "" if origin else unseen_pairs(train, model.cutoff)]
    like = _weights(settings, model, origin)
    model = model if saved else model.refined(like, train)  # the loop refines the model of a resumed training
    position = saved.position if saved else Position()
    datasets = _datasets(model, train, test, like, memory=settings.run.sample_memory * 2**30, ranks=ranks)
    return Trainer(
        model=model,
        optimizer=_optimizer(
            settings.model_copy(update={"optimizer": optimizer}), model, like, layout, share, train, origin, ranks
        ),
        train=datasets[0],
        test=datasets[1],
        epochs=settings.training.epochs,
        batch=settings.training.frames_a_step,
        seed=settings.training.seed,
        settings=settings.as_json(),
        out=out,
        frames=frames,
        position=position,
        writers=_writers(settings, out, known=len(position.records)) if ranks.rank == 0 else [],
        notes=[note for note in notes if note],
        inputs=inputs,
        ranks=ranks,
    )


def _agree(ranks: Ranks, settings: Settings, frames: Fingerprint, origin: LoadedModel | None) -> None:
    """See that all ranks do the same: each makes every update, with gradients of the others."""
    chosen = settings.model_dump(mode="json", exclude={"data", "run"})
    ranks.agree("settings", f"digest {digest_of(chosen)[:16]}")
    digest = digest_of(frames.train.tobytes(), frames.test.tobytes())
    ranks.agree(
        "data", f"{len(frames.train)} frames to train on and {len(frames.test)} to test on, digest {digest[:16]}"
    )
    if origin is not None:
        ranks.agree("weights", f"{origin.position.step} steps, digest {digest_of(origin.weights.tobytes())[:16]}")


def _share(settings: Settings, layout: BlockLayout | None, ranks: Ranks) -> Share | None:
    """Return which part of P this rank keeps; None where there is no P, or one process has all of it."""
    if layout is None or ranks is ALONE:
        return None
    return Sharded(layout, ranks, rows=settings.optimizer.recipe(1).config.rows)


def _model(
    settings: Settings, train: Sequence[Frame], test: Sequence[Frame], origin: LoadedModel | None, *, resumed: bool
) -> tuple[Potential, Settings]:
    """Return the model, and CONFIG completed with what the model or the data determine."""
    wanted = settings.model
    if origin is None:
        model = wanted.begin(train, test, seed=settings.training.seed)
    else:
        kind = origin.model.header()["type"]
        if wanted.type != kind:
            raise InputError(
                f'model.type = "{wanted.type}" differs from "{kind}" of the model to go on from; set it back, or start '
                "anew in another folder"
            )
        wanted = wanted.completed(origin.model)
        model = wanted.go_on(origin.model, [*train, *test], resumed=resumed)
    return model, settings.model_copy(update={"model": wanted.completed(model)})


def _check_folder(out: Path, resume: bool) -> None:
    """Refuse a folder that is not empty, or for a resumed training one without a model."""
    if resume and not (out / MODEL_FILE).exists() and not (out.is_dir() and is_vacant(out)):
        raise InputError(
            f"{out} holds no {MODEL_FILE} to go on from; give the folder of a run with --out, or leave out --resume to "
            "start one in a new folder"
        )
    if not resume and not is_vacant(out):
        raise InputError(f"{out} exists already; go on from it with --resume, or choose another folder with --out")


def _writers(settings: Settings, out: Path, *, known: int) -> list[Callable[[Sequence[EpochRecord]], None]]:
    """Return the writers of the errors of each epoch; `known` is the number of records written before."""
    writers: list[Callable[[Sequence[EpochRecord]], None]] = [partial(write_metrics, out / METRICS_FILE)]
    if settings.training.lcurve:
        writers.append(partial(write_lcurve, out / Path(settings.training.lcurve).name))
    if settings.training.tensorboard:
        writers.append(TensorBoard(out / "tensorboard", known=known))
    return writers


def _weights(settings: Settings, model: Potential, saved: LoadedModel | None) -> Array:
    """Return the initial weights, in the library and on the device of the run."""
    gain = 1.0 if settings.optimizer.preset == "adam" else _GAIN
    fresh = partial(settings.model.initial_weights, model, seed=settings.training.seed, gain=gain)
    weights = saved.weights if saved else fresh()
    return place_weights(model, weights, backend=settings.run.backend, device=settings.run.device)


def _datasets(
    model: Potential, train: Sequence[Frame], test: Sequence[Frame], like: Array, *, memory: float, ranks: Ranks
) -> tuple[Dataset, Dataset]:
    """Return checked data sets; test frames may use the memory that training frames leave."""
    training = Dataset(model, train, like=like, memory=memory, ranks=ranks)
    training.check()
    testing = Dataset(model, test, like=like, memory=memory - training.nbytes, ranks=ranks)
    testing.check()
    return training, testing


def _optimizer(
    settings: Settings,
    model: Potential,
    weights: Array,
    layout: BlockLayout | None,
    share: Share | None,
    train: Sequence[Frame],
    saved: LoadedModel | None,
    ranks: Ranks,
) -> Optimizer:
    """Return the filter or Adam, restored if a saved optimizer exists."""
    if saved is not None and not saved.has_optimizer:
        saved = None
    kind = "adam" if layout is None else "filter"
    if saved is not None and saved.optimizer.get("type") != kind:
        raise InputError(
            f"optimizer.preset = {settings.optimizer.preset!r} cannot go on from a model trained with the "
            f"{saved.optimizer.get('type')}; start anew in another folder"
        )
    if layout is None:
        batches = -(-len(train) // settings.training.frames_a_step)
        total_steps = settings.training.epochs * batches
        adam = AdamOptimizer(model, settings.optimizer.adam(), weights, total_steps=total_steps, ranks=ranks)
        if saved is not None:
            adam.restore(saved.optimizer, saved.arrays)
        return adam
    per_epoch = measurements(settings.optimizer.recipe(1), train, batch=settings.training.frames_a_step)
    recipe = settings.optimizer.recipe(per_epoch)
    if saved is None:
        state = init(weights, layout, recipe.config, backend=settings.run.backend, share=share)
        return KalmanOptimizer(model, recipe, state, ranks)
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
        share=share,
    )
    return KalmanOptimizer(model, recipe, state, ranks)


def _fits(settings: Settings, start: LoadedModel) -> bool:
    """Return whether the filter of a model, if it has one, has the form that CONFIG asks for."""
    if settings.optimizer.preset == "adam" or start.optimizer.get("type") != "filter":
        return True
    return bool(start.optimizer.get("coupled")) == (settings.optimizer.recipe(1).config.rows > 0)
