"""Kinds of models by name."""

import json
from collections.abc import Mapping
from typing import Any

from ekfcore.errors import InputError
from ekfcore.imports import find_object
from ekfcore.models.settings import PotentialSettings

__all__ = ["DEFAULT", "KINDS", "settings_for"]

DEFAULT = "deep_potential"
"""The default kind of model."""

KINDS = {
    "deep_potential": "ekfcore.models.deep_potential.settings:DeepPotentialSettings",
    "deepmd": "ekfcore.deepmd.kit_potential:KitSettings",
}
"""Import path of the table of each kind; a new native model adds its line here."""


def settings_for(table: Mapping[str, Any]) -> type[PotentialSettings]:
    """Return the class of a table ``[model]``, from its key `type`.

    Parameters
    ----------
    table : mapping
        Keys of the table. ``type`` is one of `KINDS`; ``"torch"`` with the import path of a module in ``module``;
        or the import path of a factory.

    Raises
    ------
    InputError
        If there is no such kind, or it cannot be imported.
    """
    kind = table.get("type", DEFAULT)
    if isinstance(kind, str) and kind in KINDS:
        found: type[PotentialSettings] = find_object(KINDS[kind], "model.type")
        return found
    if isinstance(kind, str) and (kind == "torch" or ":" in kind):
        from ekfcore.models.factory import settings_of_factory

        return settings_of_factory(kind, table.get("module"))
    raise InputError(
        f"model.type must be one of {', '.join(KINDS)}, torch or the import path of a factory, as my_model:factory, "
        f"got {json.dumps(kind, default=str)}"
    )
