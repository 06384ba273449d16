"""Energies of atoms: their sum, their order, and that they know nothing beyond the cutoff."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential, NodalPotential, find_kernels

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]

SPACING = 1 / 64  # [1/Å]
TIGHT = 1e-12


def _energies(model: Any, w: Any, frame: Frame) -> Any:
    return model.atomic_energies(w, model.environment(frame, like=w))


def _nodal(model: DeepPotential) -> NodalPotential:
    kernels = find_kernels(np)
    assert kernels is not None
    return NodalPotential(model, SPACING, kernels)


@pytest.mark.parametrize("kind", ["exact", "nodal"])
def test_sum_is_the_energy(case: Case, kind: str) -> None:
    """Of both models, with the bias of the elements."""
    exact, frame, w = case
    model: Any = exact if kind == "exact" else _nodal(exact)
    energies = _energies(model, w, frame)
    assert energies.shape == (frame.n_atoms,)
    energy = float(model.predict(w, model.environment(frame, like=w))["energy"])
    assert energies.sum() == pytest.approx(energy, rel=0, abs=TIGHT * np.abs(energies).sum())


@pytest.mark.parametrize("kind", ["exact", "nodal"])
def test_order_is_that_of_the_frame(make_case: MakeCase, kind: str) -> None:
    """Elements mixed at will: an atom has the energy that it has as the first of its frame."""
    exact, frame, w = make_case("Cu O O Cu")
    model: Any = exact if kind == "exact" else _nodal(exact)
    energies = _energies(model, w, frame)
    assert len(np.unique(energies)) == frame.n_atoms
    for atom in range(frame.n_atoms):
        turned = replace(
            frame, numbers=np.roll(frame.numbers, -atom), positions=np.roll(frame.positions, -atom, axis=0)
        )
        assert _energies(model, w, turned)[0] == pytest.approx(energies[atom], rel=TIGHT)


def test_sees_no_farther_than_the_cutoff(make_case: MakeCase) -> None:
    """Each of two molecules has the energies that it has alone, and a lonely atom those of its element."""
    model, near, w = make_case("O H H O", pbc=(False, False, False), apart=50.0)
    energies = _energies(model, w, near)
    molecule = replace(near, numbers=near.numbers[:3], positions=near.positions[:3])
    np.testing.assert_allclose(energies[:3], _energies(model, w, molecule), rtol=TIGHT)
    atom = replace(near, numbers=near.numbers[3:], positions=near.positions[3:])
    lonely = model.predict(w, model.environment(atom, like=w))["energy"]
    assert energies[3] == pytest.approx(float(lonely), rel=TIGHT)


def test_array_libraries(make_case: MakeCase, xp: "Xp", assert_close: "AssertClose") -> None:
    """In arrays of any library."""
    model, frame, w = make_case("Cu O O Cu")
    expected = _energies(model, w, frame)
    assert_close(_energies(model, xp.asarray(w), frame), xp.asarray(expected), rtol=TIGHT)
    single = _energies(model, xp.asarray(w, "float32"), frame)
    assert_close(single, xp.asarray(expected, "float32"), rtol=1e-5)  # rounding of float32
