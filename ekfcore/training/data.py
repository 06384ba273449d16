"""The frames of a training: which it learns from and which it is judged by."""

from collections.abc import Sequence

from ekfcore.atoms import Frame, split_frames
from ekfcore.atoms.frame import check_labelled
from ekfcore.errors import InputError
from ekfcore.potentials.fingerprint import Fingerprint, find_frames
from ekfcore.potentials.model_file import LoadedModel

from .settings import Settings
from .sources import read_sources

__all__ = ["read_data"]

_Parts = tuple[list[Frame], list[Frame]]


def read_data(
    settings: Settings, *, saved: LoadedModel | None = None, start: LoadedModel | None = None
) -> tuple[list[Frame], list[Frame], str]:
    """Read the frames for training and for testing.

    Parameters
    ----------
    settings : Settings
        CONFIG.
    saved : LoadedModel, optional
        The training that goes on. Its frames stay what they were, in their order; from the start of an epoch there may
        be others besides.
    start : LoadedModel, optional
        The model that a training begins with.

    Returns
    -------
    train, test : list of Frame
        The frames.
    note : str
        What is to be told of them, if anything.

    Raises
    ------
    InputError
        If frames cannot be read, or those of the training that goes on are not there any more.
    """
    origin = saved or start
    elements = settings.model.elements or (list(origin.model.elements) if origin else None)
    train = read_sources(settings.data.train, require=(), elements=elements)
    test = read_sources(settings.data.test, require=(), elements=elements)
    for frame in [*train, *test]:
        check_labelled(frame)
    if saved is not None and saved.frames is not None:
        return _go_on(settings, train, test, saved.frames, saved)
    if not test:
        train, test = _split(settings, train)
    if saved is not None and saved.has_optimizer:
        return train, test, "the model file is older than the list of its frames: whether they are the same is unknown"
    return train, test, _seen(train, test, start)


def _split(settings: Settings, frames: Sequence[Frame]) -> _Parts:
    assert settings.data.test_fraction is not None  # the settings see to it
    if settings.data.test_fraction == 0:
        return list(frames), []
    return split_frames(frames, settings.data.test_fraction, settings.training.seed)


def _go_on(
    settings: Settings, train: Sequence[Frame], test: Sequence[Frame], known: Fingerprint, saved: LoadedModel
) -> tuple[list[Frame], list[Frame], str]:
    """Return the frames as they were, and the new ones behind them."""
    old_train, new_train = find_frames(train, known.train, "to train on")
    if settings.data.test:
        old_test, new_test = find_frames(test, known.test, "to test on")
    else:
        old_test, new = find_frames(new_train, known.test, "to test on")
        new_train, new_test = _share(settings, new)
    added = len(new_train) + len(new_test)
    where = f"epoch {saved.position.epoch}"
    if not added:
        return old_train, old_test, f"goes on after {where} with the same frames"
    if saved.position.batch:
        raise InputError(
            f"{added} frames are new, and this training stopped within an epoch; take them out, go on to the end of it "
            f"with --set training.epochs={saved.position.epoch + 1}, and add them then"
        )
    seen = _seen([*old_train, *new_train], [*old_test, *new_test], None)
    note = (
        f"goes on after {where} with {len(new_train)} new frames to train on and {len(new_test)} to test on; "
        "the others stay what they were, as do normalisation and energies of atoms"
    )
    return old_train + new_train, old_test + new_test, "\n".join(filter(None, [note, seen]))


def _share(settings: Settings, frames: Sequence[Frame]) -> _Parts:
    """Share new frames out; too few to be shared out are all for training."""
    fraction = settings.data.test_fraction or 0.0
    return _split(settings, frames) if 0 < round(fraction * len(frames)) < len(frames) else (list(frames), [])


def _seen(train: Sequence[Frame], test: Sequence[Frame], start: LoadedModel | None) -> str:
    """Tell of frames to test on that are learned from as well, here or by the model to start from."""
    now = Fingerprint.of(train, test)
    before = set(start.frames.train.tolist()) if start is not None and start.frames is not None else set()
    notes = [
        f"{count} of the {len(test)} frames to test on {where}; errors on them are no test"
        for learned, where in (
            (set(now.train.tolist()), "are among those to train on, too"),
            (before, "were trained on by the model to start from"),
        )
        if (count := sum(digest in learned for digest in now.test.tolist()))
    ]
    return "\n".join(notes)
