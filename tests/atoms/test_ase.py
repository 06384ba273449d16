"""EKFCalculator does what the rest of ASE expects of a calculator."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import copy
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ekfcore.errors import InputError

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')

from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import FiniteDifferenceCalculator
from ase.calculators.mixing import LinearCombinationCalculator, SumCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.filters import FrechetCellFilter
from ase.io import read, write
from ase.optimize import BFGS
from ase.stress import full_3x3_to_voigt_6_stress

from ekfcore.potentials import EKFCalculator

SHAPES = {"energy": (), "free_energy": (), "energies": (8,), "forces": (8, 3), "stress": (6,)}


class Counting(EKFCalculator):
    """Notes what is calculated."""

    def calculate(self, *args: Any, **kwargs: Any) -> None:
        """Count, then calculate."""
        self.calls = getattr(self, "calls", 0) + 1
        super().calculate(*args, **kwargs)


def test_has_what_it_says(loaded: Any, alloy: Atoms) -> None:
    """Every property that it implements, and no other, in the shape and the order that ASE gives it."""
    calculator = EKFCalculator(loaded)
    assert set(calculator.implemented_properties) == set(SHAPES)
    for name, shape in SHAPES.items():
        value = calculator.get_property(name, alloy)
        assert np.shape(value) == shape
        assert np.asarray(value).dtype == np.float64
    assert {name: np.shape(value) for name, value in calculator.results.items()} == SHAPES
    assert set(calculator.export_properties()) == {*SHAPES, "natoms"}
    alloy.calc = calculator
    np.testing.assert_array_equal(full_3x3_to_voigt_6_stress(alloy.get_stress(voigt=False)), alloy.get_stress())
    for name in ("dipole", "charges", "magmom", "stresses"):
        with pytest.raises(PropertyNotImplementedError, match=name):
            calculator.get_property(name, alloy)


def test_a_result_is_the_callers_own(loaded: Any, alloy: Atoms) -> None:
    """Writing into it does not change what the calculator keeps."""
    alloy.calc = EKFCalculator(loaded)
    first = alloy.get_forces()
    kept = first.copy()
    first[:] = 0.0
    np.testing.assert_array_equal(alloy.get_forces(), kept)


def test_one_calculation_serves_all_that_it_brings(loaded: Any, alloy: Atoms) -> None:
    """Energies of atoms, which few want, are one more."""
    calculator = Counting(loaded)
    assert calculator.calculation_required(alloy, ["energy"])
    assert calculator.get_property("energy", alloy, allow_calculation=False) is None
    alloy.calc = calculator
    alloy.get_potential_energy()
    alloy.get_forces()
    alloy.get_stress()
    alloy.get_potential_energy(force_consistent=True)
    assert calculator.calls == 1
    assert not calculator.calculation_required(alloy, ["energy", "forces", "stress"])
    assert calculator.calculation_required(alloy, ["energies"])
    for _ in range(2):
        alloy.get_potential_energies()
    assert calculator.calls == 2
    assert set(calculator.results) == set(SHAPES)
    alloy.info["note"] = alloy.set_tags(1)  # nothing that a calculator looks at
    assert not calculator.calculation_required(alloy, ["energy"])
    calculator.reset()
    assert calculator.calculation_required(alloy, ["energy"])


def _move(atoms: Atoms) -> None:
    atoms.positions[3, 1] += 0.1


def _stretch(atoms: Atoms) -> None:
    atoms.cell[2, 2] += 0.1


def _exchange(atoms: Atoms) -> None:
    atoms.symbols[0] = "Au"


def _open(atoms: Atoms) -> None:
    atoms.pbc = (True, True, False)


def _remove(atoms: Atoms) -> None:
    del atoms[2]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (_move, ["positions"]),
        (_stretch, ["cell"]),
        (_exchange, ["numbers"]),
        (_open, ["pbc"]),
        (_remove, ["positions", "numbers"]),
    ],
)
def test_notices_a_change(loaded: Any, alloy: Atoms, change: Callable[[Atoms], None], names: list[str]) -> None:
    """What was calculated before is gone, and what comes is that of a new calculator."""
    calculator = alloy.calc = EKFCalculator(loaded)
    before = alloy.get_potential_energy(), alloy.get_potential_energies()
    change(alloy)
    assert set(names) <= set(calculator.check_state(alloy))
    assert calculator.get_property("energies", alloy, allow_calculation=False) is None
    assert alloy.get_potential_energy() != before[0]
    other = alloy.copy()
    other.calc = EKFCalculator(loaded)
    np.testing.assert_array_equal(alloy.get_potential_energies(), other.get_potential_energies())
    np.testing.assert_array_equal(alloy.get_stress(), other.get_stress())


@pytest.mark.parametrize("spacing", [1 / 64, 0.0], ids=["nodes", "exact nets"])
def test_energies_of_atoms(loaded: Any, alloy: Atoms, spacing: float) -> None:
    """They add up to the energy, follow their atoms into another order, and include the energy of the element."""
    loaded = replace(loaded, model=replace(loaded.model, spacing=spacing))
    alloy.calc = EKFCalculator(loaded)
    energies = alloy.get_potential_energies()
    assert abs(energies.sum() - alloy.get_potential_energy()) < 1e-12 * abs(alloy.get_potential_energy())
    order = np.random.default_rng(3).permutation(len(alloy))
    other = alloy[order]
    other.calc = EKFCalculator(loaded)
    np.testing.assert_allclose(other.get_potential_energies(), energies[order], rtol=1e-12)
    higher = replace(loaded.model.statistics, energy_bias=np.add(loaded.model.energy_bias, [1.0, 2.0]))
    alloy.calc = EKFCalculator(replace(loaded, model=replace(loaded.model, statistics=higher)))
    np.testing.assert_allclose(
        alloy.get_potential_energies(), energies + np.where(alloy.symbols == "Au", 1.0, 2.0), rtol=1e-12
    )


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True), False], ids=["slab", "wire", "cluster"])
def test_derivatives_of_mixed_periodicity(loaded: Any, alloy: Atoms, pbc: Any) -> None:
    """ASE's calculator of finite differences, which takes the energy alone, agrees below 1e-6 [eV/Å, eV/Å^3]."""
    alloy.pbc = pbc
    alloy.center(vacuum=3.0, axis=[k for k in range(3) if not alloy.pbc[k]])
    calculator = EKFCalculator(loaded)
    numeric = FiniteDifferenceCalculator(EKFCalculator(loaded), eps_disp=1e-4, eps_strain=1e-5)
    for name in ("forces", "stress"):
        difference = calculator.get_property(name, alloy) - numeric.get_property(name, alloy)
        assert np.abs(difference).max() < 1e-6


