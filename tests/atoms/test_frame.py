"""Frames: what is taken from ASE, and what is refused."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, read_frames, validate_frame
from ekfcore.errors import InputError

MakeFrame = Callable[..., Frame]

Atoms = pytest.importorskip("ase", reason="needs the extra atoms").Atoms
bulk = pytest.importorskip("ase.build").bulk
ase_io = pytest.importorskip("ase.io")
compare_atoms = pytest.importorskip("ase.calculators.calculator").compare_atoms
LennardJones = pytest.importorskip("ase.calculators.lj").LennardJones
SinglePointCalculator = pytest.importorskip("ase.calculators.singlepoint").SinglePointCalculator
FixAtoms = pytest.importorskip("ase.constraints").FixAtoms

SHEAR = np.array([[1.02, 0.03, 0.0], [0.0, 0.99, 0.04], [0.01, 0.0, 1.03]])


def _argon() -> Any:
    """Return a sheared, rattled crystal with energies, forces and stresses."""
    atoms = bulk("Ar", "fcc", a=4.2, cubic=True)
    atoms.set_cell(atoms.cell @ SHEAR, scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    atoms.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0, smooth=True)
    atoms.get_forces()
    atoms.get_stress()
    return atoms


def test_virial_is_minus_the_strain_derivative_of_the_energy() -> None:
    """Compare the virial taken from ASE's stress with finite differences of the energy."""
    atoms = _argon()
    frame = Frame.from_ase(atoms, "argon")
    expected, step = np.zeros((3, 3)), 1e-5
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[a, b] += sign * step
                strained = atoms.copy()
                strained.calc = LennardJones(sigma=3.4, epsilon=0.0104, rc=8.0, smooth=True)
                strained.set_cell(atoms.cell @ strain, scale_atoms=True)
                energies.append(strained.get_potential_energy())
            expected[a, b] = -(energies[0] - energies[1]) / (2 * step)
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, expected, rtol=1e-6, atol=1e-8)


def test_from_ase_copies_everything() -> None:
    """A frame holds what ASE answers, and does not change with the atoms."""
    atoms = _argon()
    frame = Frame.from_ase(atoms, "argon")
    assert frame.energy == atoms.get_potential_energy()
    np.testing.assert_array_equal(frame.forces, atoms.get_forces())
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, -atoms.get_volume() * atoms.get_stress(voigt=False), rtol=1e-14)
    assert (frame.n_atoms, frame.symbols, frame.source) == (4, ["Ar"] * 4, "argon")
    before = frame.positions.copy()
    atoms.positions += 1.0
    np.testing.assert_array_equal(frame.positions, before)
    validate_frame(frame, require=("energy", "forces", "virial"))


def test_to_ase_and_back() -> None:
    """Nothing is lost on the way to ASE and back."""
    frame = Frame.from_ase(_argon(), "argon")
    atoms = frame.to_ase()
    assert compare_atoms(atoms, _argon()) == []
    again = Frame.from_ase(atoms, "argon")
    assert again.energy == frame.energy
    assert frame.virial is not None
    assert again.virial is not None
    np.testing.assert_array_equal(again.forces, frame.forces)
    np.testing.assert_allclose(again.virial, frame.virial, rtol=1e-14)


def test_virial_of_a_molecule(make_frame: MakeFrame, tmp_path: Path) -> None:
    """Without a cell there is no stress to hold it, but it is there, and in a file."""
    virial = np.arange(9.0).reshape(3, 3)
    frame = make_frame(cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool), virial=virial)
    atoms = frame.to_ase()
    assert "stress" not in atoms.calc.results
    np.testing.assert_array_equal(Frame.from_ase(atoms, "water").virial, virial)
    ase_io.write(tmp_path / "water.xyz", atoms)
    (again,) = read_frames(tmp_path / "water.xyz")
    np.testing.assert_array_equal(again.virial, virial)


def test_to_ase_without_labels(make_frame: MakeFrame) -> None:
    """A label that a frame lacks is lacking in ASE too."""
    again = Frame.from_ase(make_frame(energy=None, forces=None).to_ase(), "water")
    assert (again.energy, again.forces, again.virial) == (None, None, None)


def test_from_ase_calculates_nothing() -> None:
    """Results that are missing, or belong to other positions, are no labels."""
    atoms = _argon()
    atoms.calc = LennardJones()
    assert Frame.from_ase(atoms, "argon").energy is None
    atoms.calc = SinglePointCalculator(atoms, energy=1.0)
    atoms.positions += 0.1
    assert Frame.from_ase(atoms, "argon").energy is None


def test_forces_are_not_constrained() -> None:
    """ASE sets the forces on fixed atoms to zero; labels must stay as computed."""
    atoms = Atoms("Ar2", positions=[[0, 0, 0], [0, 0, 3.5]])
    atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.ones((2, 3)))
    atoms.set_constraint(FixAtoms([0]))
    np.testing.assert_array_equal(Frame.from_ase(atoms, "argon").forces, np.ones((2, 3)))


