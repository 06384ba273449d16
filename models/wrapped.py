"""Models that know frames and weights, and nothing of training, files and the energies of atoms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.energies import fit_bias
from ekfcore.atoms.potential import Potential
from ekfcore.atoms.types import atom_types
from ekfcore.linearize import Linearizable, Pullback
from ekfcore.models.settings import PotentialSettings, other_model
from ekfcore.protocols import Prediction

__all__ = ["WrappedPotential", "WrappedSettings"]

_BIAS, _OWN = "energy_bias", "model/"  # names of arrays in a file, and what opens those of the model itself


@dataclass(frozen=True, eq=False, kw_only=True)
class WrappedPotential(Linearizable[tuple[Any, float]]):
    """A model of frames, and the energies of the atoms beside it; a `Potential`.

    Parameters
    ----------
    inner : object
        A `JacobianProvider` of the energy without those of the atoms, with ``environment(frame, like=...)``. If it has
        them, ``linearize`` is used (see `Linearizable`), ``cutoff`` [Å] and ``library`` are read, and ``constants`` and
        ``restore`` keep what belongs to it beside its weights.
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

    @property
    def exact(self) -> Self:
        """The model itself: it approximates nothing."""
        return self

    def environment(self, frame: Frame, *, like: Array) -> tuple[Any, float]:
        """Prepare a frame; the energy of its atoms is known then [eV]."""
        types = atom_types(frame, self.elements, self.unknown)
        return self.inner.environment(frame, like=like), float(self.energy_bias[types].sum())

    def predict(self, w: Array, sample: tuple[Any, float]) -> Prediction:
        """Return energy, forces and virial of a frame."""
        inner, bias = sample
        return _with_bias(self.inner.predict(w, inner), bias)

    def linearize(self, w: Array, sample: tuple[Any, float]) -> tuple[Prediction, Pullback]:
        """Return the prediction and the pullback of functionals; what atoms add does not change with the weights."""
        inner, bias = sample
        if hasattr(self.inner, "linearize"):
            prediction, pull = self.inner.linearize(w, inner)
        else:  # a model that has no more than `jacobian` is evaluated twice
            prediction, pull = self.inner.predict(w, inner), partial(self.inner.jacobian, w, inner)

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


class WrappedSettings(PotentialSettings):
    """Base of the tables ``[model]`` of models that `WrappedPotential` completes."""

    def make(self, elements: tuple[str, ...], train: Sequence[Frame], *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Return a fresh model, and what `remake` needs beside the table."""
        raise NotImplementedError

    @classmethod
    def remake(cls, keys: Mapping[str, Any], elements: tuple[str, ...]) -> Any:
        """Return the model that `make` returned, without its constants."""
        raise NotImplementedError

    def bias(self, train: Sequence[Frame], elements: tuple[str, ...]) -> NDArray[Any]:
        """Return the energies of the atoms that the model is to have beside it [eV]."""
        known = {e: energy for e, energy in self.given_energies.items() if e in elements}
        return fit_bias(train, elements, fixed=known)

    def begin(self, train: Sequence[Frame], test: Sequence[Frame], *, seed: int) -> WrappedPotential:
        """Return a fresh model for the elements of the frames."""
        elements = tuple(self.choose_elements([*train, *test]))
        present = {symbol for frame in train for symbol in frame.symbols}
        inner, more = self.make(elements, train, seed=seed)
        return WrappedPotential(
            inner=inner,
            keys=self._keys() | more,
            elements=elements,
            unknown=tuple(e for e in elements if e not in present),
            energy_bias=self.bias(train, elements),
        )

    def go_on(self, model: Potential, frames: Sequence[Frame], *, resumed: bool) -> Potential:
        """Return the model; refuse other keys."""
        assert isinstance(model, WrappedPotential)
        self.choose_elements(frames, model.elements)
        for key, value in self._keys().items():
            if value != model.keys.get(key):
                raise other_model(key, repr(value), repr(model.keys.get(key)))
        return model

    def initial_weights(self, model: Potential, *, seed: int, gain: float) -> NDArray[Any]:
        """Return the weights that the model was made with, or that it draws."""
        assert isinstance(model, WrappedPotential)
        return np.asarray(model.inner.initial_weights(seed=seed))

    @classmethod
    def load(cls, header: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> WrappedPotential:
        """Make the model again, and put back what it keeps beside its weights."""
        keys = {key: value for key, value in header.items() if key not in ("elements", "unknown")}
        elements = tuple(header["elements"])
        inner = cls.remake(keys, elements)
        own = {name.removeprefix(_OWN): constants[name] for name in constants if name.startswith(_OWN)}
        if own:
            inner.restore(own)
        bias, unknown = constants[_BIAS], tuple(header["unknown"])
        return WrappedPotential(inner=inner, keys=keys, elements=elements, unknown=unknown, energy_bias=bias)

    def _keys(self) -> dict[str, Any]:
        """Return the table without what belongs to the data."""
        return self.model_dump(mode="json", exclude={"elements", "atom_energies"}, exclude_none=True)
