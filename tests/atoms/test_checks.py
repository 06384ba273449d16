"""One planted fault a test, and the frame that has it; clean data, about which nothing must be said."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from ase import Atoms
    from atoms.conftest import MakeFrame

pytest.importorskip("ase", reason="needs the extra atoms")
pytest.importorskip("scipy", reason="needs the extra atoms")
pytest.importorskip("vesin", reason="needs the extra atoms")

from ase import Atoms as _Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT

from ekfcore.atoms import Frame, read_frames
from ekfcore.atoms._same import same_frames
from ekfcore.atoms.checks import find_faults
from ekfcore.atoms.finding import Finding
from ekfcore.atoms.inspection import inspect_frames


def _labelled(atoms: "Atoms", index: int, file: str = "set.xyz") -> Frame:
    """Return a frame with energy, forces and stress of effective-medium theory."""
    atoms.calc = EMT()
    atoms.get_forces()
    if atoms.pbc.all():
        atoms.get_stress()
    return Frame.from_ase(atoms, f"{file}, frame {index}")


def _copper(
    count: int, *, width: float = 0.08, strain: float = 0.0, seed: int = 0, file: str = "set.xyz"
) -> list[Frame]:
    """Return displaced atoms in cells of eight, which are stretched evenly from one to the next."""
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
        atoms.set_cell(atoms.cell[:] * (1 + strain * (index / count - 0.5)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, width, atoms.positions.shape)
        frames.append(_labelled(atoms, index, file))
    return frames


@pytest.fixture(scope="module")
def copper() -> list[Frame]:
    """Return 20 clean frames."""
    return _copper(20)


def _find(train: Sequence[Frame], test: Sequence[Frame] = ()) -> list[Finding]:
    return find_faults(inspect_frames(train, test))


def _only(findings: Sequence[Finding], check: str, *sources: str) -> Finding:
    """Return the only finding, of this check and with these frames."""
    assert [finding.check for finding in findings] == [check], [str(finding) for finding in findings]
    assert [frame.source for frame in findings[0].frames] == list(sources)
    line = str(findings[0])
    assert line.startswith("set.xyz, frame")
    assert "\n" not in line
    return findings[0]


def _with(frames: Sequence[Frame], index: int, **fields: Any) -> list[Frame]:
    """Return the frames, one of them with other fields."""
    return [replace(frame, **fields) if k == index else frame for k, frame in enumerate(frames)]


def test_clean_data(copper: list[Frame]) -> None:
    """Displaced atoms, strained cells, and a perfect crystal, whose forces are zero by symmetry."""
    crystal = _labelled(bulk("Cu", cubic=True), 20)
    assert crystal.forces is not None
    crystal = replace(crystal, forces=np.zeros_like(crystal.forces))
    strained = _copper(10, width=0.0, strain=0.1, file="strained.xyz")
    assert [str(each) for each in _find([*copper, *strained, crystal])] == []


@pytest.mark.parametrize(
    "atoms",
    [
        bulk("Si"),
        bulk("Mg"),
        bulk("NaCl", "rocksalt", a=5.64).repeat(2),
        _Atoms("He"),
        _Atoms("Ar2", [[0, 0, 0], [0, 0, 9.0]]),
    ],
    ids=["diamond", "hcp", "rock salt", "atom", "far apart"],
)
def test_forces_that_are_zero_by_symmetry(atoms: "Atoms") -> None:
    """Crystals, also with six decimals, and atoms that have nobody near them."""
    frame = Frame.from_ase(atoms, "set.xyz, frame 0")
    frame = replace(frame, positions=frame.positions.round(6), energy=-1.0, forces=np.zeros((len(atoms), 3)))
    assert _find([frame]) == []


def test_zero_forces(copper: list[Frame]) -> None:
    """Displaced atoms, whose forces were not computed."""
    finding = _only(_find(_with(copper, 7, forces=np.zeros((8, 3)))), "zero forces", "set.xyz, frame 7")
    assert "all forces are exactly 0" in finding.text


def test_zero_forces_of_an_unrelaxed_alloy() -> None:
    """On the places of a perfect lattice, elements in no order feel forces."""
    atoms = bulk("Cu", cubic=True).repeat(2)
    atoms.symbols[[0, 3, 4, 11, 17]] = "Au"
    frame = replace(Frame.from_ase(atoms, "set.xyz, frame 0"), energy=-1.0, forces=np.zeros((32, 3)))
    _only(_find([frame]), "zero forces", "set.xyz, frame 0")


def test_outlier_force(copper: list[Frame]) -> None:
    """One pair of forces of 1000 eV/Å among hundreds of 1 eV/Å."""
    forces = np.array(copper[3].forces)
    forces[5, 1] += 1000.0
    forces[6, 1] -= 1000.0
    finding = _only(_find(_with(copper, 3, forces=forces)), "outlier force", "set.xyz, frame 3")
    assert "atom 5" in finding.text or "atom 6" in finding.text


def test_net_force(copper: list[Frame]) -> None:
    """The force on an atom was set to zero, as constraints do."""
    forces = np.array(copper[11].forces)
    forces[np.linalg.norm(forces, axis=1).argmax()] = 0.0
    _only(_find(_with(copper, 11, forces=forces)), "net force", "set.xyz, frame 11")


@pytest.mark.parametrize("shift", [1.0, -3000.0])
def test_energy_of_another_zero(copper: list[Frame], shift: float) -> None:
    """One frame of another calculation, some eV/atom apart."""
    assert copper[9].energy is not None
    shifted = _with(copper, 9, energy=copper[9].energy + 8 * shift)
    _only(_find(shifted), "energies apart", "set.xyz, frame 9")


def test_two_sets_of_energies(copper: list[Frame]) -> None:
    """A third of the frames has another reference: the smaller group is named, the rest of it counted."""
    shifted = [
        replace(frame, energy=frame.energy + 8 * 2.0) if k % 3 == 0 and frame.energy is not None else frame
        for k, frame in enumerate(copper)
    ]
    finding = _only(_find(shifted), "energies apart", *(f"set.xyz, frame {k}" for k in range(0, 20, 3)))
    assert str(finding).startswith("set.xyz, frames 0, 3, 6, 9, 12 and 2 more: ")


def test_energies_that_geometry_explains(copper: list[Frame]) -> None:
    """Compressed cells, a free atom and a dimer lie eV/atom above the crystal, as they should."""
    dense = bulk("Cu", "fcc", a=2.9, cubic=True)
    others = [dense, _Atoms("Cu", cell=[20.0] * 3, pbc=True), _Atoms("Cu2", [[0, 0, 0], [0, 0, 2.3]])]
    frames = [*copper, *(_labelled(atoms, 20 + k) for k, atoms in enumerate(others))]
    assert [str(each) for each in _find(frames) if each.check != "zero virials"] == []


def test_heats_of_formation() -> None:
    """Elements and their compound, as far apart as alumina is, are no two references."""
    rng = np.random.default_rng(1)
    energies = {"Al": -3.7, "O": -4.9, "Al2O3": -7.5}
    frames: list[Frame] = []
    for formula, energy in energies.items():
        for _ in range(6):
            atoms = _Atoms(
                formula, 2.5 * np.arange(len(_Atoms(formula)))[:, None] * [1, 0, 0], cell=[15, 8, 8], pbc=True
            )
            atoms.positions += rng.normal(0, 0.05, atoms.positions.shape)
            frame = Frame.from_ase(atoms.repeat((1, 2, 2)), f"set.xyz, frame {len(frames)}")
            frames.append(replace(frame, energy=(energy + rng.normal(0, 0.01)) * frame.n_atoms))
    assert _find(frames) == []


def test_touching_atoms(copper: list[Frame]) -> None:
    """An atom half an Å from another."""
    positions = copper[4].positions.copy()
    positions[2] = positions[1] + [0.3, 0.4, 0.0]
    finding = _only(_find(_with(copper, 4, positions=positions)), "touching atoms", "set.xyz, frame 4")
    assert "Cu 1 and Cu 2" in finding.text or "Cu 2 and Cu 1" in finding.text


def test_unit_of_length(copper: list[Frame]) -> None:
    """Å taken for Bohr, and Bohr for Å."""
    for factor in (0.529177, 1.889726):
        frames = [replace(f, positions=f.positions * factor, cell=f.cell * factor, virial=None) for f in copper]
        assert "unit of length" in [finding.check for finding in _find(frames)]


def test_same_geometry_with_other_labels(copper: list[Frame]) -> None:
    """Atoms in another order and in other cells; the frame is the same, its energy is not."""
    order = np.random.default_rng(2).permutation(8)
    shifts = np.random.default_rng(3).integers(-2, 3, (8, 3)) @ copper[5].cell
    assert copper[5].forces is not None
    assert copper[5].energy is not None
    again = replace(
        copper[5],
        positions=(copper[5].positions + shifts)[order].round(6),
        forces=copper[5].forces[order],
        energy=copper[5].energy + 8 * 0.1,
        source="set.xyz, frame 20",
    )
    findings = _find([*copper, again])
    assert [finding.check for finding in findings] == ["other labels", "duplicates"]
    assert [frame.source for frame in findings[0].frames] == ["set.xyz, frame 20"]
    assert "the first as set.xyz, frame 5" in findings[0].text
    assert "0.1 eV/atom" in findings[0].text
    _only(_find([*copper, replace(again, energy=copper[5].energy)]), "duplicates", "set.xyz, frame 20")


def test_train_and_test(copper: list[Frame]) -> None:
    """A frame to test on that is among those to train on."""
    test = [replace(frame, source=f"set.xyz, frame {k + 20}") for k, frame in enumerate(_copper(3, seed=1))]
    assert _find(copper, test) == []
    test[1] = replace(copper[2], source="set.xyz, frame 21")
    finding = _only(_find(copper, test), "in train and test", "set.xyz, frame 21")
    assert "the first as set.xyz, frame 2)" in finding.text


def test_molecules_that_are_the_same(make_frame: "MakeFrame") -> None:
    """Without a cell there are no translations; turned or moved a molecule is another frame."""
    molecule_ = replace(Frame.from_ase(molecule("C2H6"), "a, frame 0"), energy=-1.0)
    order = np.array([1, 0, 4, 5, 2, 3, 7, 6])
    other = replace(molecule_, positions=molecule_.positions[order], numbers=molecule_.numbers[order])
    moved = replace(molecule_, positions=molecule_.positions + 0.01)
    assert same_frames([molecule_, moved, make_frame(), other]) == [[0, 3]]


@pytest.mark.parametrize("strain", [0.0, 0.05])
def test_sign_of_the_virial_by_forces(strain: float) -> None:
    """A pair potential fitted to the forces has virials of the right sign."""
    frames = _copper(12, strain=strain)
    assert _find(frames) == []
    turned = [replace(frame, virial=-np.asarray(frame.virial)) for frame in frames]
    finding = _only(_find(turned), "virial sign", *(frame.source for frame in frames))
    assert "that the forces imply" in finding.text


def test_sign_of_the_virial_by_energies() -> None:
    """Perfect crystals of several volumes: no force tells anything, and the energies do."""
    frames = _copper(10, width=0.0, strain=0.08)
    assert _find(frames) == []
    turned = [replace(frame, virial=-np.asarray(frame.virial)) for frame in frames]
    finding = _only(_find(turned), "virial sign", *(frame.source for frame in frames))
    assert "that the energies imply" in finding.text


def test_sign_of_the_virial_in_one_file_of_two() -> None:
    """The file with the wrong sign is named, and not the other."""
    good, bad = _copper(10, file="good.xyz"), _copper(10, seed=1)
    turned = [replace(frame, virial=-np.asarray(frame.virial)) for frame in bad]
    _only(_find([*good, *turned]), "virial sign", *(frame.source for frame in bad))


def test_sign_of_the_virial_cannot_be_told() -> None:
    """Of a few frames, or of virials that follow nothing, nothing is said."""
    turned = [replace(frame, virial=-np.asarray(frame.virial)) for frame in _copper(5)]
    assert _find(turned) == []
    rng = np.random.default_rng(0)
    assert _find([replace(frame, virial=rng.normal(size=(3, 3))) for frame in _copper(12)]) == []


def test_unit_of_the_virial() -> None:
    """A stress in GPa that was taken for eV/Å^3."""
    frames = [replace(frame, virial=160.2 * np.asarray(frame.virial)) for frame in _copper(12)]
    findings = {finding.check: finding for finding in _find(frames)}
    assert "virial unit" in findings
    assert "160" in findings["virial unit"].text


def test_zero_virial(copper: list[Frame]) -> None:
    """A stress that was never computed."""
    _only(_find(_with(copper, 6, virial=np.zeros((3, 3)))), "zero virials", "set.xyz, frame 6")


def test_tension(copper: list[Frame]) -> None:
    """No copper bears -150 GPa."""
    virial = -150.0 / 160.21766 * abs(np.linalg.det(copper[8].cell)) * np.eye(3)
    _only(_find(_with(copper[:7] + copper[8:9], 7, virial=virial)), "tension", "set.xyz, frame 8")


def test_constant_energy(copper: list[Frame]) -> None:
    """The energy of the first frame for all."""
    findings = _find([replace(frame, energy=copper[0].energy) for frame in copper])
    _only(findings, "constant labels", *(frame.source for frame in copper))


def test_many_copies_among_many_frames() -> None:
    """5000 frames of one composition, half of them copies of one; all compared with all would take 20 min."""
    rng = np.random.default_rng(0)
    base = _copper(1)[0]
    moved = [
        replace(base, positions=base.positions + rng.normal(0, 0.05, (8, 3)), source=f"set.xyz, frame {k}")
        for k in range(2500)
    ]
    groups = same_frames([*moved, *[base] * 2500])
    assert [len(group) for group in groups] == [2500]


_TRUE = {
    "Al": {"duplicates"},
    "LiAl": {"duplicates"},
    "HfO2": {"other labels", "in train and test", "duplicates"},
}
"""What is wrong with published sets: frames that are there more than once."""


_SETS = [
    "AgAu",
    "Al",
    "Al_wdm",
    "CH4_pwmat",
    "Cu",
    "Cu_pwmat",
    "EC_pwmat",
    "HfO2",
    "KCl",
    "Li",
    "LiAl",
    "LiGePS_pwmat",
    "LiSiC",
    "Mo",
    "NaCl",
    "Ni",
    "Si",
]


@pytest.mark.parametrize("name", _SETS)
def test_published_sets(shared_data: Path, name: str) -> None:
    """Nothing is said about sets that others have trained on, but what is so."""
    train, test = (read_frames(shared_data / name / f"{part}.xyz.xz") for part in ("train", "test"))
    assert {finding.check for finding in _find(train, test)} == _TRUE.get(name, set())
