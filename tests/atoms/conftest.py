"""Fixtures for the tests of ekfcore.atoms."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from ekfcore.atoms import Frame

if TYPE_CHECKING:
    from ase import Atoms

MakeFrame: TypeAlias = Callable[..., Frame]


@pytest.fixture
def make_frame() -> MakeFrame:
    """Return a maker of small valid frames; any field can be replaced."""

    def make(**fields: Any) -> Frame:
        valid: dict[str, Any] = {
            "numbers": np.array([8, 1, 1]),
            "positions": np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
            "cell": np.diag([5.0, 6.0, 7.0]),
            "pbc": np.array([True, True, True]),
            "energy": -14.0,
            "forces": np.array([[0.1, 0.2, 0.3], [-0.1, 0.0, 0.0], [0.0, -0.2, -0.3]]),
            "source": "water.xyz, frame 3",
        }
        return Frame(**{**valid, **fields})

    return make


@pytest.fixture
def random_model() -> Callable[..., Any]:
    """Return a maker of models with random weights, as they are loaded."""
    model_file = pytest.importorskip("ekfcore.potentials.model_file", reason="a model file needs ekfcore[atoms]")
    from ekfcore.models.deep_potential import Architecture, DeepPotential, Statistics, initial_weights
    from ekfcore.potentials.position import Position

    def make(elements: tuple[str, ...] = ("Cu",), capacity: tuple[int, ...] = (60,)) -> Any:
        form = Architecture(
            elements=elements,
            capacity=capacity,
            cutoff=4.5,
            cutoff_smooth=1.0,
            embedding=(4, 8),
            axis=4,
            fitting=(10, 10),
        )
        rng = np.random.default_rng(5)
        n = len(elements)
        statistics = Statistics(
            mean=np.tile([0.1, 0.0, 0.0, 0.0], (n, 1)),
            std=np.tile([0.1, 0.07, 0.07, 0.07], (n, 1)),
            energy_bias=rng.normal(size=n),
        )
        return model_file.LoadedModel(
            model=DeepPotential(form, statistics, spacing=1 / 64),
            weights=initial_weights(form, seed=3),
            settings={},
            position=Position(),
            optimizer={"type": "filter"},
            arrays={},
        )

    return make


@pytest.fixture
def loaded(random_model: Callable[..., Any]) -> Any:
    """Return a model of copper and gold with random weights."""
    return random_model(elements=("Au", "Cu"), capacity=(60, 60))


@pytest.fixture
def alloy() -> "Atoms":
    """Return eight atoms in a skewed cell, displaced from their sites."""
    bulk = pytest.importorskip("ase.build", reason='ase is not installed: pip install "ekfcore[atoms]"').bulk
    atoms: Atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    skew = np.asarray([[1.02, 0.03, 0.0], [0.0, 0.98, 0.01], [0.0, 0.0, 1.03]])
    atoms.set_cell(atoms.cell[:] @ skew, scale_atoms=True)
    atoms.positions += np.random.default_rng(1).normal(0.0, 0.1, atoms.positions.shape)
    atoms.symbols[[1, 4, 5]] = "Au"
    return atoms


@pytest.fixture
def system() -> Any:
    """Return two frames of a water molecule in a box, the atoms of one element not side by side, as dpdata has them."""
    dpdata = pytest.importorskip("dpdata", reason="dpdata writes these formats")
    rng = np.random.default_rng(0)
    return dpdata.LabeledSystem(
        data={
            "atom_names": ["O", "H"],
            "atom_numbs": [1, 2],
            "atom_types": np.array([1, 0, 1]),
            "orig": np.zeros(3),
            "cells": np.stack([np.diag([9.0, 10.0, 11.0])] * 2),
            "coords": rng.uniform(0, 9, (2, 3, 3)),
            "energies": rng.normal(size=2),
            "forces": rng.normal(size=(2, 3, 3)),
            "virials": rng.normal(size=(2, 3, 3)),
        }
    )
