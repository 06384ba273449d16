"""Models that a function of the user's makes: ``[model] type = "package.module:factory"``."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, get_type_hints

from pydantic import create_model

from ekfcore.atoms import Frame
from ekfcore.errors import InputError, one_line
from ekfcore.imports import find_object
from ekfcore.models.settings import PotentialSettings, WithAtomEnergies
from ekfcore.models.wrapped import WrappedSettings

__all__ = ["FactorySettings", "settings_of_factory"]

_NEEDED = ("layer_sizes", "environment", "predict", "jacobian", "initial_weights")


class FactorySettings(WrappedSettings, WithAtomEnergies):
    """``[model]`` of a factory: besides these keys, those that the factory takes as keywords.

    Parameters
    ----------
    type : str
        Import path of the factory, or "torch".
    module : str, optional
        For "torch": import path of the module's class, or of a function that makes one.
    """

    module: str | None = None

    factory: ClassVar[Callable[..., Any]]
    keywords: ClassVar[tuple[str, ...]] = ()

    def make(self, elements: tuple[str, ...], train: Sequence[Frame], *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Return what the factory makes; the table says all that it was made from."""
        return self._make(elements, seed), {}

    @classmethod
    def remake(cls, keys: Mapping[str, Any], elements: tuple[str, ...]) -> Any:
        """Return what the factory makes."""
        return cls.model_validate(keys)._make(elements, seed=0)

    def _make(self, elements: tuple[str, ...], seed: int) -> Any:
        path = self.module or self.type
        if "torch" in sys.modules:
            sys.modules["torch"].manual_seed(seed)  # modules draw their weights when they are made
        try:
            made = type(self).factory(elements=elements, **{name: getattr(self, name) for name in self.keywords})
        except InputError:
            raise
        except Exception as error:  # a factory may raise anything
            raise InputError(f"model {path}: cannot be made ({one_line(error)}); correct it, or its keys") from None
        if "torch" in sys.modules and isinstance(made, sys.modules["torch"].nn.Module):
            from ekfcore.models.torch_frames import TorchFrames

            return TorchFrames(made, elements)
        missing = [name for name in _NEEDED if not hasattr(made, name)]
        if missing:
            raise InputError(
                f"model {path}: must make a torch.nn.Module, or an object with {', '.join(_NEEDED)}, but "
                f"{type(made).__name__} has no {', '.join(missing)}"
            )
        return made


def settings_of_factory(kind: str, module: Any) -> type[PotentialSettings]:
    """Return the table of a factory, with a field for each keyword that it takes.

    Parameters
    ----------
    kind : str
        Key ``type``.
    module : str, optional
        Key ``module``, where `kind` is "torch".

    Raises
    ------
    InputError
        If it cannot be imported, or has no parameter ``elements``.
    """
    path = module if kind == "torch" else kind
    if not isinstance(path, str) or ":" not in path:
        raise InputError(
            'model.module must be the import path of a torch.nn.Module beside type = "torch", as my_model:Net, '
            f"got {path!r}"
        )
    return _table(path, find_object(path, "model"))


@cache
def _table(path: str, factory: Any) -> type[PotentialSettings]:
    if isinstance(factory, type) and issubclass(factory, PotentialSettings):
        return factory
    try:
        taken = dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        taken = {}
    # A file names what is called when it is loaded: only what was written for this is.
    if taken.pop("elements", None) is None:
        raise InputError(f"model {path}: must take a keyword `elements`, the tuple of chemical symbols; add it")
    own = {n: p for n, p in taken.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if taken_twice := sorted(own.keys() & FactorySettings.model_fields.keys()):
        raise InputError(f"model {path}: must not take {', '.join(taken_twice)}, which every model has; rename it")
    hints = _hints(factory)
    fields: dict[str, Any] = {
        name: (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in own.items()
    }
    table = create_model("FactorySettings", __base__=FactorySettings, **fields)
    table.factory, table.keywords = staticmethod(factory), tuple(own)
    return table


def _hints(factory: Any) -> dict[str, Any]:
    """Return the types of a factory's parameters, of a class those of its ``__init__``; none if they cannot be had."""
    try:
        return get_type_hints(factory.__init__ if isinstance(factory, type) else factory)  # type: ignore[misc]
    except Exception:  # a name that only a type checker knows
        return {}
