"""Models that a function of the user's makes: ``[model] type = "package.module:factory"``."""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Self, get_type_hints

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray
from pydantic import create_model

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.energies import fit_bias
from ekfcore.atoms.potential import Potential
from ekfcore.atoms.types import atom_types
from ekfcore.errors import InputError
from ekfcore.imports import find_object, one_line
from ekfcore.linearize import Pullback, linearize
from ekfcore.models.settings import PotentialSettings
from ekfcore.protocols import Prediction

__all__ = ["FactoryPotential", "FactorySettings", "settings_of_factory"]

_NEEDED = ("layer_sizes", "environment", "predict", "jacobian", "initial_weights")
_BIAS, _OWN = "energy_bias", "model/"  # names of arrays in a file, and what opens those of the model itself


@dataclass(frozen=True, eq=False, kw_only=True)
class FactoryPotential:
    """What a factory made, with the energies of the atoms; a `Potential`.

    Parameters
    ----------
    inner : object
        Predicts the energy without those of the atoms.
    keys : mapping
        Its table ``[model]``, to make it again.
    elements, unknown : tuple of str
        Elements in the order of types, and those of which the training has seen no atom.
    energy_bias : array, shape (n_elements,)
        Energies of the atoms [eV].
    """

    inner: Any
    keys: Mapping[str, Any]
    elements: tuple[str, ...]
    unknown: tuple[str, ...]
    energy_bias: NDArray[Any]

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts in order."""
        return tuple(self.inner.layer_sizes)

    @property
    def cutoff(self) -> float:
        """How far an atom sees [Å]; 0 if the model does not say."""
        return float(getattr(self.inner, "cutoff", 0.0))

    @property
    def library(self) -> str:
        """Backend whose arrays the model needs, if it says so."""
        return str(getattr(self.inner, "library", ""))

    def environment(self, frame: Frame, *, like: Array) -> tuple[Any, float]:
        """Prepare a frame; the energy of its atoms is known then [eV]."""
        types = atom_types(frame, self.elements, self.unknown)
        return self.inner.environment(frame, like=like), float(self.energy_bias[types].sum())

    def predict(self, w: Array, sample: tuple[Any, float]) -> Prediction:
        """Return energy, forces and virial of a frame."""
        inner, bias = sample
        return _with_bias(self.inner.predict(w, inner), bias)

    def jacobian(self, w: Array, sample: tuple[Any, float], cotangents: Any) -> tuple[Array, Array]:
        """Return functionals of a prediction and their gradients."""
        return self.linearize(w, sample)[1](cotangents)

    def linearize(self, w: Array, sample: tuple[Any, float]) -> tuple[Prediction, Pullback]:
        """Return the prediction and the pullback of functionals; what atoms add does not change with the weights."""
        inner, bias = sample
        prediction, pull = linearize(self.inner, w, inner)

        def pull_with_bias(cotangents: Any) -> tuple[Array, Array]:
            values, H = pull(cotangents)
            xp = array_namespace(values)
            shares = [bias * float(cotangent.get("energy", 0.0)) for cotangent in cotangents]
            return values + xp.asarray(shares, dtype=values.dtype, device=device(values)), H

        return _with_bias(prediction, bias), pull_with_bias

    def refined(self, w: Array, frames: Sequence[Frame]) -> Self:
        """Return the model itself: it approximates nothing."""
        return self

    def learned(self, frames: Sequence[Frame], energy_bias: NDArray[Any]) -> Self:
        """Return the model that takes the elements of these frames."""
        present = {symbol for frame in frames for symbol in frame.symbols}
        return replace(self, unknown=tuple(e for e in self.unknown if e not in present), energy_bias=energy_bias)

    def with_bias(self, energy_bias: NDArray[Any]) -> Self:
        """Return the model with other energies of the atoms [eV]."""
        return replace(self, energy_bias=energy_bias)

    def tied_weights(self) -> None:
        """Return nothing: no weights are known to be tied."""

    def header(self) -> dict[str, Any]:
        """Return what makes the model again."""
        return {**self.keys, "elements": list(self.elements), "unknown": list(self.unknown)}

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return the energies of the atoms and what the model keeps beside its weights."""
        own = self.inner.constants() if hasattr(self.inner, "constants") else {}
        return {_BIAS: self.energy_bias, **{_OWN + name: array for name, array in own.items()}}

    def __str__(self) -> str:
        return f"{type(getattr(self.inner, 'module', self.inner)).__name__} of {self.keys['type']}"


def _with_bias(prediction: Prediction, bias: float) -> Prediction:
    return {**prediction, "energy": prediction["energy"] + bias}


class FactorySettings(PotentialSettings):
    """``[model]`` of a factory: besides these keys, those that the factory takes as keywords.

    Parameters
    ----------
    type : str
        Import path of the factory, or "torch".
    module : str, optional
        For "torch": import path of the module's class, or of a function that makes one.
    atom_energies : dict of str to float, optional
        Energies of atoms that are not fitted to the data [eV].
    """

    module: str | None = None
    atom_energies: dict[str, float] | None = None

    factory: ClassVar[Callable[..., Any]]
    keywords: ClassVar[tuple[str, ...]] = ()

    @property
    def given_energies(self) -> Mapping[str, float]:
        """Energies of atoms that are not to be fitted to the data [eV]."""
        return self.atom_energies or {}

    def begin(self, train: Sequence[Frame], test: Sequence[Frame], *, seed: int) -> FactoryPotential:
        """Return what the factory makes for the elements of the frames."""
        elements = tuple(self.choose_elements([*train, *test]))
        present = {symbol for frame in train for symbol in frame.symbols}
        known = {e: energy for e, energy in self.given_energies.items() if e in elements}
        return FactoryPotential(
            inner=self._make(elements, seed),
            keys=self._keys(),
            elements=elements,
            unknown=tuple(e for e in elements if e not in present),
            energy_bias=fit_bias(train, elements, fixed=known),
        )

    def go_on(self, model: Potential, frames: Sequence[Frame], *, resumed: bool) -> Potential:
        """Return the model; refuse other keywords."""
        assert isinstance(model, FactoryPotential)
        self.choose_elements(frames, model.elements)
        for key, value in self._keys().items():
            if value != model.keys.get(key):
                raise InputError(
                    f"model.{key} = {value!r} differs from {model.keys.get(key)!r} of the model to go on from; set it "
                    "back, or start anew in another folder"
                )
        return model

    def initial_weights(self, model: Potential, *, seed: int, gain: float) -> NDArray[Any]:
        """Return the weights that the model was made with, or that it draws."""
        assert isinstance(model, FactoryPotential)
        return np.asarray(model.inner.initial_weights(seed=seed))

    @classmethod
    def load(cls, header: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> FactoryPotential:
        """Make the model again, and put back what it keeps beside its weights."""
        keys = {key: value for key, value in header.items() if key not in ("elements", "unknown")}
        elements = tuple(header["elements"])
        inner = cls.model_validate(keys)._make(elements, seed=0)
        own = {n.removeprefix(_OWN): constants[n] for n in constants if n.startswith(_OWN)}
        if own:
            inner.restore(own)
        bias, unknown = constants[_BIAS], tuple(header["unknown"])
        return FactoryPotential(inner=inner, keys=keys, elements=elements, unknown=unknown, energy_bias=bias)

    def _keys(self) -> dict[str, Any]:
        """Return the table without what belongs to the data."""
        return self.model_dump(mode="json", exclude={"elements", "atom_energies"}, exclude_none=True)

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
