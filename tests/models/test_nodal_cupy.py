"""The CUDA kernels of the nodal embedding against those on whole arrays: emulated on the CPU, and on a GPU."""

import gc
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential, NodalPotential
from ekfcore.models.deep_potential._nodal_generic import kernels as generic
from ekfcore.models.deep_potential.nodal_environment import NodalGroup

MakeCase: TypeAlias = Callable[..., tuple[DeepPotential, Frame, NDArray[np.float64]]]

SPACING = 1 / 256  # [1/Å] where the nodes of so few neighbours have gaps
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}  # of the largest element: sums of some hundred products
FREE = (False, False, False)
FRAMES: dict[str, dict[str, Any]] = {
    "one element": {"symbols": "Cu Cu Cu Cu"},
    "two elements": {"symbols": "Cu O O Cu"},
    "more pairs than threads": {"symbols": "Cu Cu O", "cutoff": 8.0},
    "an atom without pairs": {"symbols": "O H H Cu", "pbc": FREE, "apart": 50.0},
    "no pairs": {"symbols": "Cu", "pbc": FREE, "capacity": (3,)},
}


@dataclass(frozen=True)
class Place:
    """Where the kernels run: a module with them, and how to get arrays there."""

    module: ModuleType
    asarray: Callable[[Any], Any]

    def move(self, group: NodalGroup) -> NodalGroup:
        """Return a group with arrays that are there."""
        return _map_arrays(group, self.asarray)


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.gpu)])
def place(request: pytest.FixtureRequest) -> Place:
    """Return each place in turn."""
    if request.param == "emulated":
        return Place(request.getfixturevalue("emulated_nodal"), np.asarray)
    cupy = pytest.importorskip("cupy", reason="cupy is not installed")
    return Place(importlib.import_module("ekfcore.models.deep_potential._nodal_cupy"), cupy.asarray)


@pytest.fixture(params=list(FRAMES.values()), ids=list(FRAMES))
def groups(request: pytest.FixtureRequest, make_case: MakeCase) -> tuple[NodalGroup, ...]:
    """Return the groups of each frame in turn."""
    return _groups(make_case, **request.param)


def _groups(make_case: MakeCase, **settings: Any) -> tuple[NodalGroup, ...]:
    model, frame, w = make_case(**settings)
    return NodalPotential(model, SPACING, generic).environment(frame, like=w).groups


def _map_arrays(group: NodalGroup, function: Callable[[Any], Any]) -> NodalGroup:
    names = ("B", "geometry", "index", "mean", "scale")
    return replace(group, **{name: function(getattr(group, name)) for name in names})


def _round(group: NodalGroup, dtype: str) -> NodalGroup:
    """Return a group with numbers of this precision."""
    return _map_arrays(group, lambda a: a.astype(dtype) if a.dtype.kind == "f" else a)


def _close(actual: Any, desired: NDArray[Any], dtype: str) -> None:
    assert actual.dtype == dtype
    atol = TOLERANCE[dtype] * np.max(np.abs(desired), initial=0.0)
    np.testing.assert_allclose(to_numpy(actual), desired, rtol=0, atol=atol)


def _n_atoms(group: NodalGroup) -> int:
    """Return how many atoms a frame has at least, and one that this group does not know."""
    return int(np.max(group.index[:, 1:3], initial=len(group.B) - 1)) + 2


