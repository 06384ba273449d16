"""Checks for implausible forces."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from .finding import Finding, name_frames
from .frame import Frame
from .inspection import REACH, Inspection
from .neighbours import neighbour_pairs

__all__ = ["net_forces", "outlier_forces", "zero_forces"]

_ASYMMETRY = 1e-3  # of the summed pull of all neighbours; perfect crystals with five decimals have 1e-5
_FEWEST = 5  # least number of frames to find outliers among
_FACTOR = 10.0  # times the 99 % quantile of forces in the calmer frames; at most 3.2 in published sets
_CALM = 0.5  # [eV/Å] least value of that quantile: compared with relaxed structures every force is large
_NET = 0.2  # of the sum expected for independent forces; at most 0.03 in the published sets
_NET_PER_ATOM = 0.02  # [eV/Å]; at most 0.014 in the published sets


def zero_forces(inspection: Inspection) -> Iterator[Finding]:
    """Find frames whose forces are all exactly zero, although no symmetry requires it."""
    silent = np.flatnonzero(inspection.largest_force == 0).tolist()
    found = [k for k in silent if _asymmetry(inspection.frames[k]) > _ASYMMETRY]
    if found:
        yield Finding.of(
            "zero forces",
            inspection,
            found,
            "all forces are exactly 0, which no symmetry asks for; they were not computed or not written: leave the "
            "frames out, or compute them again",
        )


def _asymmetry(frame: Frame) -> float:
    """Return the largest asymmetry of the surroundings of an atom, from 0 to 1.

    A force vanishes by symmetry if every pair force would: the pulls of all neighbours of each element sum to zero. The
    pulls decrease to zero at REACH, where rounding decides which atoms are neighbours.
    """
    try:
        i, j, vectors = neighbour_pairs(frame, REACH)
    except InputError:  # atoms on top of each other are another finding
        return 0.0
    if not len(i):
        return 0.0
    distances = np.linalg.norm(vectors, axis=1)
    pull = np.exp(-distances) * (1 - distances / REACH) ** 2
    elements, kind = np.unique(frame.numbers, return_inverse=True)
    total = np.zeros((frame.n_atoms, len(elements), 3))
    np.add.at(total, (i, kind[j]), pull[:, None] * vectors / distances[:, None])
    sizes = np.bincount(i, pull, minlength=frame.n_atoms)
    # The force on an atom far from all others is negligible in any case.
    sizes = np.maximum(sizes, 0.01 * sizes.max())
    return float((np.linalg.norm(total, axis=2).max(axis=1) / sizes).max())


def outlier_forces(inspection: Inspection) -> Iterator[Finding]:
    """Find frames with a force much larger than those of the others."""
    found = _outliers(inspection)
    if len(found):
        worst = found[inspection.largest_force[found].argmax()]
        frame = inspection.frames[worst]
        yield Finding.of(
            "outlier force",
            inspection,
            found,
            f"forces up to {inspection.largest_force[worst]:.4g} eV/Å (atom {inspection.atom[worst]} of "
            f"{name_frames([frame])}), more than {_FACTOR:.0f} times what 99 % of the atoms of the others stay below; "
            "leave the frames out, unless they are meant",
        )


def _outliers(inspection: Inspection) -> NDArray[np.intp]:
    """Return the indices of frames with a force much larger than those of the others."""
    known = np.flatnonzero(np.isfinite(inspection.largest_force))
    if len(known) < _FEWEST:
        return known[:0]
    ordered = known[np.argsort(inspection.largest_force[known])]
    # The frames with the largest forces do not count, so that outliers do not raise their own limit.
    calmer = [inspection.frames[k].forces for k in ordered[: min(len(known) - 1, int(0.95 * len(known)))]]
    sizes = np.linalg.norm(np.concatenate([forces for forces in calmer if forces is not None]), axis=1)
    limit = _FACTOR * max(float(np.quantile(sizes, 0.99)), _CALM)
    return known[inspection.largest_force[known] > limit]


def net_forces(inspection: Inspection) -> Iterator[Finding]:
    """Find frames whose forces do not add up to zero."""
    outliers = set(_outliers(inspection).tolist())
    fine = [k for k, frame in enumerate(inspection.frames) if frame.forces is not None and k not in outliers]
    if not fine:
        return
    forces = [inspection.frames[k].forces for k in fine]
    rms = np.sqrt(np.mean(np.sum(np.concatenate([f for f in forces if f is not None]) ** 2, axis=1)))
    net, sizes = inspection.net_force[fine], inspection.sizes[fine]
    wrong = (net > _NET * rms * np.sqrt(sizes)) & (net > _NET_PER_ATOM * sizes)
    if wrong.any():
        yield Finding.of(
            "net force",
            inspection,
            np.array(fine)[wrong],
            f"the forces do not add up to 0, but to {(net / sizes)[wrong].max():.3g} eV/Å per atom; forces of fixed "
            "atoms set to 0, a field outside, or forces of another frame: no function of distances has them",
        )
