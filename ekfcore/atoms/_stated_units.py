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
# What a unit without a quantity may be: those of `Frame`.
_OURS = ("metal", "ev", "ase", "ev/angstrom", "ev/ang", "ev/a", "ev, angstrom", "ev angstrom")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StatedUnits:
    """The units of a frame.

    Parameters
    ----------
    factors : dict
        Of each quantity, in [eV], [Å], [eV/Å] and [eV/Å^3].
    used : frozenset of str
        Names in the header that state them.
    told : tuple of str
        What the user should know of.
    """

    factors: dict[str, float]
    used: frozenset[str]
    told: tuple[str, ...]


def units_of(info: Mapping[str, Any], source: str, *, energy: str | None, length: str | None) -> StatedUnits:
    """Return the units of a frame: those that it states, else those that the user says, else ours.

    Parameters
    ----------
    info : mapping
        The header of the frame.
    source : str
        Where it comes from.
    energy, length : str, optional
        What the user says; forces and stresses follow from them.

    Raises
    ------
    InputError
        If a unit is unknown, contradicts the user, or does not say what it is of.
    """
    given = {"energy": energy, "length": length}
    said = {quantity: text for quantity, text in given.items() if text is not None}
    by_user = bool(said)
    used = _refuse_one_unit_for_all(info, source, by_user=by_user)
    factors: dict[str, float] = {}
    for quantity in _NAMES:
        match quantity:
            case "energy" | "length":
                text = given[quantity]
                factors[quantity] = 1.0 if text is None else unit(text, quantity, f"{source}: {quantity}_unit")
            case "virial":
                factors[quantity] = factors["energy"]
            case _:  # who says units says them for all that follows from them
                power = 1 if quantity == "forces" else 3
                factors[quantity] = factors["energy"] / factors["length"] ** power if by_user else 1.0
        for name, text in _stated(info, quantity):
            used.add(name)
            value = unit(text, quantity, f"{source}: {name}")
            if quantity in said and not np.isclose(value, factors[quantity], rtol=1e-6):
                raise InputError(
                    f"{source}: {name} = {text} contradicts {quantity} in {said[quantity]}; correct one of them"
                )
            factors[quantity], said[quantity] = value, text
    told: tuple[str, ...] = ()
    if not by_user and any(value != 1.0 for value in factors.values()):
        all_of = {"energy": "eV", "forces": "eV/Å", "length": "Å", **said}
        told = ("its units are taken as " + ", ".join(f"{text} ({name})" for name, text in all_of.items()),)
    return StatedUnits(factors=factors, used=frozenset(used), told=told)


def _stated(info: Mapping[str, Any], quantity: str) -> list[tuple[str, str]]:
    """Return the names that state the unit of a quantity, with the unit."""
    wanted = {f"{name}_{word}" for name in _NAMES[quantity] for word in ("unit", "units")}
    return [(name, str(text)) for name, text in info.items() if plain(str(name)) in wanted]


def _refuse_one_unit_for_all(info: Mapping[str, Any], source: str, *, by_user: bool) -> set[str]:
    """Refuse ``units=real``, which names no quantity, unless it is ours or the user has said it; return its name."""
    names = {name for name in info if plain(str(name)) in ("unit", "units")}
    for name in names:
        if not by_user and str(info[name]).lower() not in _OURS:
            raise InputError(f"{source}: {name} = {info[name]} does not say what of; give energy_unit and length_unit")
    return names


def plain(name: str) -> str:
    """Return a name in lower case, without hyphens."""
    return name.lower().replace("-", "_")