def _displacements(n_atoms: int, dtype: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return those of all atoms, of one atom along y, of none, and a strain."""
    rng = np.random.default_rng(1)
    moves, strains = rng.normal(size=(4, n_atoms, 3)), np.zeros((4, 3, 3))
    moves[1, 1:], moves[1, 0, ::2], moves[2:], strains[3] = 0.0, 0.0, 0.0, rng.normal(size=(3, 3))
    return moves.astype(dtype), strains.astype(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_forces(place: Place, groups: tuple[NodalGroup, ...], dtype: str) -> None:
    """Of all atoms of the frame, also of those without pairs, and the virial; the same bits every time."""
    kernels = place.module.CupyKernels()
    for group in groups:
        C = np.random.default_rng(0).normal(size=group.B.shape).astype(dtype)
        there, n_atoms = place.move(_round(group, dtype)), _n_atoms(group)
        expected = generic.forces(_round(_round(group, dtype), "float64"), C.astype("float64"), SPACING, n_atoms)
        first, second = (kernels.forces(there, place.asarray(C), SPACING, n_atoms) for _ in range(2))
        for one, two, desired in zip(first, second, expected, strict=True):
            _close(one, desired, dtype)
            np.testing.assert_array_equal(to_numpy(one), to_numpy(two))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_tangent(place: Place, groups: tuple[NodalGroup, ...], dtype: str) -> None:
    """Of several displacements at once, of which one moves nothing; the same bits every time."""
    kernels = place.module.CupyKernels()
    for group in groups:
        moves, strains = _displacements(_n_atoms(group), dtype)
        there, arguments = place.move(_round(group, dtype)), (place.asarray(moves), place.asarray(strains), SPACING)
        exact = _round(_round(group, dtype), "float64")
        expected = generic.tangent(exact, moves.astype("float64"), strains.astype("float64"), SPACING)
        first, second = (kernels.tangent(there, *arguments) for _ in range(2))
        for one, desired in zip(first, expected, strict=True):
            _close(one, desired, dtype)
        np.testing.assert_array_equal(to_numpy(first), to_numpy(second))
        assert kernels.tangent(there, arguments[0][:0], arguments[1][:0], SPACING).shape == (0, *group.B.shape)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("channels", "axis"), [(1, 1), (7, 3), (7, 7), (25, 16)])
def test_descriptor(place: Place, channels: int, axis: int, dtype: str) -> None:
    """The descriptor and its derivatives, for more and for fewer numbers than threads."""
    kernels, rng, (m, n) = place.module.CupyKernels(), np.random.default_rng(0), (2, 3)
    shapes = {"A": (n, 4, channels), "Adot": (m, n, 4, channels), "Dbar": (n, channels, axis)}
    shapes["Dbars"] = (m, *shapes["Dbar"])
    numbers = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    calls: dict[str, list[Any]] = {
        "descriptor": ["A", axis],
        "descriptor_tangent": ["A", "Adot", axis],
        "descriptor_reverse": ["Dbar", "A"],
        "descriptor_reverse_tangent": ["Dbar", "A", "Dbars", "Adot"],
    }
    for name, names in calls.items():
        expected = getattr(generic, name)(*[numbers[a].astype("float64") if a in numbers else a for a in names])
        actual = getattr(kernels, name)(*[place.asarray(numbers[a]) if a in numbers else a for a in names])
        assert actual.shape == expected.shape
        _close(actual, expected, dtype)


def test_few_blocks(place: Place, make_case: MakeCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread takes several pairs where there are too many for one each."""
    group = _groups(make_case, **FRAMES["more pairs than threads"])[0]
    assert len(group.index) > 64
    monkeypatch.setattr(place.module, "_MOST_BLOCKS", 1)
    C = np.random.default_rng(0).normal(size=group.B.shape)
    actual = place.module.CupyKernels().forces(place.move(group), place.asarray(C), SPACING, 3)
    for one, desired in zip(actual, generic.forces(group, C, SPACING, 3), strict=True):
        _close(one, desired, "float64")


def test_arrays_as_they_come(place: Place, make_case: MakeCase) -> None:
    """Not contiguous, and in another precision than the geometry, which decides."""
    group = _groups(make_case, **FRAMES["two elements"])[0]
    C = np.asfortranarray(np.random.default_rng(0).normal(size=group.B.shape).astype("float32"))
    forces, _ = place.module.CupyKernels().forces(place.move(group), place.asarray(C), SPACING, 4)
    _close(forces, generic.forces(group, C.astype("float64"), SPACING, 4)[0], "float64")


def test_tables_live_as_long_as_their_group(place: Place, make_case: MakeCase) -> None:
    """They are made once, and no memory stays behind."""
    kernels, group = place.module.CupyKernels(), place.move(_groups(make_case, **FRAMES["two elements"])[0])
    assert kernels._tables(group, 4) is kernels._tables(group, 4)
    assert len(kernels._known) == 1
    del group
    gc.collect()
    assert len(kernels._known) == 0
