"""Elements of a model, and those of them that occur in its training frames."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.atoms.energies import fit_bias
from ekfcore.atoms.potential import Potential
from ekfcore.errors import InputError

__all__ = ["check_energies", "learn_elements", "unseen_pairs", "without_unknown"]


def learn_elements(model: Potential, frames: Sequence[Frame], given: Mapping[str, float]) -> Potential:
    """Add to the learned elements of a model those that occur in these frames for the first time.

    Their constants come from the frames; those of the other elements do not change.

    Parameters
    ----------
    model : Potential
        The model to continue with.
    frames : sequence of Frame
        Frames to train on.
    given : mapping of str to float
        Energies of atoms that are not to be fitted [eV].
    """
    present = {symbol for frame in frames for symbol in frame.symbols}
    if not present & set(model.unknown):
        return model
    new = {element for element in model.unknown if element in present}
    known = {e: float(b) for e, b in zip(model.elements, model.energy_bias, strict=True) if e not in new}
    return model.learned(frames, fit_bias(frames, model.elements, fixed={**given, **known}))


def check_energies(model: Potential, given: Mapping[str, float]) -> None:
    """Refuse energies of atoms [eV] that are not those of the model.

    Raises
    ------
    InputError
        If an energy differs, or the model does not have the element.
    """
    elements = model.elements
    for element, energy in given.items():
        if element not in elements:
            raise InputError(f"model.atom_energies names {element}, but the elements are {', '.join(elements)}")
        kept = float(model.energy_bias[elements.index(element)])
        if energy != kept:
            raise InputError(
                f"model.atom_energies: {element} = {energy} differs from {kept} of the model to go on from; set it back"
            )


def without_unknown(model: Potential, frames: Sequence[Frame]) -> tuple[list[Frame], str]:
    """Return the test frames whose elements the model has learned, and a note on those that it has not learned.

    Raises
    ------
    InputError
        If no such frame is left.
    """
    unknown = model.unknown
    if not unknown:
        return list(frames), ""
    left = [frame for frame in frames if not set(frame.symbols) & set(unknown)]
    names = ", ".join(unknown)
    if not left:
        raise InputError(
            f"all {len(frames)} frames to test on hold {names}, which no frame to train on has; give others to test or "
            "to train on"
        )
    note = f"no frame to train on holds {names}; the model refuses {'it' if len(unknown) == 1 else 'them'}"
    if len(left) == len(frames):
        return left, note
    return left, f"{note}: {len(frames) - len(left)} of the {len(frames)} frames to test on hold it and are left out"


def unseen_pairs(frames: Sequence[Frame], cutoff: float) -> str:
    """Return a note on pairs of elements that never come within the cutoff [Å], or an empty string; 0 is no cutoff."""
    if not cutoff:
        return ""
    present = sorted({symbol for frame in frames for symbol in frame.symbols})
    apart = set(combinations(present, 2))
    for frame in frames:
        if not any(set(pair) <= set(frame.symbols) for pair in apart):
            continue
        i, j, _ = neighbour_pairs(frame, cutoff)
        symbols = np.asarray(frame.symbols)
        apart -= {(str(a), str(b)) for a, b in np.unique(np.stack([symbols[i], symbols[j]], axis=1), axis=0)}
    pairs = [f"{a} and {b}" for a, b in sorted(apart)]
    if not pairs:
        return ""
    return (
        f"no frame to train on has {', or '.join(pairs)} within the cutoff of each other; what the model says of them "
        "together is not learned"
    )
