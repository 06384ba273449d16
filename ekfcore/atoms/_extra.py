"""Deferred import of the libraries of the extra ``atoms``."""

import importlib
from types import ModuleType

from ekfcore.errors import InputError

__all__ = ["load_extra"]


def load_extra(name: str) -> ModuleType:
    """Import a library that only the extra ``atoms`` installs.

    Parameters
    ----------
    name : str
        Module to import, e.g. ``"ase.io"``.

    Returns
    -------
    ModuleType
        The module.

    Raises
    ------
    InputError
        If its package is not installed; the message holds the pip command.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise InputError(f'{package} is not installed; run: pip install "ekfcore[atoms]"') from None
