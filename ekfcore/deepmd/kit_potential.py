"""Models of DeePMD-kit from the command line: ``[model] type = "deepmd"``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.atoms.types import atom_types
from ekfcore.errors import InputError
from ekfcore.linearize import Pullback
from ekfcore.models.settings import PotentialSettings
from ekfcore.protocols import Prediction

from ._kit import load_kit

__all__ = ["KitPotential", "KitSettings"]


class KitSettings(PotentialSettings):
    """``[model]`` with the tables ``[model.descriptor]`` and ``[model.fitting_net]`` of an input of DeePMD-kit.

    DeePMD-kit checks the keys of both tables and provides the defaults.
    """

    type: Literal["deepmd"] = "deepmd"
    descriptor: dict[str, Any]
    fitting_net: dict[str, Any] = {}

    def begin(self, train: Sequence[Frame], test: Sequence[Frame], *, seed: int) -> "KitPotential":
        """Return a new model of DeePMD-kit with statistics of the training frames."""
        elements = self.choose_elements([*train, *test])
        section = {"type_map": elements, "descriptor": self.descriptor, "fitting_net": self.fitting_net}
        labelled = [frame for frame in train if frame.energy is not None]
        present = {symbol for frame in train for symbol in frame.symbols}
        model = _kit_model().from_settings(section, labelled, seed=seed)
        return KitPotential(model, self._asked(), tuple(e for e in elements if e not in present))

    def go_on(self, model: Potential, frames: Sequence[Frame], *, resumed: bool) -> Potential:
        """Return the model; refuse another descriptor or fitting net."""
        assert isinstance(model, KitPotential)
        self.choose_elements(frames, model.elements)
        for key, value in self._asked().items():
            if value != model.asked[key]:
                raise InputError(
                    f"[model.{key}] differs from that of the model to go on from; set it back, or start anew in "
                    "another folder"
                )
        return model

    def initial_weights(self, model: Potential, *, seed: int, gain: float) -> NDArray[Any]:
        """Return the initial weights that DeePMD-kit drew."""
        assert isinstance(model, KitPotential)
        return to_numpy(model.model.weights)

    @classmethod
    def load(cls, header: Mapping[str, Any], constants: Mapping[str, NDArray[Any]]) -> "KitPotential":
        """Rebuild the model from its header and constants."""
        model = _kit_model().rebuild(header["settings"])
        model.restore({name.removeprefix(_OWN): constants[name] for name in constants if name.startswith(_OWN)})
        return KitPotential(model, header["asked"], tuple(header["unknown"]))

    def completed(self, model: Potential) -> Self:
        """Return the same settings with the elements of the model."""
        assert isinstance(model, KitPotential)
        return self.model_copy(update={"elements": list(model.elements)})

    def _asked(self) -> dict[str, Any]:
        return {"descriptor": self.descriptor, "fitting_net": self.fitting_net}


_OWN = "model/"  # prefix of the names of the arrays of a model in a file


@dataclass(frozen=True, eq=False)
class KitPotential:
    """A model of DeePMD-kit; a `Potential`.

    Parameters
    ----------
    model : DeepmdModel
        The model.
    asked : mapping
        Tables of CONFIG that the model was made from.
    unknown : tuple of str
        Elements that occur in no training frame.
    """

    model: Any
    asked: Mapping[str, Any]
    unknown: tuple[str, ...] = ()

    library = "torch"

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of types."""
        return tuple(self.model.elements)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(self.model.layer_sizes)

    @property
    def cutoff(self) -> float:
        """Cutoff radius [Å]."""
        return float(self.model.cutoff)

    @property
    def energy_bias(self) -> NDArray[Any]:
        """Energies of the atoms, shape (n_elements,) [eV]."""
        return np.asarray(to_numpy(self.model.module.get_out_bias())[0, :, 0], dtype=np.float64)

    def environment(self, frame: Frame, *, like: Array) -> Any:
        """Prepare a frame, see `DeepmdModel.environment`."""
        atom_types(frame, self.elements, self.unknown)
        return self.model.environment(frame, like=like)

    def predict(self, w: Array, sample: Any) -> Prediction:
        """Return energy, forces and virial of a frame."""
        prediction: Prediction = self.model.predict(w, sample)
        return prediction

    def jacobian(self, w: Array, sample: Any, cotangents: Any) -> tuple[Array, Array]:
        """Return functionals of a prediction and their gradients."""
        return self.linearize(w, sample)[1](cotangents)

    def linearize(self, w: Array, sample: Any) -> tuple[Prediction, Pullback]:
        """Return the prediction and the pullback of functionals."""
        prediction, pull = self.model.linearize(w, sample)
        return prediction, pull

    def refined(self, w: Array, frames: Sequence[Frame]) -> Self:
        """Return the model itself, which has no approximation to refine."""
        return self

    def learned(self, frames: Sequence[Frame], energy_bias: NDArray[Any]) -> Self:
        """Refuse new elements: DeePMD-kit computes the statistics of a model once.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            f"the data hold {', '.join(self.unknown)}, of which this model of DeePMD-kit has seen no atom; train one "
            "anew"
        )

    def with_bias(self, energy_bias: NDArray[Any]) -> Self:
        """Return the model with other energies of the atoms [eV]; the module of DeePMD-kit is changed in place."""
        bias = self.model.module.get_out_bias().clone()
        bias[0, :, 0] = bias.new_tensor(energy_bias)
        self.model.module.set_out_bias(bias)
        return self

    def tied_weights(self) -> None:
        """Return None: no weights are known to be tied."""

    def header(self) -> dict[str, Any]:
        """Return the header that `KitSettings.load` rebuilds the model from."""
        settings = self.model.settings
        return {"type": "deepmd", "settings": settings, "asked": dict(self.asked), "unknown": list(self.unknown)}

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return normalisation and energies of atoms."""
        return {_OWN + name: array for name, array in self.model.constants().items()}

    def export(self, weights: NDArray[Any], path: Path) -> None:
        """Write the model for DeePMD-kit, see `DeepmdModel.save`."""
        self.model.store(self.model.weights.new_tensor(weights))
        self.model.save(path)

    def __str__(self) -> str:
        return f"DeePMD-kit's {self.asked['descriptor'].get('type', 'model')}, computed by DeePMD-kit"


def _kit_model() -> Any:
    """Return the class `DeepmdModel`, which imports PyTorch and DeePMD-kit."""
    load_kit("deepmd.pt.model.model", 'model.type = "deepmd"')
    from .kit_model import DeepmdModel

    return DeepmdModel