def test_free_energy_comes_before_energy() -> None:
    """With smearing the forces are the gradient of the free energy, not of the energy extrapolated to no smearing."""
    atoms = Atoms("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, free_energy=-3.1)
    assert Frame.from_ase(atoms, "copper").energy == -3.1


def test_labels_from_info_and_arrays() -> None:
    """Labels of programs that do not use ASE's own names."""
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [0, 0, 2.5]], cell=np.eye(3) * 5, pbc=True)
    atoms.info.update(energy=-7, virial=np.arange(9.0))
    atoms.set_array("force", np.ones((2, 3)))
    frame = Frame.from_ase(atoms, "copper")
    assert frame.energy == -7.0
    np.testing.assert_array_equal(frame.forces, np.ones((2, 3)))
    np.testing.assert_array_equal(frame.virial, np.arange(9.0).reshape(3, 3))


def test_stress_without_a_cell_is_no_virial() -> None:
    """Some programs write a stress for molecules too."""
    atoms = Atoms("Cu")
    atoms.calc = SinglePointCalculator(atoms, energy=-3.0, stress=np.zeros(6))
    assert Frame.from_ase(atoms, "copper").virial is None


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"energy": "unknown"}, "cu.xyz: energy must be real numbers, got 'unknown'"),
        ({"energy": [1.0, 2.0]}, "cu.xyz: energy must be one number, got shape (2,)"),
        ({"stress": [1.0, 2.0]}, "cu.xyz: stress must have 6 or 9 components, got shape (2,)"),
    ],
)
def test_labels_that_are_no_labels(info: dict[str, Any], message: str) -> None:
    """What cannot be a label is refused by name."""
    atoms = Atoms("Cu", cell=np.eye(3))
    atoms.info.update(info)
    with pytest.raises(InputError, match=re.escape(message)):
        Frame.from_ase(atoms, "cu.xyz")


def test_valid_frames_pass(make_frame: MakeFrame) -> None:
    """Periodic, isolated and partly periodic frames with the labels asked for."""
    validate_frame(make_frame())
    validate_frame(make_frame(pbc=np.zeros(3, dtype=bool), cell=np.zeros((3, 3))))
    validate_frame(make_frame(pbc=np.array([True, True, False])))
    validate_frame(make_frame(cell=np.diag([5.0, 6.0, -7.0])))  # left-handed
    validate_frame(make_frame(energy=None, forces=None), require=())
    validate_frame(make_frame(virial=np.eye(3)), require=("virial",))


FORCES_WITH_NAN = np.zeros((3, 3))
FORCES_WITH_NAN[1, 2] = np.nan
FLAT = np.array([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [5.0, 5.0, 0.0]])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"numbers": np.array([], dtype=int)}, "a frame must hold at least one atom, got numbers of shape (0,)"),
        ({"numbers": np.array([[8, 1, 1]])}, "at least one atom, got numbers of shape (1, 3)"),
        ({"positions": np.zeros((2, 3))}, "positions must have shape (3, 3), got (2, 3)"),
        ({"cell": np.zeros(3)}, "cell must have shape (3, 3), got (3,)"),
        ({"pbc": np.array(True)}, "pbc must have shape (3,), got ()"),
        ({"forces": np.zeros(9)}, "forces must have shape (3, 3), got (9,)"),
        ({"virial": np.zeros(6)}, "virial must have shape (3, 3), got (6,)"),
        ({"energy": np.zeros(2)}, "energy must have shape (), got (2,)"),
        ({"energy": None}, "has no energy; add it (in extended XYZ: energy=...)"),
        ({"forces": None}, "has no forces; add it (in extended XYZ: the column forces)"),
        ({"energy": float("nan")}, "energy must be finite, got nan"),
        ({"forces": FORCES_WITH_NAN}, "forces of atom 1 must be finite, got nan"),
        ({"positions": np.full((3, 3), np.inf)}, "positions of atom 0 must be finite, got inf"),
        ({"virial": np.full((3, 3), -np.inf)}, "virial must be finite, got -inf"),
        ({"cell": np.full((3, 3), np.nan)}, "cell must be finite, got nan"),
        ({"numbers": np.array([8, 0, 1])}, "atom 1 must be an element, atomic number 1 to 118, got 0"),
        ({"numbers": np.array([8, 1, 119])}, "atom 2 must be an element, atomic number 1 to 118, got 119"),
        ({"cell": np.zeros((3, 3))}, "a periodic cell must span a volume, got 0 Å^3"),
        ({"cell": np.diag([5.0, 6.0, 0.0])}, "a periodic cell must span a volume, got 0 Å^3"),
        ({"cell": np.diag([5.0, 6.0, 0.05])}, "a periodic cell must span a volume, got 1.5 Å^3"),
        ({"cell": FLAT, "pbc": np.array([True, False, False])}, "a periodic cell must span a volume, got 0 Å^3"),
    ],
)
def test_bad_frames_are_refused(make_frame: MakeFrame, fields: dict[str, Any], message: str) -> None:
    """One line, which opens with the source."""
    with pytest.raises(InputError, match=f"^water.xyz, frame 3: .*{re.escape(message)}") as caught:
        validate_frame(make_frame(**fields))
    assert "\n" not in str(caught.value)


def test_virial_can_be_required(make_frame: MakeFrame) -> None:
    """A virial is needed only by who asks for it."""
    validate_frame(make_frame())
    with pytest.raises(InputError, match=r"frame 3: has no virial; add it .*stress="):
        validate_frame(make_frame(), require=("energy", "virial"))


def test_missing_package_names_the_command(make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed the core only learns what to install."""
    monkeypatch.setitem(sys.modules, "ase.data", None)
    with pytest.raises(InputError, match=r'^ase is not installed; run: pip install "ekfcore\[atoms\]"$'):
        _ = make_frame().symbols
