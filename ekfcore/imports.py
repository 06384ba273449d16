"""Objects by the path they are imported from, as a settings file names them."""

import importlib
import sys
from pathlib import Path
from typing import Any

from ekfcore.errors import InputError, one_line

__all__ = ["find_object"]


def find_object(path: str, what: str) -> Any:
    """Import what ``"package.module:name"`` or ``"package.module.name"`` names.

    Modules are looked for where Python looks, and then in the current folder, as ``python -m`` does; the command
    ``ekfcore`` alone would not.

    Parameters
    ----------
    path : str
        Where it is defined.
    what : str
        What it is for, which opens the message.

    Raises
    ------
    InputError
        If it cannot be imported.
    """
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # for good: what is imported may import what stands beside it later
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything when it is imported
        raise InputError(
            f"{what} {path}: cannot be imported ({one_line(error)}); install its package, or add its folder to "
            "PYTHONPATH"
        ) from None
    return found
