"""The table ``[model]`` of the Deep Potential."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, Self

from numpy.typing import NDArray
from pydantic import model_validator

from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.errors import InputError
from ekfcore.models.settings import WithAtomEnergies, other_model
from ekfcore.settings.fields import NotNegative, Positive

from .architecture import Architecture
from .environment import Statistics
from .initial import fit_statistics, initial_weights, neighbour_capacity
from .model import DeepPotential

__all__ = ["DeepPotentialSettings"]

_CONSTANTS = ("mean", "std", "energy_bias")


class DeepPotentialSettings(WithAtomEnergies):
    """``[model]``: form of the Deep Potential; elements and capacity come from the data when not given.

    Its keys are those of `Architecture`, and these.

    Parameters
    ----------
    fitting_gain : float, optional
        On the first layer of fresh fitting nets; 10 for a filter, 1 for Adam.
    interpolation : float
        Largest relative error of the nodal embedding; 0 for the exact nets.
    """

    type: Literal["deep_potential"] = "deep_potential"
    capacity: list[int] | dict[str, int] | None = None
    cutoff: Positive = 6.0
    cutoff_smooth: NotNegative = 0.5
    embedding: list[int] = [25, 25, 25]
    axis: int = 16
    fitting: list[int] = [50, 50, 50]
    activation: str = "tanh"
    type_one_side: bool = False
    resnet_dt: bool = False
    fitting_gain: Positive | None = None
    interpolation: NotNegative = 1e-9

    @model_validator(mode="after")
    def _is_an_architecture(self) -> Self:
        elements = ["H"] if self.elements is None else self.elements
        # Any capacity will do here: how many numbers it must hold may be known only once the data are read.
        self.architecture(elements, [1] * len(elements))
        return self

    def architecture(self, elements: Sequence[str], capacity: Sequence[int]) -> Architecture:
        """Return the architecture for these elements and capacities, see `Architecture`."""
        form = self.model_dump(include={field.name for field in fields(Architecture)})
        return Architecture.from_json(form | {"elements": elements, "capacity": capacity})

    def begin(self, train: Sequence[Frame], test: Sequence[Frame], *, seed: int) -> DeepPotential:
        """Return a model with the normalisation and the energies of the frames to train on."""
        architecture = self._complete(self.choose_elements([*train, *test]), [*train, *test])
        known = {e: energy for e, energy in self.given_energies.items() if e in architecture.elements}
        statistics = fit_statistics(train, architecture, atom_energies=known)
        return DeepPotential(architecture, statistics, spacing=None, tolerance=self.interpolation)

    def go_on(self, model: Potential, frames: Sequence[Frame], *, resumed: bool) -> DeepPotential:
        """Return the model with the tolerance that is wanted now; refuse another architecture."""
        assert isinstance(model, DeepPotential)  # whose header named this table
        architecture = self._complete(self.choose_elements(frames, model.elements), frames)
        if architecture != model.architecture:
            old, new = model.architecture.as_json(), architecture.as_json()
            key = next(key for key in new if new[key] != old[key])
            raise other_model(key, new[key], old[key])
        spacing = model.spacing if resumed else None
        return replace(model, tolerance=self.interpolation, spacing=spacing if self.interpolation else 0.0)

    def initial_weights(self, model: Potential, *, seed: int, gain: float) -> NDArray[Any]:
        """Draw the weights, see `ekfcore.models.deep_potential.initial_weights`."""
        assert isinstance(model, DeepPotential)
        return initial_weights(model.architecture, seed=seed, fitting_gain=self.fitting_gain or gain)

    @classmethod
    def load(cls, header: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> DeepPotential:
        """Return the model that gave this header and these constants."""
        statistics = Statistics(**{name: constants[name] for name in _CONSTANTS}, unknown=tuple(header["unknown"]))
        architecture = Architecture.from_json(dict(header["architecture"]))
        return DeepPotential(architecture, statistics, spacing=header["spacing"])

    def completed(self, model: Potential) -> Self:
        """Return the same settings, where the keys that nobody gave are those of the model."""
        assert isinstance(model, DeepPotential)
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        known = {name: list(v) if isinstance(v, tuple) else v for name, v in model.architecture.as_json().items()}
        return self.model_copy(update={name: value for name, value in known.items() if name not in given})

    def with_room(self, frames: Sequence[Frame], factor: float) -> Self:
        """Return settings whose capacity is so many times that of the frames, unless it is given."""
        if self.capacity is not None:
            return self
        elements = self.elements or sorted({symbol for frame in frames for symbol in frame.symbols})
        most = neighbour_capacity(frames, elements, self.cutoff)
        return self.model_copy(update={"elements": elements, "capacity": [math.ceil(factor * n) for n in most]})

    def _complete(self, elements: Sequence[str], frames: Sequence[Frame]) -> Architecture:
        """Return the architecture with the capacity that is given, or that of the frames."""
        capacity = self.capacity or list(neighbour_capacity(frames, elements, self.cutoff))
        if not self.capacity and not any(capacity):
            raise InputError(
                f"no atom of the data has a neighbour within model.cutoff = {self.cutoff:g} Å; raise it, or check the "
                "unit of the positions"
            )
        if isinstance(capacity, dict):
            if set(capacity) != set(elements):
                raise InputError(f"model.capacity must name the elements {', '.join(elements)}, got {capacity}")
            capacity = [capacity[element] for element in elements]
        return self.architecture(elements, capacity)
