"""Notes on the labels of a training: which are missing, and which are not learned."""

from collections.abc import Collection, Sequence

import numpy as np

from ekfcore.atoms import Frame
from ekfcore.atoms.checks import doubtful_virials
from ekfcore.atoms.inspection import inspect_frames
from ekfcore.errors import InputError

from .optimizer_settings import OptimizerSettings

__all__ = ["label_notes", "missing_labels", "undetermined_energies", "unseen_inputs", "without_doubtful_virials"]


def label_notes(
    train: Sequence[Frame], test: Sequence[Frame], optimizer: OptimizerSettings, given: Collection[str], doubt: str
) -> list[str]:
    """Return notes on labels that are missing and labels that are not learned; some notes may be empty.

    Parameters
    ----------
    train, test : sequence of Frame
        Each with a label.
    optimizer : OptimizerSettings
        Table of CONFIG.
    given : collection of str
        Elements whose energies are not fitted.
    doubt : str
        Why virials are left out, see `without_doubtful_virials`, or an empty string.

    Raises
    ------
    InputError
        If virials are to be learned and no frame has one.
    """
    missing = missing_labels(train, "to train on")
    return [
        missing and f"{missing}: what they have is learned",
        missing_labels(test, "to test on"),
        undetermined_energies(train, given),
        doubt or _virial_note(optimizer, train),
    ]


def missing_labels(frames: Sequence[Frame], purpose: str) -> str:
    """Return how many frames have no energy and how many no forces, as text, or an empty string.

    Parameters
    ----------
    frames : sequence of Frame
        Each with a label.
    purpose : str
        How messages call the use of the frames, as in ``"to train on"``.
    """
    without = {
        "energy": sum(frame.energy is None for frame in frames),
        "forces": sum(frame.forces is None for frame in frames),
    }
    whole = [
        f"none of the {len(frames)} frames {purpose} has {'an energy' if name == 'energy' else name}"
        for name, count in without.items()
        if count == len(frames)
    ]
    some = {name: count for name, count in without.items() if 0 < count < len(frames)}
    if not some:
        return "; ".join(whole)
    (first, count), *others = some.items()
    parts = [f"{count} {'has' if count == 1 else 'have'} no {first}", *(f"{n} no {name}" for name, n in others)]
    return "; ".join([*whole, f"of the {len(frames)} frames {purpose}, {' and '.join(parts)}"])


def undetermined_energies(frames: Sequence[Frame], given: Collection[str]) -> str:
    """Return a note on elements without given energy that occur in no frame with an energy, or an empty string."""
    present = {symbol for frame in frames for symbol in frame.symbols}
    known = {symbol for frame in frames if frame.energy is not None for symbol in frame.symbols}
    left = sorted(present - known - set(given))
    if not left:
        return ""
    return (
        f"no frame with an energy holds {', '.join(left)}: the energy of such an atom is 0 unless model.atom_energies "
        "gives it"
    )


def unseen_inputs(frames: Sequence[Frame]) -> str:
    """Return a note on inputs of the calculations that differ between frames and that the model does not see."""
    given = [
        {name: float(np.sum(np.asarray(values))) for name, values in [*f.arrays.items(), *f.info.items()]}
        for f in frames
    ]
    names = {name for totals in given for name in totals} - {"masses", "tags"}
    differ = [name for name in sorted(names) if len({round(totals.get(name, 0.0), 3) for totals in given}) > 1]
    return f"{', '.join(differ)} differ from frame to frame, which the model does not see" if differ else ""


def without_doubtful_virials(optimizer: OptimizerSettings, frames: Sequence[Frame]) -> tuple[OptimizerSettings, str]:
    """Leave out virials that look wrong, unless CONFIG asks for them explicitly.

    Parameters
    ----------
    optimizer : OptimizerSettings
        Table of CONFIG.
    frames : sequence of Frame
        Training frames.

    Returns
    -------
    optimizer : OptimizerSettings
        The same table, or one without virials.
    note : str
        Reason, or an empty string.
    """
    known = sum(frame.virial is not None for frame in frames)
    if not known or "virial_prefactor" in optimizer.given or not _virials_wanted(optimizer)[1]:
        return optimizer, ""
    doubt = next(doubtful_virials(inspect_frames(frames)), None)
    if doubt is None:
        return optimizer, ""
    return optimizer.model_copy(update={"virial_prefactor": 0.0}), (
        f"the virials of {known} frames are not learned, as they look wrong ({doubt.check}, see `ekfcore inspect`); "
        "optimizer.virial_prefactor = 1 learns them all the same"
    )


def _virials_wanted(optimizer: OptimizerSettings) -> tuple[str, bool]:
    """Return the key that decides whether virials are learned, and whether they are."""
    if optimizer.preset == "adam":
        return "virial_prefactors", max(optimizer.adam().virial_prefactors) > 0
    return "virial_prefactor", optimizer.recipe(1).virial_prefactor > 0


def _virial_note(optimizer: OptimizerSettings, frames: Sequence[Frame]) -> str:
    """Return a note on missing or unlearned virials; refuse CONFIG if it asks for virials and none exists."""
    key, wanted = _virials_wanted(optimizer)
    known = sum(frame.virial is not None for frame in frames)
    if wanted and not known and key in optimizer.given:
        raise InputError(
            f"optimizer.{key} asks for virials, and none of the {len(frames)} frames to train on has one; set it to 0 "
            'or add them (in extended XYZ: virial="..." or stress="..."; in deepmd/npy: virial.npy)'
        )
    if wanted and 0 < known < len(frames):
        return f"{known} of the {len(frames)} frames to train on have a virial"
    if known and not wanted:
        return f"the virials of {known} frames are not learned, as optimizer.{key} is 0; constant pressure needs them"
    return ""
