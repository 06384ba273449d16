"""Fixtures for the tests of ekfcore.models: small Deep Potentials and the reference in torch."""

import importlib.util
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    Statistics,
    initial_weights,
    neighbour_capacity,
)

Case: TypeAlias = tuple[DeepPotential, Frame, NDArray[np.float64]]
MakeCase: TypeAlias = Callable[..., Case]
Neighbours: TypeAlias = Callable[[Frame, int, float], Iterator[tuple[int, NDArray[np.float64]]]]

NUMBERS = {"H": 1, "O": 8, "Cu": 29}
WIDE = np.array([[5.2, 0.0, 0.0], [1.3, 4.9, 0.0], [-0.9, 0.7, 5.1]])  # [Å]
NARROW = WIDE / 2  # narrower than the cutoff: atoms meet their own images
FREE = np.zeros((3, 3))

# What a Deep Potential must get right, whatever is tested.
VARIANTS: dict[str, dict[str, Any]] = {
    "one element": {"symbols": "Cu Cu Cu Cu"},
    "two elements": {"symbols": "Cu O O Cu"},
    "two elements, one side": {"symbols": "Cu O O Cu", "type_one_side": True},
    "three elements": {"symbols": "H O Cu O"},
    "three elements, one side": {"symbols": "H O Cu O", "type_one_side": True},
    "time step": {"symbols": "Cu O O Cu", "resnet_dt": True},
    "doubling, full axis": {"symbols": "Cu O O", "embedding": (4, 4, 8), "axis": 8, "fitting": (4, 8, 3)},
    "gelu": {"symbols": "Cu O O", "activation": "gelu"},
    "silu": {"symbols": "Cu O O", "activation": "silu"},
    "softplus": {"symbols": "Cu O O", "activation": "softplus"},
    "relu6": {"symbols": "Cu O O", "activation": "relu6"},
    "narrow cell": {"symbols": "Cu O", "cell": NARROW},
    "one atom": {"symbols": "Cu", "cell": NARROW},
    "slab": {"symbols": "Cu O O Cu", "pbc": (True, True, False)},
    "wire": {"symbols": "Cu O O Cu", "pbc": (False, False, True)},
    "molecule": {"symbols": "O H H", "pbc": (False, False, False)},
    "absent element": {"symbols": "Cu Cu O", "elements": ("O", "H", "Cu"), "capacity": (4, 2, 8)},
    "no slots for an element": {"symbols": "Cu Cu Cu", "elements": ("O", "Cu"), "capacity": (0, 9)},
    "atom without neighbours": {"symbols": "O H H Cu", "pbc": (False, False, False), "apart": 50.0},
    "more neighbours than places": {"symbols": "Cu O O Cu", "capacity": (3, 5)},
    "more neighbours than places, one side": {"symbols": "Cu O O Cu", "capacity": (3, 5), "type_one_side": True},
    "no places for an element that is there": {"symbols": "Cu O O Cu", "capacity": (0, 40), "activation": "gelu"},
    "nothing but lonely atoms": {"symbols": "Cu", "pbc": (False, False, False), "capacity": (3,)},
}

# What DeePMD-kit must say the same of; it knows periodic in all directions or in none.
MOLECULE = (False, False, False)
DEEPMD: dict[str, dict[str, Any]] = {
    "one element": {"symbols": "Cu Cu Cu Cu"},
    "one element, one side": {"symbols": "Cu Cu Cu Cu", "type_one_side": True},
    "two elements": {"symbols": "Cu O O Cu"},
    "two elements, one side": {"symbols": "Cu O O Cu", "type_one_side": True},
    "three elements": {"symbols": "H O Cu O"},
    "three elements, one side": {"symbols": "H O Cu O", "type_one_side": True},
    "absent element": {"symbols": "Cu Cu O", "elements": ("O", "H", "Cu"), "capacity": (4, 2, 8)},
    "absent element without slots": {"symbols": "Cu Cu Cu", "elements": ("O", "Cu"), "capacity": (0, 9)},
    "narrow cell": {"symbols": "Cu O", "cell": NARROW},
    "narrow cell, one side": {"symbols": "Cu O", "cell": NARROW, "type_one_side": True},
    "molecule": {"symbols": "O H H", "pbc": MOLECULE},
    "atom without neighbours": {"symbols": "O H H O", "pbc": MOLECULE, "apart": 50.0},
    "time step": {"symbols": "Cu O O Cu", "resnet_dt": True, "fitting": (5, 10, 10)},
    "doubling": {"symbols": "Cu O O", "embedding": (4, 4, 8), "axis": 8, "fitting": (4, 8, 3)},
}
DEEPMD |= {
    name: {"symbols": "Cu O O", "activation": name}
    for name in ("gelu", "gelu_tf", "silu", "sigmoid", "softplus", "relu", "relu6", "none", "linear")
}


