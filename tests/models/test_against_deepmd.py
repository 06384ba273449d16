"""The Deep Potential against DeePMD-kit, whose model is built from our weights as plain arrays."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from ekfcore.models.deep_potential import DeepPotential
from numpy.typing import NDArray

from ekfcore.atoms import Frame

# torch and its users deprecate what DeePMD-kit calls.
pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]

NARROW = np.array([[2.6, 0.0, 0.0], [0.65, 2.45, 0.0], [-0.45, 0.35, 2.55]])  # [Å], narrower than the cutoff
MOLECULE = (False, False, False)

CASES: dict[str, dict[str, Any]] = {
    "one element": {"symbols": "Cu Cu Cu Cu"},
    "one element, one side": {"symbols": "Cu Cu Cu Cu", "type_one_side": True},
    "two elements": {"symbols": "Cu O O Cu"},
    "two elements, one side": {"symbols": "Cu O O Cu", "type_one_side": True},
    "three elements": {"symbols": "H O Cu O"},
    "absent element": {"symbols": "Cu Cu O", "elements": ("O", "H", "Cu"), "capacity": (4, 2, 8)},
    "narrow cell": {"symbols": "Cu O", "cell": NARROW},
    "narrow cell, one side": {"symbols": "Cu O", "cell": NARROW, "type_one_side": True},
    "molecule": {"symbols": "O H H", "pbc": MOLECULE},
    "atom without neighbours": {"symbols": "O H H O", "pbc": MOLECULE, "apart": 50.0},
    "time step": {"symbols": "Cu O O Cu", "resnet_dt": True, "fitting": (5, 10, 10)},
    "doubling": {"symbols": "Cu O O", "embedding": (4, 4, 8), "axis": 8, "fitting": (4, 8, 3)},
    "gelu": {"symbols": "Cu O O", "activation": "gelu"},
    "gelu_tf": {"symbols": "Cu O O", "activation": "gelu_tf"},
    "silu": {"symbols": "Cu O O", "activation": "silu"},
    "sigmoid": {"symbols": "Cu O O", "activation": "sigmoid"},
    "softplus": {"symbols": "Cu O O", "activation": "softplus"},
    "relu": {"symbols": "Cu O O", "activation": "relu"},
    "relu6": {"symbols": "Cu O O", "activation": "relu6"},
    "none": {"symbols": "Cu O O", "activation": "none"},
}


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


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_prediction(settings: dict[str, Any], make_case: MakeCase, deepmd: ModuleType) -> None:
    """Energy, forces and virial."""
    import torch

    model, frame, w = make_case(**settings)
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
