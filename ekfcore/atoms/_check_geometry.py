"""Checks for overlapping atoms, wrong units of length, and repeated frames."""

from collections.abc import Iterator

import numpy as np

from ._same import TOLERANCE, matching, same_frames
from .finding import Finding, name_frames
from .frame import Frame
from .inspection import Inspection, alike, file_of

__all__ = ["length_units", "repeated_frames", "touching_atoms"]

_TOUCHING = 0.4  # of the sum of covalent radii; 0.61 is the least in the published sets, of Li-Li and Mo-Mo
_UNITS = 0.6, 1.5  # bounds of the median; 0.78 to 1.03 in the published sets, and Bohr for Å is a factor of 1.89
_NOBLE = {2, 10, 18, 36, 54, 86}  # noble gases, whose neighbours are far beyond a covalent radius
_ENERGY, _FORCE = 1e-3, 0.05  # [eV/atom, eV/Å] above the differences of repeated calculations with fine settings


def touching_atoms(inspection: Inspection) -> Iterator[Finding]:
    """Find frames with atoms closer than any bond."""
    ratios = np.array([contacts.ratio for contacts in inspection.contacts])
    if len(found := np.flatnonzero(ratios < _TOUCHING)):
        worst = found[ratios[found].argmin()]
        i, j = inspection.contacts[worst].atoms
        frame = inspection.frames[worst]
        yield Finding.of(
            "touching atoms",
            inspection,
            found,
            f"atoms lie on top of each other, down to {ratios[worst]:.2f} of the sum of their covalent radii "
            f"({frame.symbols[i]} {i} and {frame.symbols[j]} {j} of {name_frames([frame])}); correct positions or "
            "cell, or leave them out",
        )


def length_units(inspection: Inspection) -> Iterator[Finding]:
    """Find files whose nearest neighbours are all too close or too far."""
    for same in alike(file_of(frame)[0] for frame in inspection.frames):
        some = [
            k
            for k in same
            if inspection.contacts[k].nearest and not _NOBLE & set(inspection.frames[k].numbers.tolist())
        ]
        middle = float(np.median([inspection.contacts[k].ratio for k in some])) if some else 1.0
        if not _UNITS[0] < middle < _UNITS[1]:
            yield Finding.of(
                "unit of length",
                inspection,
                some,
                f"the nearest atoms are {middle:.2f} of the sum of their covalent radii apart, the median of the file; "
                "look at the unit of length, 1 Bohr is 0.529 Å",
            )


def repeated_frames(inspection: Inspection) -> Iterator[Finding]:
    """Find equal frames: training frames among the test frames, duplicates, and those with other labels."""
    frames, n_train = inspection.frames, inspection.n_train
    leaked: list[tuple[int, int]] = []
    copies: list[tuple[int, int]] = []
    other: list[tuple[int, int, tuple[float, float]]] = []
    for group in same_frames(frames):
        in_train = group[0] < n_train
        for k in group[1:]:
            (leaked if in_train and k >= n_train else copies).append((k, group[0]))
            if any(apart := _labels_apart(frames[group[0]], frames[k])):
                other.append((k, group[0], apart))
    if other:
        other.sort()
        energy, force = np.max([apart for _, _, apart in other], axis=0)
        yield Finding.of(
            "other labels",
            inspection,
            [k for k, _, _ in other],
            f"the same geometry as other frames{_original(frames[other[0][1]])}, with other labels: energies up to "
            f"{energy:.3g} eV/atom and forces up to {force:.3g} eV/Å apart; find out which are right",
        )
    for check, pairs, text in (
        (
            "in train and test",
            leaked,
            "to test on, and the same as frames to train on{}; errors on them prove nothing",
        ),
        (
            "duplicates",
            copies,
            "the same as other frames{}, which count more often for it; leave them out, unless it is meant",
        ),
    ):
        if pairs:
            pairs.sort()  # the message names the original of the first frame
            yield Finding.of(check, inspection, [k for k, _ in pairs], text.format(_original(frames[pairs[0][1]])))


def _original(frame: Frame) -> str:
    return f" (to {TOLERANCE:g} Å; the first as {name_frames([frame])})"


def _labels_apart(one: Frame, other: Frame) -> tuple[float, float]:
    """Return the differences of labels of the same frame [eV/atom, eV/Å]; zeros if they may be due to rounding."""
    order = matching(one, other)
    if order is None:
        return 0.0, 0.0
    energy = 0.0 if one.energy is None or other.energy is None else abs(one.energy - other.energy) / one.n_atoms
    force = 0.0 if one.forces is None or other.forces is None else float(np.abs(one.forces[order] - other.forces).max())
    return (energy, force) if energy > _ENERGY or force > _FORCE else (0.0, 0.0)
