"""The units that the header of a frame states, as in ``energy-unit=hartree``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ekfcore.errors import InputError

from ._units import unit

__all__ = ["StatedUnits", "plain", "units_of"]

_NAMES = {
    "energy": ("energy", "energies"),
    "length": ("length", "distance", "position", "positions", "pos", "cell", "lattice"),
    "virial": ("virial", "virials"),
    "forces": ("force", "forces"),
    "stress": ("stress", "stresses", "pressure"),
}
# Units accepted without a quantity: those of `Frame`.
_OURS = ("metal", "ev", "ase", "ev/angstrom", "ev/ang", "ev/a", "ev, angstrom", "ev angstrom")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StatedUnits:
    """The units of a frame.

    Parameters
    ----------
    factors : dict
        Unit of each quantity, in [eV], [Å], [eV/Å] and [eV/Å^3].
    used : frozenset of str
        Names in the header that state units.
    notes : tuple of str
        Notes for the user.
    """

    factors: dict[str, float]
    used: frozenset[str]
    notes: tuple[str, ...]


def units_of(info: Mapping[str, Any], source: str, *, energy: str | None, length: str | None) -> StatedUnits:
    """Return the units of a frame: those of its header, else those of the user, else those of `Frame`.

    Parameters
    ----------
    info : mapping
        The header of the frame.
    source : str
        Origin of the frame, for messages.
    energy, length : str, optional
        Units of the user; those of forces and stresses follow from them.

    Raises
    ------
    InputError
        If a unit is unknown, contradicts the user, or has no quantity.
    """
    given = {"energy": energy, "length": length}
    stated = {quantity: text for quantity, text in given.items() if text is not None}
    by_user = bool(stated)
    used = _refuse_one_unit_for_all(info, source, by_user=by_user)
    factors: dict[str, float] = {}
    for quantity in _NAMES:
        match quantity:
            case "energy" | "length":
                text = given[quantity]
                factors[quantity] = 1.0 if text is None else unit(text, quantity, f"{source}: {quantity}_unit")
            case "virial":
                factors[quantity] = factors["energy"]
            case _:  # units of the user also apply to derived quantities
                power = 1 if quantity == "forces" else 3
                factors[quantity] = factors["energy"] / factors["length"] ** power if by_user else 1.0
        for name, text in _stated(info, quantity):
            used.add(name)
            value = unit(text, quantity, f"{source}: {name}")
            if quantity in stated and not np.isclose(value, factors[quantity], rtol=1e-6):
                raise InputError(
                    f"{source}: {name} = {text} contradicts {quantity} in {stated[quantity]}; correct one of them"
                )
            factors[quantity], stated[quantity] = value, text
    notes: tuple[str, ...] = ()
    if not by_user and any(value != 1.0 for value in factors.values()):
        all_of = {"energy": "eV", "forces": "eV/Å", "length": "Å", **stated}
        notes = ("its units are taken as " + ", ".join(f"{text} ({name})" for name, text in all_of.items()),)
    return StatedUnits(factors=factors, used=frozenset(used), notes=notes)


def _stated(info: Mapping[str, Any], quantity: str) -> list[tuple[str, str]]:
    """Return names and values in the header that state the unit of a quantity."""
    wanted = {f"{name}_{word}" for name in _NAMES[quantity] for word in ("unit", "units")}
    return [(name, str(text)) for name, text in info.items() if plain(str(name)) in wanted]


def _refuse_one_unit_for_all(info: Mapping[str, Any], source: str, *, by_user: bool) -> set[str]:
    """Refuse ``units=real``, which names no quantity, unless it is that of `Frame` or the user gives units."""
    names = {name for name in info if plain(str(name)) in ("unit", "units")}
    for name in names:
        if not by_user and str(info[name]).lower() not in _OURS:
            raise InputError(f"{source}: {name} = {info[name]} does not say what of; give energy_unit and length_unit")
    return names


def plain(name: str) -> str:
    """Return a name in lower case, without hyphens."""
    return name.lower().replace("-", "_")