def test_copies(loaded: Any, alloy: Atoms) -> None:
    """A calculator can be copied and sent to another process, with its results."""
    alloy.calc = EKFCalculator(loaded)
    forces = alloy.get_forces()
    for calculator in (copy.deepcopy(alloy.calc), pickle.loads(pickle.dumps(alloy.calc))):
        assert not calculator.calculation_required(alloy, ["forces"])
        calculator.reset()
        np.testing.assert_array_equal(calculator.get_property("forces", alloy), forces)


def test_atoms_remember_results_without_the_model(loaded: Any, alloy: Atoms) -> None:
    """ASE keeps them in a calculator that knows nothing else."""
    alloy.calc = EKFCalculator(loaded, uncertainty=lambda frame: SimpleNamespace(force_mean=0.5))
    alloy.get_potential_energies()
    alloy.get_forces()
    alloy.calc.get_property("kpu", alloy)
    frozen = alloy.copy()
    frozen.calc = SinglePointCalculator(frozen, **{name: alloy.calc.results[name] for name in SHAPES})
    np.testing.assert_array_equal(frozen.get_forces(), alloy.get_forces())
    assert set(alloy.calc.export_properties()) == {*SHAPES, "natoms"}


@pytest.mark.parametrize("name", ["alloy.traj", "alloy.json", "alloy.db", "alloy.extxyz"])
def test_results_are_written(loaded: Any, alloy: Atoms, tmp_path: Path, name: str) -> None:
    """Formats that keep results keep ours, to the digits that they have."""
    alloy.calc = EKFCalculator(loaded, uncertainty=lambda frame: SimpleNamespace(force_mean=0.5))
    alloy.calc.get_property("kpu", alloy)
    energy, forces, stress = alloy.get_potential_energy(), alloy.get_forces(), alloy.get_stress()
    write(tmp_path / name, alloy)
    found = read(tmp_path / name)
    assert isinstance(found, Atoms)
    assert found.get_potential_energy() == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(found.get_forces(), forces, atol=1e-8)
    np.testing.assert_allclose(found.get_stress(), stress, atol=1e-12)


