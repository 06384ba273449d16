"""Energy, forces, virial and weight of an ASE configuration, from any place and under any unambiguous name.

Names are searched in this order: the name that the user gave, the name that ASE knows, and similar names such as
``REF_energy``, ``Energy`` or ``virials``. Only one similar name may be present.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._given import GIVEN_INFO
from ._options import ReadOptions
from ._stated_units import plain, units_of

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["CONVERGED", "Labels", "energy_gap", "labels_of"]

_VOIGT = [0, 5, 4, 5, 1, 3, 4, 3, 2]  # xx yy zz yz xz xy -> the nine components, row by row

# The free energy comes first: the forces belong to it.
_NAMES = {
    "energy": ("free_energy", "energy"),
    "forces": ("forces", "force"),
    "virial": ("virial",),
    "stress": ("stress",),
    "weight": (),
}
_NEAR = {
    "energy": ("free_energy", "energy", "energies"),
    "forces": ("forces", "force"),
    "virial": ("virial", "virials"),
    "stress": ("stress", "stresses"),
    "weight": ("weight", "config_weight"),
}
_PREFIXES = (
    *("ref", "reference", "dft", "qm", "target", "true"),
    *("vasp", "qe", "cp2k", "castep", "aims", "abacus", "siesta", "gpaw", "orca", "pwmat"),
)
CONVERGED = ("converged", "scf_converged", "is_converged")
"""Names of flags of convergence of a frame, in lower case."""

# Names that are not reported as unused: those of ASE, of the origin of a frame, and those used elsewhere.
_SILENT = {
    *CONVERGED,
    *("numbers", "positions", "tags", "momenta", "masses", "initial_magmoms", "initial_charges", "type", "id"),
    *GIVEN_INFO,
    *("config_type", "unique_id", "data", "timestep", "step", "time", "temperature", "frame_key", "seconds"),
}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Labels:
    """Labels of a configuration, in the units of `Frame`.

    Parameters
    ----------
    energy, forces, virial, weight : float or array, optional
        As in `Frame`.
    length : float
        Unit of its positions and cell [Å].
    notes : tuple of str
        Notes for the user on names and units.
    unused : tuple of str
        Unused names in ``info`` and ``arrays``.
    keys : frozenset of str
        Quantities whose key, as given by the user, was found.
    """

    energy: float | None
    forces: NDArray[np.float64] | None
    virial: NDArray[np.float64] | None
    weight: float = 1.0
    length: float = 1.0
    notes: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    keys: frozenset[str] = field(default_factory=frozenset)


def labels_of(atoms: "Atoms", source: str, options: ReadOptions | None = None) -> Labels:
    """Return the labels of a configuration; nothing is calculated.

    Parameters
    ----------
    atoms : ase.Atoms
        The configuration.
    source : str
        Origin of the configuration, for messages.
    options : ReadOptions, optional
        The user's names of the labels, and units.

    Raises
    ------
    InputError
        If a label is no number, a unit is unknown, or two names could be meant.
    """
    options = options or ReadOptions()
    found = _Found(atoms, source, options)
    energy, forces, virial = found.energy(), found.forces(), found.virial()
    weight = found.weight()
    held = {*atoms.info, *atoms.arrays}
    return Labels(
        energy=energy,
        forces=forces,
        virial=virial,
        weight=weight,
        length=found.units["length"],
        notes=tuple(found.notes),
        unused=tuple(sorted(str(name) for name in held - found.used if plain(str(name)) not in _SILENT)),
        keys=frozenset(quantity for quantity in _NAMES if options.key(quantity) in found.used),
    )


def energy_gap(atoms: "Atoms", source: str) -> float:
    """Difference of free energy and energy [eV/atom]; 0 if one of them is missing or not a single number."""
    free, other = (_number(_held(atoms, name), name, source) for name in ("free_energy", "energy"))
    if free is None or other is None or free.size != 1 or other.size != 1:
        return 0.0
    return abs(free.item() - other.item()) / max(1, len(atoms))


class _Found:
    """Labels of one configuration, with the names under which they were found."""

    def __init__(self, atoms: "Atoms", source: str, options: ReadOptions) -> None:
        self._atoms, self._source, self._options = atoms, source, options
        units = units_of(atoms.info, source, energy=options.energy_unit, length=options.length_unit)
        self.units, self.used, self.notes = units.factors, set(units.used), list(units.notes)

    def energy(self) -> float | None:
        """Potential energy [eV]; the free energy where both are given, because the forces belong to it."""
        energy = self._label("energy")
        if energy is None:
            return None
        if energy.size != 1:
            raise InputError(f"{self._source}: energy must be one number, got shape {energy.shape}")
        return float(energy.item()) * self.units["energy"]

    def forces(self) -> NDArray[np.float64] | None:
        """Forces as computed, without the constraints of ASE, which would set some to zero [eV/Å]."""
        forces = self._label("forces")
        return None if forces is None else forces * self.units["forces"]

    def virial(self) -> NDArray[np.float64] | None:
        """Minus the derivative of the energy with respect to strain [eV], from a virial [eV] or a stress [eV/Å^3]."""
        given = [quantity for quantity in ("virial", "stress") if self._options.key(quantity)]
        for near in (False, True):
            for quantity in given or ("virial", "stress"):
                value = self._label(quantity, near=near)
                if value is not None:
                    return self._as_virial(quantity, value)
        return None

    def _as_virial(self, quantity: str, value: NDArray[np.float64]) -> NDArray[np.float64] | None:
        if quantity == "virial":
            return (value.reshape(3, 3) if value.size == 9 else value) * self.units["virial"]
        volume = abs(np.linalg.det(self._atoms.cell)) * self.units["length"] ** 3
        if volume == 0.0:  # the stress of a molecule without a cell means nothing
            self.notes.append("the stress is not used, as there is no cell; a virial needs none")
            return None
        if value.size == 6:
            value = value.ravel()[_VOIGT]
        if value.size != 9:
            raise InputError(f"{self._source}: stress must have 6 or 9 components, got shape {value.shape}")
        return np.asarray(-volume * self.units["stress"] * value.reshape(3, 3))

    def weight(self) -> float:
        """Weight of the frame; 1 by default."""
        weight = self._label("weight")
        if weight is None:
            return 1.0
        if weight.size != 1 or not 0 < weight.item() < np.inf:
            raise InputError(f"{self._source}: its weight must be a positive number, got {weight}; leave the frame out")
        return float(weight.item())

    def _label(self, quantity: str, *, near: bool = True) -> NDArray[np.float64] | None:
        """Return a label in the units of the file."""
        given = self._options.key(quantity)
        for name in _NAMES[quantity] if given is None else (given,):
            value = _held(self._atoms, name)
            if value is not None:
                self.used.add(name)
                return _number(value, name, self._source)
        if given is not None or not near:
            return None
        names = self._near(quantity)
        if not names:
            return None
        if len(names) > 1:
            raise InputError(
                f"{self._source}: {' and '.join(names)} could both be the {quantity}; name one with {quantity}_key"
            )
        self.used.add(names[0])
        self.notes.append(f"{names[0]} is taken for the {quantity}")
        return _number(_held(self._atoms, names[0]), names[0], self._source)

    def _near(self, quantity: str) -> list[str]:
        """Return similar names of a quantity."""
        where: Mapping[str, Any] = self._atoms.arrays if quantity == "forces" else self._atoms.info
        names = sorted(name for name in where if _without_prefix(plain(str(name))) in _NEAR[quantity])
        free = [name for name in names if plain(name).endswith("free_energy")]
        return free if len(free) == 1 else names


def _without_prefix(name: str) -> str:
    prefix, _, rest = name.partition("_")
    return rest if prefix in _PREFIXES else name


def _held(atoms: "Atoms", name: str) -> Any:
    """Return the value under a name in the calculator, ``info`` or ``arrays``."""
    for value in (_result(atoms, name), atoms.info.get(name), atoms.arrays.get(name)):
        if value is not None:
            return value
    return None


def _result(atoms: "Atoms", name: str) -> Any:
    """Return a result that the calculator already holds for exactly these atoms; nothing is calculated."""
    if atoms.calc is None:
        return None
    try:
        return atoms.calc.get_property(name, atoms, allow_calculation=False)
    except NotImplementedError:  # raised by ASE if the calculator does not have the property
        return None


def _number(value: Any, name: str, source: str) -> NDArray[np.float64] | None:
    """Return a copy in double precision."""
    try:
        return None if value is None else np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{source}: {name} must be real numbers, got {str(value)[:40]!r}") from None
