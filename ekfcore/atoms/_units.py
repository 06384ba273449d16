"""Units by name."""

from ekfcore.errors import InputError

from ._extra import load_extra

__all__ = ["unit"]

_ENERGIES = {
    "ev": "eV",
    "mev": "meV",
    "hartree": "Hartree",
    "ha": "Hartree",
    "au": "Hartree",
    "a.u.": "Hartree",
    "rydberg": "Rydberg",
    "ry": "Rydberg",
    "kcal/mol": "kcal/mol",
    "kcal_mol": "kcal/mol",
    "kj/mol": "kJ/mol",
    "kj_mol": "kJ/mol",
}
_LENGTHS = {
    "angstrom": "Ang",
    "ang": "Ang",
    "ang.": "Ang",
    "å": "Ang",
    "a": "Ang",
    "bohr": "Bohr",
    "au": "Bohr",
    "a.u.": "Bohr",
    "nm": "nm",
}
_PRESSURES = {"gpa": 1.0, "mpa": 1e-3, "kbar": 0.1, "bar": 1e-4, "kpa": 1e-6, "pa": 1e-9}  # [GPa]


def unit(text: str, quantity: str, source: str) -> float:
    """Return a unit as a multiple of the unit of ekfcore.

    Parameters
    ----------
    text : str
        Name of the unit, as in ``"hartree/bohr"``; case is ignored.
    quantity : str
        ``"energy"``, ``"virial"``, ``"length"``, ``"forces"`` or ``"stress"``.
    source : str
        Origin of the name, for messages.

    Returns
    -------
    float
        The unit in [eV], [Å], [eV/Å] or [eV/Å^3].

    Raises
    ------
    InputError
        If the unit is unknown.
    """
    name = text.strip().lower().replace("**", "^").replace("ang^", "a^").replace("angstrom^", "a^")
    try:
        match quantity:
            case "energy" | "virial":
                return _energy(name)
            case "length":
                return _length(name)
            case "forces":
                energy, _, length = ("hartree/bohr" if name in ("au", "a.u.") else name).rpartition("/")
                return _energy(energy) / _length(length)
            case _:
                if name in _PRESSURES:
                    return float(_PRESSURES[name] * load_extra("ase.units").GPa)
                energy, _, length = name.removesuffix("^3").rpartition("/")
                return _energy(energy) / _length(length) ** 3
    except KeyError:
        example = {"length": "bohr", "forces": "hartree/bohr", "stress": "GPa"}.get(quantity, "hartree")
        raise InputError(
            f"{source}: {text!r} must be a unit of {quantity} that is known, such as {example}; convert the file"
        ) from None


def _energy(name: str) -> float:
    units = load_extra("ase.units")
    values = {"eV": 1.0, "meV": 1e-3, "Hartree": units.Hartree, "Rydberg": units.Rydberg}
    values |= {"kcal/mol": units.kcal / units.mol, "kJ/mol": units.kJ / units.mol}
    return float(values[_ENERGIES[name]])


def _length(name: str) -> float:
    return float(getattr(load_extra("ase.units"), _LENGTHS[name]))