def test_parameters_are_none(loaded: Any) -> None:
    """A model is no set of keywords, so ASE has nothing to write of it but its name."""
    calculator = EKFCalculator(loaded)
    assert calculator.todict() == {}
    assert calculator.name == "ekfcalculator"


def test_mixes_with_other_calculators(loaded: Any, alloy: Atoms) -> None:
    """Sums and differences of calculators, as in Δ-learning."""
    alloy.calc = EKFCalculator(loaded)
    twice, none = alloy.copy(), alloy.copy()
    twice.calc = SumCalculator([EKFCalculator(loaded), EKFCalculator(loaded)])
    none.calc = LinearCombinationCalculator([EKFCalculator(loaded), EKFCalculator(loaded)], [1.0, -1.0])
    for name in SHAPES:
        value = alloy.calc.get_property(name, alloy)
        np.testing.assert_allclose(twice.calc.get_property(name, twice), 2 * value, rtol=1e-14)
        np.testing.assert_array_equal(none.calc.get_property(name, none), 0 * value)


def test_constraints(loaded: Any, alloy: Atoms) -> None:
    """They act on what ASE passes on, and not on what the calculator keeps."""
    alloy.calc = EKFCalculator(loaded)
    forces = alloy.get_forces()
    alloy.set_constraint(FixAtoms(indices=[0, 5]))
    constrained = alloy.get_forces()
    assert not constrained[[0, 5]].any()
    np.testing.assert_array_equal(np.delete(constrained, [0, 5], axis=0), np.delete(forces, [0, 5], axis=0))
    np.testing.assert_array_equal(alloy.get_forces(apply_constraint=False), forces)


def test_relaxes_atoms_and_cell(random_model: Callable[..., Any]) -> None:
    """Energy falls until forces and stress are gone, and fixed atoms stay where they are."""
    atoms = bulk("Cu", cubic=True)
    atoms.positions += np.random.default_rng(1).normal(0.0, 0.05, atoms.positions.shape)
    atoms.calc = EKFCalculator(random_model(capacity=(120,)))
    before = atoms.get_potential_energy()
    start = atoms.positions.copy()
    atoms.set_constraint(FixAtoms(indices=[2]))
    assert BFGS(atoms, logfile=None).run(fmax=1e-4, steps=200)
    np.testing.assert_array_equal(atoms.positions[2], start[2])
    between = atoms.get_potential_energy()
    assert between < before
    atoms.set_constraint()
    cell: Any = FrechetCellFilter(atoms)
    assert BFGS(cell, logfile=None).run(fmax=1e-4, steps=200)
    assert atoms.get_potential_energy() < between
    assert np.abs(atoms.get_forces()).max() < 1e-4
    assert np.abs(atoms.get_stress()).max() * atoms.get_volume() < 1e-3


def test_no_atoms(loaded: Any) -> None:
    """There is nothing to predict, and that is told."""
    with pytest.raises(InputError, match="must hold at least one atom"):
        EKFCalculator(loaded).get_potential_energy(Atoms())


def test_goes_on_after_a_mistake(loaded: Any, alloy: Atoms) -> None:
    """Atoms that were refused leave nothing behind, and are refused again."""
    alloy.calc = EKFCalculator(loaded)
    energy = alloy.get_potential_energy()
    alloy.symbols[0] = "H"
    for _ in range(2):
        with pytest.raises(InputError, match="holds H, which the model does not know"):
            alloy.get_potential_energy()
    assert not alloy.calc.results
    alloy.symbols[0] = "Cu"
    assert alloy.get_potential_energy() == energy
