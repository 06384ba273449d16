"""Checks for faults of labelled frames that the data themselves reveal.

Each check has a threshold with a reason. The thresholds were chosen so that 21 published sets of metals, salts,
covalent solids, liquids and molecules pass with a margin.
"""

from collections.abc import Iterator

from ._check_energies import constant_labels, energies_apart
from ._check_forces import net_forces, outlier_forces, zero_forces
from ._check_geometry import length_units, repeated_frames, touching_atoms
from ._check_virials import tensions, virials, zero_virials
from .finding import Finding
from .inspection import Inspection

__all__ = ["doubtful_virials", "find_faults"]

_OF_VIRIALS = (zero_virials, tensions, virials)
_CHECKS = (
    length_units,
    touching_atoms,
    zero_forces,
    outlier_forces,
    net_forces,
    energies_apart,
    constant_labels,
    *_OF_VIRIALS,
    repeated_frames,
)


def find_faults(inspection: Inspection) -> list[Finding]:
    """Find implausible labels and frames.

    Parameters
    ----------
    inspection : Inspection
        Numbers of the frames, see `inspect_frames`.

    Returns
    -------
    list of Finding
        At most one for each check and, for virials and units, each file; empty if no fault is found.
    """
    return [finding for check in _CHECKS for finding in check(inspection)]


def doubtful_virials(inspection: Inspection) -> Iterator[Finding]:
    """Find virials that were not computed, or have another sign or unit."""
    return (finding for check in _OF_VIRIALS for finding in check(inspection))
