"""The Deep Potential against DeePMD-kit, whose model is built from our weights as plain arrays."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential

# torch and its users deprecate what DeePMD-kit calls.
pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]


def _fill(networks: list[dict[str, Any]], w: Iterator[Any]) -> None:
    """Write weights into the plain description of some networks: theirs are matrices (n_in, n_out)."""
    for network in networks:
        for layer in network["layers"]:
            arrays = layer["@variables"]
            n_in, n_out = arrays["w"].shape
            arrays["w"] = np.array([next(w) for _ in range(n_in * n_out)]).reshape(n_out, n_in).T
            arrays["b"] = np.array([next(w) for _ in range(n_out)])
            if arrays["idt"] is not None:
                arrays["idt"] = np.array([next(w) for _ in range(n_out)])


def _build(deepmd: ModuleType, model: DeepPotential, w: Vector) -> Any:
    """Return DeePMD-kit's model with the same weights."""
    arch, statistics = model.architecture, model.statistics
    shared = {"activation_function": arch.activation, "precision": "float64"}
    descriptor = {
        "type": "se_e2_a",
        "rcut": arch.cutoff,
        "rcut_smth": arch.cutoff_smooth,
        "sel": list(arch.capacity),
        "neuron": list(arch.embedding),
        "axis_neuron": arch.axis,
        "type_one_side": arch.type_one_side,
        **shared,
    }
    fitting = {"neuron": list(arch.fitting), "resnet_dt": arch.resnet_dt, **shared}
    settings = {"type_map": list(arch.elements), "descriptor": descriptor, "fitting_net": fitting}
    data = deepmd.get_model(settings).serialize()
    weights = iter(w)
    _fill(data["descriptor"]["embeddings"]["networks"], weights)
    _fill(data["fitting"]["nets"]["networks"], weights)
    assert not list(weights), "weights are left over"
    slots = np.ones((1, sum(arch.capacity), 1))
    data["descriptor"]["@variables"] = {
        "davg": statistics.mean[:, None, :] * slots,
        "dstd": statistics.std[:, None, :] * slots,
    }
    data["@variables"]["out_bias"] = statistics.energy_bias.reshape(1, -1, 1)
    return deepmd.EnergyModel.deserialize(data)


def test_prediction(deepmd_case: Case, deepmd: ModuleType) -> None:
    """Energy, forces and virial."""
    import torch

    model, frame, w = deepmd_case
    types = [model.architecture.elements.index(symbol) for symbol in frame.symbols]
    theirs = _build(deepmd, model, w)(
        torch.tensor(frame.positions)[None],
        torch.tensor(types)[None],
        box=torch.tensor(frame.cell).reshape(1, 9) if frame.pbc.all() else None,
    )
    ours = model.predict(w, model.environment(frame, like=w))
    for name, value in {
        "energy": theirs["energy"][0, 0],
        "forces": theirs["force"][0],
        "virial": theirs["virial"][0].reshape(3, 3),
    }.items():
        expected = value.detach().numpy()
        scale = np.max(np.abs(expected))
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-10 * max(scale, 1e-3))