@pytest.fixture
def make_case() -> MakeCase:
    """Return a maker of a model, a frame and weights, all drawn from a seed."""
    for package in ("ase", "vesin"):
        pytest.importorskip(package, reason=f"a Deep Potential needs {package}: pip install ekfcore[atoms]")
    return _make_case


@pytest.fixture(params=list(VARIANTS.values()), ids=list(VARIANTS))
def case(request: pytest.FixtureRequest, make_case: MakeCase) -> Case:
    """Return every variant of a model in turn, with a frame and weights."""
    return make_case(**request.param)


@pytest.fixture(params=list(DEEPMD))
def deepmd_case(request: pytest.FixtureRequest, make_case: MakeCase) -> Case:
    """Return what DeePMD-kit must agree with in turn; a test that needs less of it chooses by name, indirectly."""
    return make_case(**DEEPMD[request.param])


@pytest.fixture
def neighbours() -> Neighbours:
    """Return a plain loop over the neighbours of an atom, with the vectors to them."""
    return _neighbours


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """Return the Deep Potential written in torch."""
    pytest.importorskip("torch", reason="the reference is written in torch: pip install ekfcore[torch]")
    spec = importlib.util.spec_from_file_location("reference_torch", Path(__file__).with_name("reference_torch.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def deepmd() -> ModuleType:
    """Return DeePMD-kit's models in PyTorch; se_e2_a runs under any torch, and here on the CPU."""
    env: Any = importlib.import_module("deepmd.env")
    # The C++ library in the wheel insists on one version of torch and on MPI, and se_e2_a needs neither: where it is
    # not found, DeePMD-kit does without.
    env.SHARED_LIB_DIR = Path(os.devnull)
    env.GLOBAL_CONFIG["cibuildwheel"] = "0"
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.setenv("DEVICE", "cpu")
        return importlib.import_module("deepmd.pt.model.model")


def _make_case(
    symbols: str,
    *,
    cell: NDArray[np.float64] = WIDE,
    pbc: tuple[bool, bool, bool] = (True, True, True),
    apart: float = 0.0,
    seed: int = 0,
    **architecture: Any,
) -> Case:
    """Put atoms on the corners of a distorted lattice, the last one `apart` [Å] from there."""
    rng = np.random.default_rng(seed)
    names = symbols.split()
    corners = np.array(list(itertools.product([0.05, 0.55], repeat=3)))[[0, 3, 5, 6]][: len(names)]
    positions = (corners + 0.1 * rng.random((len(names), 3))) @ cell
    positions[-1] += apart
    frame = Frame(
        numbers=np.array([NUMBERS[name] for name in names]),
        positions=positions,
        cell=cell if any(pbc) else FREE,
        pbc=np.array(pbc),
        source="made up, frame 0",
    )
    settings: dict[str, Any] = {
        "elements": tuple(dict.fromkeys(names)),
        "cutoff": 4.0,
        "cutoff_smooth": 1.0,
        "embedding": (3, 6),
        "axis": 2,
        "fitting": (5, 5),
    } | architecture
    if "capacity" not in settings:
        most = neighbour_capacity([frame], settings["elements"], settings["cutoff"])
        settings["capacity"] = tuple(count + 2 for count in most)  # some slots stay empty
    arch = Architecture(**settings)
    return DeepPotential(arch, _make_statistics(arch, rng)), frame, initial_weights(arch, seed=seed)


def _neighbours(frame: Frame, atom: int, cutoff: float) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Try every atom in every image, far enough for the cells of these tests."""
    for shift in itertools.product(*[range(-4, 5) if periodic else (0,) for periodic in frame.pbc]):
        for other in range(frame.n_atoms):
            vector = frame.positions[other] + np.array(shift) @ frame.cell - frame.positions[atom]
            if 1e-9 < np.linalg.norm(vector) < cutoff:
                yield other, vector


def _make_statistics(arch: Architecture, rng: np.random.Generator) -> Statistics:
    """Draw statistics that, like real ones, prefer no direction."""
    n_types = len(arch.elements)
    mean, std = np.zeros((n_types, 4)), np.ones((n_types, 4))
    mean[:, 0] = rng.uniform(0.02, 0.2, n_types)
    std *= rng.uniform(0.1, 0.3, (n_types, 1))
    std[:, :1] *= rng.uniform(0.5, 2.0, (n_types, 1))
    return Statistics(mean=mean, std=std, energy_bias=rng.normal(0.0, 5.0, n_types))
