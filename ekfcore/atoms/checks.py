"""What is wrong with labelled frames, as far as they tell it themselves.

Each check has a threshold with a reason. They were chosen on 21 published sets of metals, salts, covalent solids,
liquids and molecules, so that these pass, and leave room between them and a fault.
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
    """Look for labels that cannot be meant.

    Parameters
    ----------
    inspection : Inspection
        Numbers of the frames, see `inspect_frames`.

    Returns
    -------
    list of Finding
        At most one a check and, for virials and units, a file; none where all is well, or where the data do not tell.
    """
    return [finding for check in _CHECKS for finding in check(inspection)]


def doubtful_virials(inspection: Inspection) -> Iterator[Finding]:
    """Look for virials that were not computed, or have another sign or unit."""
    return (finding for check in _OF_VIRIALS for finding in check(inspection))
