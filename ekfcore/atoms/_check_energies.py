"""Checks for implausible energies, and for labels that never change."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .finding import Finding
from .inspection import Inspection, alike, composition

__all__ = ["constant_labels", "energies_apart"]

_FEWEST = 5  # least number of frames of a composition to compare with
_GAP, _SPREADS = 0.5, 5.0  # least gap [eV/atom] and in interquartile ranges; no published set exceeds both
_BOND = 15.0  # [eV/atom] above any cohesive energy: tungsten has 9
_MARGIN = 0.05  # relative difference in density or distance that explains half an eV/atom
_TOUCHING = 0.4  # of the sum of covalent radii: closer atoms may have any energy
_MOVED = 1e-3  # least difference of distances, relative to the sum of radii, between different geometries


def energies_apart(inspection: Inspection) -> Iterator[Finding]:
    """Find frames whose energies are far from others of the same composition, without a reason in their geometry.

    Between compositions, the residuals of the fitted energies of the elements contain heats of formation of some
    eV/atom, so that only a gap larger than any bond energy is a finding.
    """
    known = np.isfinite(inspection.residuals) & np.array([c.ratio > _TOUCHING for c in inspection.contacts])
    together = np.array([bool(contacts.nearest) for contacts in inspection.contacts])  # isolated atoms have no cohesion
    odd: list[int] = []
    gaps = []
    for same in alike(composition(frame) for frame in inspection.frames):
        rest = np.array([k for k in same if known[k] and together[k]], dtype=np.intp)
        while len(rest) >= _FEWEST:
            few, rest, gap = _split(inspection.residuals, rest)
            if gap < max(_GAP, _SPREADS * np.subtract(*np.percentile(inspection.residuals[rest], [75, 25]))):
                break
            if gap > _BOND or not _explained(inspection, few, rest):
                odd += few.tolist()
                gaps.append(gap)
    rest = np.array([k for k in np.flatnonzero(known) if k not in odd], dtype=np.intp)
    while len(rest) > 1:
        few, rest, gap = _split(inspection.residuals, rest)
        if gap < _BOND:
            break
        odd += few.tolist()
        gaps.append(gap)
    if odd:
        yield Finding.of(
            "energies apart",
            inspection,
            sorted(odd),
            f"energies lie up to {max(gaps):.3g} eV/atom apart from those of the others, which their geometry does "
            "not explain; look for another zero of energy (code, functional, pseudopotential), another unit, or a "
            "calculation that went wrong",
        )


def _split(values: NDArray[np.float64], some: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], float]:
    """Return the smaller and the larger part on the two sides of the largest gap, and that gap."""
    ordered = some[np.argsort(values[some])]
    gaps = np.diff(values[ordered])
    at = int(gaps.argmax()) + 1
    few, rest = sorted((ordered[:at], ordered[at:]), key=len)
    return few, rest, float(gaps[at - 1])


def _explained(inspection: Inspection, few: NDArray[np.intp], rest: NDArray[np.intp]) -> bool:
    """Whether frames are denser, looser or closer than all others, so that their energies may differ as well."""
    crowding, ratio = (np.array([getattr(c, name) for c in inspection.contacts]) for name in ("crowding", "ratio"))
    middle, least = np.median(crowding[few]), np.median(ratio[few])
    within = (1 - _MARGIN) * crowding[rest].min() <= middle <= (1 + _MARGIN) * crowding[rest].max()
    return bool(not within or least < (1 - _MARGIN) * ratio[rest].min())


def constant_labels(inspection: Inspection) -> Iterator[Finding]:
    """Find compositions all of whose frames have one label."""
    for same in alike((frame.n_atoms, composition(frame)) for frame in inspection.frames):
        ratios = [inspection.contacts[k].ratio for k in same]
        if len(same) < _FEWEST or not np.isfinite(ratios).all() or np.ptp(ratios) < _MOVED:
            continue  # equal labels are correct for equal geometries
        for name in ("energy", "forces", "virial"):
            values = [getattr(inspection.frames[k], name) for k in same]
            if any(value is None for value in values) or (name != "energy" and not np.any(values[0])):
                continue
            if all(np.array_equal(value, values[0]) for value in values[1:]):
                yield Finding.of(
                    "constant labels",
                    inspection,
                    same,
                    f"{len(same)} frames of different geometry all have the same {name}"
                    + (f", {values[0]:.10g} eV" if name == "energy" else "")
                    + "; give each its own",
                )
