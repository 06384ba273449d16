"""Where modules and names stand that once stood elsewhere, so that programs written for the old places go on.

`MODULES` and `NAMES` are data, and what they name is imported when somebody asks for it: nothing here points upwards.
"""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["MODULES", "NAMES", "find_moved_modules", "moved_names"]

MODULES = {
    "ekfcore.active.calculators": "ekfcore.labelling.calculators",
    "ekfcore.active.calibration": "ekfcore.potentials.calibration",
    "ekfcore.active.committee": "ekfcore.potentials.committee",
    "ekfcore.active.executors": "ekfcore.labelling.executors",
    "ekfcore.active.explore": "ekfcore.dynamics",
    "ekfcore.active.gradients": "ekfcore.potentials.gradients",
    "ekfcore.active.judge": "ekfcore.active.acquisition",
    "ekfcore.active.kpu": "ekfcore.potentials.kpu",
    "ekfcore.active.kpu_files": "ekfcore.potentials.kpu_tables",
    "ekfcore.active.label": "ekfcore.labelling.label",
    "ekfcore.active.ledger": "ekfcore.labelling.ledger",
    "ekfcore.active.models": "ekfcore.active.round_models",
    "ekfcore.active.phonon_files": "ekfcore.properties.phonon_files",
    "ekfcore.active.phonons": "ekfcore.properties.phonons",
    "ekfcore.active.plots": "ekfcore.plots.rounds",
    "ekfcore.active.refresh": "ekfcore.potentials.refresh",
    "ekfcore.active.select": "ekfcore.active.selection",
    "ekfcore.active.start": "ekfcore.active.rattle",
    "ekfcore.atoms.calculator": "ekfcore.potentials.calculator",
    "ekfcore.atoms.plots": "ekfcore.plots.inspection",
    "ekfcore.backends.torch": "ekfcore.torch.optimizer",
    "ekfcore.models.deepmd_model": "ekfcore.deepmd.kit_model",
    "ekfcore.training.dataset": "ekfcore.potentials.dataset",
    "ekfcore.training.error_bars": "ekfcore.potentials.error_bars",
    "ekfcore.training.fingerprint": "ekfcore.potentials.fingerprint",
    "ekfcore.training.model_file": "ekfcore.potentials.model_file",
    "ekfcore.training.plots": "ekfcore.plots.training",
    "ekfcore.training.sample": "ekfcore.potentials.sample",
    "ekfcore.training.table": "ekfcore.settings.table",
    "ekfcore.training.toml": "ekfcore.settings.toml",
}
"""The present place of each module by its old name."""

NAMES = {
    ("ekfcore.atoms", "EKFCalculator"): "ekfcore.potentials.calculator",
    ("ekfcore.models", "DeepmdModel"): "ekfcore.deepmd.kit_model",
}
"""The module of each name that another package had."""


def find_moved_modules() -> None:
    """Let ``import`` find modules by their old names, where there is no other of that name."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def moved_names(package: str) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package some of whose names have moved."""

    def find(name: str) -> Any:
        if (package, name) in NAMES:
            return getattr(import_module(NAMES[package, name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, _Alias()) if fullname in MODULES else None


class _Alias(Loader):
    def create_module(self, spec: ModuleSpec) -> None:
        """Leave it to Python to make an empty module, which `exec_module` replaces."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MODULES[module.__name__])
