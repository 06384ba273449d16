"""What a calculation depends on beside atoms and cell reaches it: charges, moments, tags, masses, constraints."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _package in ("ase", "pydantic", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

from ase import Atoms, units  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from ase.calculators.calculator import Calculator  # noqa: E402
from ase.constraints import FixAtoms, FixBondLength  # noqa: E402
from ase.io import write  # noqa: E402

from ekfcore.active.rattle import rattled  # noqa: E402
from ekfcore.active.settings import StartSettings  # noqa: E402
from ekfcore.atoms import Frame, read_frames  # noqa: E402
from ekfcore.dynamics import ExploreSettings, explore  # noqa: E402
from ekfcore.errors import InputError  # noqa: E402
from ekfcore.labelling.executors import ExecutorSettings  # noqa: E402
from ekfcore.labelling.label import LabelSettings, label  # noqa: E402
from ekfcore.labelling.ledger import Ledger, frame_key  # noqa: E402

_CALCULATOR = '''
"""An energy made of nothing but what the atoms were given."""
import numpy as np
from ase.calculators.calculator import Calculator


class Given(Calculator):
    implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        energy = 1.0 * atoms.get_initial_charges().sum() + 10.0 * atoms.get_initial_magnetic_moments().sum()
        energy += 100.0 * atoms.get_tags().sum() + 1000.0 * atoms.info.get("charge", 0)
        self.results = {"energy": energy, "forces": np.zeros((len(atoms), 3))}
'''


class Nothing(Calculator):
    """No forces: atoms fly straight on."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        """Return zeros."""
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3))}


def _ion(**info: Any) -> Atoms:
    atoms: Atoms = molecule("OH")
    atoms.set_initial_charges([-0.75, -0.25])
    atoms.set_initial_magnetic_moments([2.0, 0.0])
    atoms.set_tags([0, 3])
    atoms.info.update(info)
    return atoms


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelSettings:
    """Return settings of a calculator that computes in another process."""
    (tmp_path / "given.py").write_text(_CALCULATOR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return LabelSettings(calculator="given:Given", executor=ExecutorSettings(workers=1))


@pytest.mark.parametrize("path", ["ion.xyz", "ion.traj", "ion.json"])
def test_a_label_is_that_of_the_ion(tmp_path: Path, given: LabelSettings, path: str) -> None:
    """From the file through the ledger and back."""
    write(tmp_path / path, _ion(charge=-1) if path != "ion.json" else _ion())
    frames = read_frames(tmp_path / path, require=())
    found = label(frames, given, Ledger(tmp_path / "labels.db"), log_dir=tmp_path)
    right = -1.0 + 20.0 + 300.0 + (-1000.0 if path != "ion.json" else 0.0)
    assert found.labelled[0].energy == pytest.approx(right)
    (again,) = label(frames, given, Ledger(tmp_path / "labels.db"), log_dir=tmp_path).labelled
    assert frame_key(again) == frame_key(frames[0])


def test_states_have_keys_of_their_own() -> None:
    """What a calculator may read makes another frame; zeros, masses and constraints do not."""
    plain = molecule("OH")
    plain.set_initial_magnetic_moments([0.0, 0.0])
    changes: list[dict[str, Any]] = [
        {"initial_charges": [1.0, 0.0]},
        {"initial_magmoms": [1.0, 0.0]},
        {"initial_magmoms": [-1.0, 0.0]},
        {"tags": [1, 0]},
        {"info": {"charge": 1}},
        {"info": {"spin": 3}},
    ]
    frames = [Frame.from_ase(plain, "plain")]
    for change in changes:
        atoms = plain.copy()
        atoms.info.update(change.pop("info", {}))
        for name, values in change.items():
            atoms.set_array(name, None)
            atoms.set_array(name, np.asarray(values))
        frames.append(Frame.from_ase(atoms, "changed"))
    assert len({frame_key(frame) for frame in frames}) == len(frames)
    heavy = plain.copy()
    heavy.set_masses([16.0, 2.0])
    heavy.set_constraint(FixAtoms([0]))
    heavy.info["config_type"] = "oxide"
    bare = Atoms(plain.numbers, plain.positions)
    assert {frame_key(Frame.from_ase(a, "")) for a in (heavy, bare)} == {frame_key(frames[0])}


def test_the_way_through_a_frame() -> None:
    """Nothing is lost, and what is the same without being said is not said."""
    atoms = _ion(charge=-1, step=3)
    atoms.set_masses([16.0, 2.0])
    atoms.set_constraint(FixAtoms([1]))
    frame = Frame.from_ase(atoms, "")
    back = frame.to_ase()
    for name in ("initial_charges", "initial_magmoms", "tags", "masses"):
        assert np.array_equal(back.arrays[name], atoms.arrays[name])
    assert back.info == {"charge": -1}
    assert back.constraints[0].index.tolist() == [1]
    plain = molecule("H2O")
    plain.set_masses(plain.get_masses())
    assert not Frame.from_ase(plain, "").arrays


def _runs(atoms: Atoms, out: Path, **settings: Any) -> Any:
    made = ExploreSettings(steps=10, every=10, max_temperature_factor=1e6, **settings)
    (run,) = explore(partial(Nothing), [Frame.from_ase(atoms, "start")], [300.0], made, seed=1, out=out)
    return run


def test_masses_rule_the_dynamics(tmp_path: Path) -> None:
    """Without forces, atoms of four times the mass go half as far."""
    light, heavy = bulk("Cu", cubic=True), bulk("Cu", cubic=True)
    heavy.set_masses(4 * light.get_masses())
    far, near = (_runs(a, tmp_path / str(k), ensemble="nve").frames[-1] for k, a in enumerate((light, heavy)))
    assert far.positions - light.positions == pytest.approx(2 * (near.positions - heavy.positions), abs=1e-6)
    assert np.abs(near.positions - heavy.positions).max() > 0.005
    assert near.arrays["masses"] == pytest.approx(heavy.get_masses())


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_fixed_atoms_do_not_move(tmp_path: Path, ensemble: str) -> None:
    """Neither in molecular dynamics nor when they are rattled; what else the frame was given stays with it."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms([0, 2]))
    atoms.set_initial_charges([1.0, 0.0, 0.0, 0.0])
    copies = rattled([Frame.from_ase(atoms, "")], StartSettings(structures=["-"], rattled=3), seed=0)
    for frame in (_runs(atoms, tmp_path, ensemble=ensemble).frames[-1], *copies):
        moved = np.linalg.norm(frame.positions - atoms.positions, axis=1)
        assert moved[[0, 2]].tolist() == [0.0, 0.0]
        assert moved[[1, 3]].min() > 1e-3
        assert frame.arrays["initial_charges"].tolist() == [1.0, 0.0, 0.0, 0.0]


