"""Put the energies of the atoms, which models compute one group after the other, in the order of the frame."""

from collections.abc import Sequence

import numpy as np

from ekfcore._typing import Array, Namespace

from .environment import Group, Statistics
from .nodal_environment import NodalGroup

__all__ = ["join_energies"]


def join_energies(
    xp: Namespace, statistics: Statistics, groups: Sequence[Group | NodalGroup], energies: Sequence[Array]
) -> Array:
    """Add the energy bias and sort.

    Parameters
    ----------
    xp : namespace
        Array library.
    statistics : Statistics
        Has the energy bias of each type.
    groups : sequence of Group or NodalGroup
        All groups of a frame of N atoms.
    energies : sequence of array, shapes (n, 1)
        What the networks say of the atoms of each group [eV].

    Returns
    -------
    array, shape (N,)
        Energies of the atoms [eV].
    """
    parts = [
        energy[:, 0] + float(statistics.energy_bias[group.type]) for group, energy in zip(groups, energies, strict=True)
    ]
    places = np.argsort(np.concatenate([group.atoms for group in groups]))
    return xp.take(xp.concat(parts), xp.asarray(places, device=parts[0].device), axis=0)
