"""ASE calculators by name and keywords, as given in a settings file."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ekfcore.errors import InputError, one_line
from ekfcore.imports import find_object

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

__all__ = ["make_calculator"]

_OBJECT = "object"  # key of a table that describes an object


def make_calculator(name: str, parameters: Mapping[str, Any] | None = None) -> "Calculator":
    """Make a calculator.

    Parameters
    ----------
    name : str
        Name in ASE, e.g. ``"emt"`` or ``"espresso"``; or import path, ``"package.module:Name"`` or
        ``"package.module.Name"``, e.g. ``"tblite.ase:TBLite"``.
    parameters : mapping, optional
        Its keywords. A table with the key ``object``, an import path, becomes the object made with its other keys,
        e.g. ``{"object": "ase.calculators.espresso:EspressoProfile", "command": "pw.x", "pseudo_dir": "..."}``.

    Returns
    -------
    ase.calculators.calculator.Calculator
        A new calculator.

    Raises
    ------
    InputError
        If the calculator cannot be imported, does not take the keywords, or is not one of ASE.

    Examples
    --------
    ``make_calculator("emt")``, or ``make_calculator("ase.calculators.lj:LennardJones", {"sigma": 2.5})``.
    """
    keywords = {key: _build(value) for key, value in (parameters or {}).items()}
    calculator = _call(name, _find(name), keywords)
    if not (hasattr(calculator, "calculate") and hasattr(calculator, "results")):
        raise InputError(f"calculator {name}: is no ASE calculator, got {type(calculator).__name__}; name another one")
    return calculator  # type: ignore[no-any-return] # whatever was imported


def _build(value: Any) -> Any:
    """Return the value with its tables replaced by the objects that they describe."""
    if isinstance(value, list):
        return [_build(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    built = {key: _build(entry) for key, entry in value.items()}
    if _OBJECT not in built:
        return built
    path = str(built.pop(_OBJECT))
    return _call(path, find_object(path, "calculator"), built)


def _call(name: str, constructor: Any, keywords: Mapping[str, Any]) -> Any:
    try:
        return constructor(**keywords)
    except Exception as error:  # a constructor may raise anything
        given = ", ".join(keywords) or "none"
        raise InputError(
            f"calculator {name}: cannot be made with the parameters {given} ({one_line(error)}); correct them"
        ) from None


def _find(name: str) -> Any:
    if ":" in name or "." in name:
        return find_object(name, "calculator")
    try:
        return importlib.import_module("ase.calculators.calculator").get_calculator_class(name)
    except Exception as error:
        raise InputError(
            f"calculator {name}: ASE has none of this name that can be imported ({one_line(error)}); "
            "correct it, or give an import path such as tblite.ase:TBLite"
        ) from None