def test_dynamics_without_constraints_refuses_them(tmp_path: Path) -> None:
    """In one line, before anything runs."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(InputError, match=r"start: .*FixAtoms.*langevin"):
        _runs(atoms, tmp_path, ensemble="nvt", thermostat="nose-hoover")
    with pytest.raises(InputError, match=r"start: .*FixAtoms"):
        _runs(atoms, tmp_path, ensemble="npt")


def test_bonds_keep_their_length(tmp_path: Path) -> None:
    """Constraints other than FixAtoms are honoured as well."""
    atoms = molecule("N2")
    atoms.set_constraint(FixBondLength(0, 1))
    run = _runs(atoms, tmp_path, ensemble="nve")
    assert Frame.to_ase(run.frames[-1]).get_distance(0, 1) == pytest.approx(atoms.get_distance(0, 1), abs=1e-6)


def test_phonons_of_other_masses() -> None:
    """Frequencies go with the root of the inverse mass."""
    pytest.importorskip("phonopy", reason='phonopy is not installed: pip install "ekfcore[active]"')
    from ase.calculators.emt import EMT

    from ekfcore.properties.phonons import find_phonons

    light, heavy = bulk("Al"), bulk("Al")
    heavy.set_masses(4 * light.get_masses())
    one, four = (find_phonons(Frame.from_ase(a, ""), {"emt": EMT()}, supercell=[2, 2, 2]) for a in (light, heavy))
    assert one.bands["emt"].max() > 5
    assert four.bands["emt"] == pytest.approx(one.bands["emt"] / 2, abs=1e-3)


class Stiff(Calculator):
    """Each atom on a spring of its own, three times as stiff where it has a magnetic moment."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, home: Atoms) -> None:
        super().__init__()
        self.home = home

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = ()) -> None:
        """Return the forces of the springs."""
        scaled = atoms.positions @ np.linalg.inv(self.home.cell)
        away = (scaled - np.rint(2 * scaled) / 2) @ np.asarray(self.home.cell)
        k = 1.0 + 2.0 * (np.abs(atoms.get_initial_magnetic_moments()) > 0.5)[:, None]
        self.results = {"energy": float((k * away**2).sum() / 2), "forces": -k * away}


def test_phonons_tell_magnetic_atoms_apart() -> None:
    """They reach the calculator, and break the symmetry that positions alone would have."""
    pytest.importorskip("phonopy", reason='phonopy is not installed: pip install "ekfcore[active]"')
    from ekfcore.properties.phonons import find_phonons

    atoms = Atoms("Fe2", scaled_positions=[[0, 0, 0], [0.5, 0.5, 0.5]], cell=[2.8] * 3, pbc=True)
    atoms.set_initial_magnetic_moments([2.0, 0.0])
    found = find_phonons(Frame.from_ase(atoms, ""), {"springs": Stiff(atoms)}, supercell=[2, 2, 2])
    bands = found.bands["springs"]
    assert bands.shape[1] == 6
    to_THz = np.sqrt(1 / 55.845) * np.sqrt(units._e / units._amu) * 1e10 / (2 * np.pi) / 1e12
    assert bands.max() == pytest.approx(np.sqrt(3.0) * to_THz, rel=0.2)  # the sum rule takes some of it off


@pytest.mark.parametrize("what", ["charge", "constraint"])
def test_phonons_refuse_what_a_supercell_cannot_have(what: str) -> None:
    """The charge of a cell is not that of many; atoms that are held have no phonons."""
    pytest.importorskip("phonopy", reason='phonopy is not installed: pip install "ekfcore[active]"')
    from ase.calculators.emt import EMT

    from ekfcore.properties.phonons import find_phonons

    atoms = bulk("Al")
    if what == "charge":
        atoms.info["charge"] = 1
    else:
        atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(InputError, match="charge" if what == "charge" else "FixAtoms"):
        find_phonons(Frame.from_ase(atoms, "Al.cif"), {"emt": EMT()})


def test_weights_survive_the_files_of_a_round(tmp_path: Path) -> None:
    """A frame that counts three times still does after it was written."""
    from ekfcore.active.tables import write_frames

    frame = replace(Frame.from_ase(molecule("OH"), ""), energy=1.0, forces=np.zeros((2, 3)), weight=3.0)
    write_frames(tmp_path / "train.extxyz", [frame])
    assert read_frames(tmp_path / "train.extxyz")[0].weight == 3.0
