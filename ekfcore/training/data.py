"""The training frames and the test frames of a run."""

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
        The run to resume. Its frames keep their order and their part, training or test; new frames may be added at
        the start of an epoch.
    start : LoadedModel, optional
        The model that the training starts from.

    Returns
    -------
    train, test : list of Frame
        The frames.
    note : str
        Note for the user, or an empty string.

    Raises
    ------
    InputError
        If frames cannot be read, or frames of the run to resume are missing.
    """
    origin = saved or start
    elements = settings.model.elements or (list(origin.model.elements) if origin else None)
    train = read_sources(settings.data.train, require=(), elements=elements)
    test = read_sources(settings.data.test, require=(), elements=elements)
    for frame in [*train, *test]:
        check_labelled(frame)
    if saved is not None and saved.frames is not None:
        return _resumed_data(settings, train, test, saved.frames, saved)
    if not test:
        train, test = _split(settings, train)
    if saved is not None and saved.has_optimizer:
        return train, test, "the model file is older than the list of its frames: whether they are the same is unknown"
    return train, test, _overlap_note(train, test, start)


def _split(settings: Settings, frames: Sequence[Frame]) -> _Parts:
    assert settings.data.test_fraction is not None  # guaranteed by `DataSettings`
    if settings.data.test_fraction == 0:
        return list(frames), []
    return split_frames(frames, settings.data.test_fraction, settings.training.seed)


def _resumed_data(
    settings: Settings, train: Sequence[Frame], test: Sequence[Frame], known: Fingerprint, saved: LoadedModel
) -> tuple[list[Frame], list[Frame], str]:
    """Return the frames of the run in their order, followed by the new ones."""
    old_train, new_train = find_frames(train, known.train, "to train on")
    if settings.data.test:
        old_test, new_test = find_frames(test, known.test, "to test on")
    else:
        old_test, new = find_frames(new_train, known.test, "to test on")
        new_train, new_test = _split_new(settings, new)
    added = len(new_train) + len(new_test)
    where = f"epoch {saved.position.epoch}"
    if not added:
        return old_train, old_test, f"goes on after {where} with the same frames"
    if saved.position.batch:
        raise InputError(
            f"{added} frames are new, and this training stopped within an epoch; take them out, go on to the end of it "
            f"with --set training.epochs={saved.position.epoch + 1}, and add them then"
        )
    overlap = _overlap_note([*old_train, *new_train], [*old_test, *new_test], None)
    note = (
        f"goes on after {where} with {len(new_train)} new frames to train on and {len(new_test)} to test on; "
        "the others stay what they were, as do normalisation and energies of atoms"
    )
    return old_train + new_train, old_test + new_test, "\n".join(filter(None, [note, overlap]))


def _split_new(settings: Settings, frames: Sequence[Frame]) -> _Parts:
    """Split new frames into training and test frames; too few to split are all for training."""
    fraction = settings.data.test_fraction or 0.0
    return _split(settings, frames) if 0 < round(fraction * len(frames)) < len(frames) else (list(frames), [])


def _overlap_note(train: Sequence[Frame], test: Sequence[Frame], start: LoadedModel | None) -> str:
    """Return a note on test frames that are also training frames, here or of the model to start from."""
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
