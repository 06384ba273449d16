"""Which labels the frames of a training lack."""

from collections.abc import Collection, Sequence

from ekfcore.atoms import Frame

__all__ = ["missing_labels", "undetermined_energies"]


def missing_labels(frames: Sequence[Frame], purpose: str) -> str:
    """Say how many frames have no energy and how many no forces, or nothing.

    Parameters
    ----------
    frames : sequence of Frame
        Each with a label.
    purpose : str
        What they are for.
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
    """Say of which elements no frame with an energy has an atom, unless theirs are given, or nothing."""
    present = {symbol for frame in frames for symbol in frame.symbols}
    known = {symbol for frame in frames if frame.energy is not None for symbol in frame.symbols}
    left = sorted(present - known - set(given))
    if not left:
        return ""
    return (
        f"no frame with an energy holds {', '.join(left)}: the energy of such an atom is 0 unless model.atom_energies "
        "gives it"
    )
