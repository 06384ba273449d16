"""DeePMD-kit's own models from the command line: ``[model] type = "deepmd"``."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.models.wrapped import WrappedPotential, WrappedSettings

from ._kit import load_kit

__all__ = ["KitSettings", "export_kit_model"]


class KitSettings(WrappedSettings):
    """``[model]`` with the tables ``[model.descriptor]`` and ``[model.fitting_net]`` of an input of DeePMD-kit.

    What they may hold is DeePMD-kit's to say, and so are the defaults of what is left out.
    """

    type: Literal["deepmd"] = "deepmd"
    descriptor: dict[str, Any]
    fitting_net: dict[str, Any] = {}

    def make(self, elements: tuple[str, ...], train: Sequence[Frame], *, seed: int) -> tuple[Any, dict[str, Any]]:
        """Return a model that DeePMD-kit makes and measures on the frames that have an energy."""
        section = {"type_map": list(elements), "descriptor": self.descriptor, "fitting_net": self.fitting_net}
        model = _kit_model().from_settings(section, [f for f in train if f.energy is not None], seed=seed)
        return model, {"settings": model.settings}

    @classmethod
    def remake(cls, keys: Mapping[str, Any], elements: tuple[str, ...]) -> Any:
        """Return the model that DeePMD-kit makes of complete settings."""
        return _kit_model().rebuild(keys["settings"])

    def bias(self, train: Sequence[Frame], elements: tuple[str, ...]) -> NDArray[Any]:
        """Return zeros: DeePMD-kit has fitted energies of atoms, which are constants of its model."""
        return np.zeros(len(elements))


def export_kit_model(model: WrappedPotential, weights: NDArray[Any], path: Path) -> None:
    """Write a model for DeePMD-kit, see `DeepmdModel.save`; what shifted its energies goes into DeePMD-kit's own."""
    kit = copy.deepcopy(model.inner)
    bias = kit.module.get_out_bias()
    bias[0, :, 0] += bias.new_tensor(model.energy_bias)
    kit.module.set_out_bias(bias)
    kit.store(kit.weights.new_tensor(weights))
    kit.save(path)


def _kit_model() -> Any:
    """Return the class `DeepmdModel`, which imports PyTorch and DeePMD-kit."""
    load_kit("deepmd.pt.model.model", 'model.type = "deepmd"')
    from .kit_model import DeepmdModel

    return DeepmdModel
