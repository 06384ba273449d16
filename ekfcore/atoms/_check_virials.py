"""Checks for virials that are zero, or have another sign or unit."""

from collections.abc import Iterator

import numpy as np

from ._virial_sign import by_energies, by_forces
from .finding import Finding
from .inspection import Inspection, alike, file_of

__all__ = ["tensions", "virials", "zero_virials"]

_TENSION = -100.0  # [GPa] beyond the ideal strength of diamond, which is 95
_CLEAR, _CERTAIN = (
    0.7,
    0.9,
)  # correlation with the expected virials: at least 0.97 for correct ones, 0.2 by chance
_FACTORS = 2.0, 5.0  # largest error of the factor from energies, and from forces; kbar and GPa differ by 10


def zero_virials(inspection: Inspection) -> Iterator[Finding]:
    """Find virials that are exactly zero."""
    found = [
        k
        for k, frame in enumerate(inspection.frames)
        if frame.virial is not None and not np.any(frame.virial) and inspection.contacts[k].nearest
    ]
    if found:
        text = "all components of the virial are exactly 0; it was not computed: remove it, or compute it"
        yield Finding.of("zero virials", inspection, found, text)


def tensions(inspection: Inspection) -> Iterator[Finding]:
    """Find frames under a tension that no solid bears."""
    found = np.flatnonzero(inspection.pressures < _TENSION)
    if len(found):
        yield Finding.of(
            "tension",
            inspection,
            found,
            f"pressures down to {inspection.pressures[found].min():.4g} GPa, a tension that no solid bears; look at "
            "sign and unit of the stress, and whether a part of it is missing, or do not learn the virials",
        )


def virials(inspection: Inspection) -> Iterator[Finding]:
    """Find files whose virials have another sign or unit than their energies or forces imply."""
    for same in alike(file_of(frame)[0] for frame in inspection.frames):
        some = [k for k in same if inspection.frames[k].virial is not None]
        frames = [inspection.frames[k] for k in some]
        witnesses = {"energies": by_energies(frames), "forces": by_forces(frames)}
        correlations = [witness.correlation for witness in witnesses.values()]
        if min(correlations) < -_CLEAR and max(correlations) < _CLEAR:
            name = min(witnesses, key=lambda each: witnesses[each].correlation)
            yield Finding.of(
                "virial sign",
                inspection,
                some,
                f"the virials have the wrong sign: with those that the {name} imply they correlate by "
                f"{witnesses[name].correlation:.2f}; turn the sign of stress or virial (the virial is minus the "
                "volume times ASE's stress, positive under compression)",
            )
        for (name, witness), most in zip(witnesses.items(), _FACTORS, strict=True):
            if witness.correlation > _CERTAIN and not 1 / most < witness.factor < most:
                yield Finding.of(
                    "virial unit",
                    inspection,
                    some,
                    f"virials are {witness.factor:.3g} times those that the {name} imply; look at the unit: virials "
                    "are in eV and stresses in eV/Å^3, which is 160.2 GPa or 1602 kbar",
                )
                break
