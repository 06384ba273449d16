"""What files call labels, units and elements, and what is said of that which nobody uses."""

import logging
from pathlib import Path

import numpy as np
import pytest

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError

pytest.importorskip("ase.io", reason="needs the extra atoms")

HARTREE, BOHR = 27.211386, 0.529177211

_LATTICE = 'Lattice="4 0 0 0 5 0 0 0 6"'
_COLUMNS = "Properties=species:S:1:pos:R:3:forces:R:3"


def _xyz(
    path: Path, header: str, *, count: int = 1, atoms: str = "Cu 0 0 0 0.1 0.2 0.3\nCu 1 2 3 -0.1 -0.2 -0.3"
) -> Path:
    path.write_text(f"2\n{header}\n{atoms}\n" * count)
    return path


def _read(path: Path, header: str, **words: object) -> Frame:
    (frame,) = read_frames(_xyz(path, header), **words)  # type: ignore[arg-type]
    return frame


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a place for a file."""
    return tmp_path / "a.xyz"


VIRIAL = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])


# ---- labels


@pytest.mark.parametrize(
    "name", ["Energy", "ENERGY", "REF_energy", "ref-energy", "dft_energy", "DFT_Energy", "energies"]
)
def test_energy_by_another_name(name: str, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """There is but one, and it is said."""
    with caplog.at_level(logging.WARNING):
        assert _read(path, f"{_LATTICE} {_COLUMNS} {name}=-1.5").energy == -1.5
    assert caplog.messages == [f"{path}: {name} is taken for the energy (1 of 1 frames)"]


@pytest.mark.parametrize("name", ["Forces", "REF_forces", "dft_force", "FORCE"])
def test_forces_by_another_name(name: str, path: Path) -> None:
    """As a column."""
    frame = _read(path, f"{_LATTICE} {_COLUMNS.replace('forces', name)} energy=-1.5")
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


@pytest.mark.parametrize("name", ["virial", "virials", "Virial", "REF_virials", "dft_virial"])
def test_virial_by_another_name(name: str, path: Path) -> None:
    """Nine numbers."""
    frame = _read(path, f'{_LATTICE} {_COLUMNS} energy=-1.5 {name}="1 2 3 2 4 5 3 5 6"')
    np.testing.assert_array_equal(frame.virial, VIRIAL)


@pytest.mark.parametrize("name", ["stress", "stresses", "Stress", "REF_stress"])
@pytest.mark.parametrize("values", ["1 2 3 2 4 5 3 5 6", "1 4 6 5 3 2"])
def test_stress_by_another_name(name: str, values: str, path: Path) -> None:
    """Nine numbers or six, in ASE's order."""
    frame = _read(path, f'{_LATTICE} {_COLUMNS} energy=-1.5 {name}="{values}"')
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, -120 * VIRIAL, rtol=1e-14)


def test_plain_names_come_first(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is passed over is listed, with the keys that would take it."""
    with caplog.at_level(logging.WARNING):
        frame = _read(path, f'{_LATTICE} {_COLUMNS} energy=-1.5 REF_energy=-7 charge=1 dipole="1 2 3" config_type=bulk')
    assert frame.energy == -1.5
    assert caplog.messages == [
        f"{path}: not used: REF_energy, dipole; "
        "energy_key, forces_key, virial_key, stress_key and weight_key name labels"
    ]


def test_unused_names_are_listed_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not for each frame."""
    with caplog.at_level(logging.WARNING):
        read_frames(_xyz(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 formation_energy=2", count=3))
    assert len(caplog.messages) == 1
    assert "not used: formation_energy;" in caplog.messages[0]


def test_two_that_could_be_meant(path: Path) -> None:
    """Are not chosen from."""
    with pytest.raises(
        InputError, match=r"REF_energy and dft_energy could both be the energy; name one with energy_key"
    ):
        _read(path, f"{_LATTICE} {_COLUMNS} REF_energy=-1.5 dft_energy=-2")


def test_keys_of_the_user(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are stronger than any name, and say which of several is meant."""
    header = (
        f'{_LATTICE} Properties=species:S:1:pos:R:3:gradient_free:R:3 energy=-1.5 my_e=-9 v="1 2 3 2 4 5 3 5 6" w=3'
    )
    words = {"energy_key": "my_e", "forces_key": "gradient_free", "virial_key": "v", "weight_key": "w"}
    with caplog.at_level(logging.WARNING):
        frame = _read(path, header, **words)
    assert (frame.energy, frame.weight) == (-9.0, 3.0)
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    np.testing.assert_array_equal(frame.virial, VIRIAL)
    assert not caplog.messages
    frame = _read(path, f'{_LATTICE} {_COLUMNS} energy=-1.5 t="1 4 6 5 3 2" virial="9 0 0 0 9 0 0 0 9"', stress_key="t")
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, -120 * VIRIAL, rtol=1e-14)


def test_the_energy_beside_a_free_energy(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever names it means it."""
    with caplog.at_level(logging.WARNING):
        assert _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 free_energy=-2", energy_key="energy").energy == -1.5
    assert not caplog.messages


@pytest.mark.parametrize("quantity", ["energy", "forces", "virial", "stress", "weight"])
def test_a_key_that_no_frame_has(quantity: str, path: Path) -> None:
    """Is a mistake, not a wish."""
    with pytest.raises(InputError, match=rf"no frame has wrong, which {quantity}_key names; it has right"):
        _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 right=1", **{f"{quantity}_key": "wrong"})


def test_a_key_that_some_frames_lack(path: Path) -> None:
    """Their other names are no substitute."""
    with_key = _xyz(path, f"{_LATTICE} {_COLUMNS} e=-1.5").read_text()
    path.write_text(with_key + with_key.replace(" e=", " energy="))
    with pytest.raises(InputError, match="frame 1: has no energy"):
        read_frames(path, energy_key="e")


@pytest.mark.parametrize("name", ["config_weight", "weight", "Weight"])
def test_weights_of_frames(name: str, path: Path) -> None:
    """Those of the file and of the entry in CONFIG multiply."""
    from ekfcore.training.sources import Source, read_sources

    assert _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 {name}=0.5").weight == 0.5
    (frame,) = read_sources([Source(path=str(path), weight=3.0)], require=())
    assert frame.weight == 1.5


@pytest.mark.parametrize("weight", ["0", "-1", "nan"])
def test_weights_that_are_none(weight: str, path: Path) -> None:
    """A frame that does not count is not a frame."""
    with pytest.raises(InputError, match="frame 0: its weight must be a positive number"):
        _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 weight={weight}")


def test_keys_reach_the_reader_from_config(path: Path) -> None:
    """An entry of CONFIG has them all."""
    from ekfcore.training.sources import Source, read_sources

    _xyz(path, f"{_LATTICE} {_COLUMNS} mine=-1.5", atoms="D 0 0 0 0.1 0.2 0.3\nO 1 2 3 -0.1 -0.2 -0.3")
    (frame,) = read_sources([Source(path=str(path), energy_key="mine", type_map={"D": "H"})], require=["energy"])
    assert (frame.energy, frame.symbols) == (-1.5, ["H", "O"])


def test_names_in_a_database(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The pairs of ASE's databases count like the header of extended XYZ."""
    atoms = pytest.importorskip("ase", reason="needs the extra atoms").Atoms("Cu", cell=[4, 5, 6], pbc=True)
    with pytest.importorskip("ase.db", reason="needs the extra atoms").connect(tmp_path / "a.db") as database:
        database.write(atoms, key_value_pairs={"dft_energy": -1.5, "gap": 0.2})
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(tmp_path / "a.db", require=["energy"])
    assert frame.energy == -1.5
    assert "not used: gap;" in caplog.text
    assert read_frames(tmp_path / "a.db", energy_key="gap", require=["energy"])[0].energy == 0.2


# ---- cell, periodicity and columns


@pytest.mark.parametrize(
    "header",
    [
        'lattice="4 0 0 1 5 0 0 0 6" properties=species:S:1:pos:R:3:forces:R:3 PBC="T T F" energy=-1.5',
        'LATTICE="4 0 0 1 5 0 0 0 6" PROPERTIES=Species:S:1:Pos:R:3:forces:R:3 Pbc="1 1 0" energy=-1.5',
        'Cell="4 0 0 1 5 0 0 0 6" Properties=symbols:S:1:positions:R:3:forces:R:3 pbc="T T F" energy=-1.5',
    ],
)
def test_other_spellings(header: str, path: Path) -> None:
    """Without which there would be a molecule without forces, or atoms at the origin."""
    frame = _read(path, header)
    np.testing.assert_array_equal(frame.cell, [[4, 0, 0], [1, 5, 0], [0, 0, 6]])
    np.testing.assert_array_equal(frame.pbc, [True, True, False])
    np.testing.assert_array_equal(frame.positions, [[0, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f"{_LATTICE} {_COLUMNS} energy=-1 PBC=no", "a.xyz: pbc must be T or F for each direction, got no"),
        (f'cell="4 5 6" {_COLUMNS} energy=-1', "a.xyz: the lattice must be nine numbers, got [4 5 6]"),
        (f"{_LATTICE} Properties=species:S:1:xyz:R:3:forces:R:3 energy=-1", "must have the columns species and pos"),
    ],
)
def test_what_cannot_be_guessed(header: str, message: str, path: Path) -> None:
    """Is refused."""
    with pytest.raises(InputError) as caught:
        _read(path, header)
    assert message in str(caught.value)


# ---- units


def test_units_of_the_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each for its own quantity; what has none is in ours, and that is said."""
    header = f'{_LATTICE} {_COLUMNS} energy=-1.5 stress="1 2 3 2 4 5 3 5 6" energy-unit=hartree stress-unit=GPa'
    with caplog.at_level(logging.WARNING):
        frame = _read(path, header)
    assert frame.energy == pytest.approx(-1.5 * HARTREE, rel=1e-7)
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, -120 * VIRIAL / 160.21766, rtol=1e-7)
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    assert caplog.messages == [
        f"{path}: its units are taken as hartree (energy), eV/Å (forces), Å (length), GPa (stress) (1 of 1 frames)"
    ]


@pytest.mark.parametrize(
    ("words", "factor"),
    [
        ("forces_unit=hartree/bohr", HARTREE / BOHR),
        ("force-unit=kcal/mol/angstrom", 0.0433641),
        ("Force-Units=eV/Ang", 1.0),
        ("force_unit=au", HARTREE / BOHR),
    ],
)
def test_units_of_forces(words: str, factor: float, path: Path) -> None:
    """Case and hyphens do not matter."""
    frame = _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 {words}")
    assert frame.forces is not None
    np.testing.assert_allclose(frame.forces, factor * np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]), rtol=1e-6)


def test_units_of_the_user(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They hold for all quantities."""
    header = f'{_LATTICE} {_COLUMNS} energy=-1.5 stress="1 2 3 2 4 5 3 5 6"'
    with caplog.at_level(logging.WARNING):
        frame = _read(path, header, energy_unit="Hartree", length_unit="bohr")
    assert frame.energy == pytest.approx(-1.5 * HARTREE, rel=1e-7)
    np.testing.assert_allclose(frame.cell, BOHR * np.diag([4, 5, 6]), rtol=1e-7)
    np.testing.assert_allclose(frame.positions[1], [BOHR, 2 * BOHR, 3 * BOHR], rtol=1e-7)
    assert frame.forces is not None
    np.testing.assert_allclose(frame.forces[0], HARTREE / BOHR * np.array([0.1, 0.2, 0.3]), rtol=1e-7)
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, -120 * HARTREE * VIRIAL, rtol=1e-7)
    assert not caplog.messages


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ("energy-unit=parsec", {}, "frame 0: energy-unit: 'parsec' must be a unit of energy that is known"),
        ("energy-unit=eV", {"energy_unit": "hartree"}, "energy-unit = eV contradicts energy in hartree"),
        ("units=real", {}, "frame 0: units = real does not say what of; give energy_unit and length_unit"),
        ("", {"energy_unit": "parsec"}, "energy_unit: 'parsec' must be a unit of energy that is known"),
    ],
)
def test_units_that_are_no_good(words: str, options: dict[str, str], message: str, path: Path) -> None:
    """One line."""
    with pytest.raises(InputError) as caught:
        _read(path, f"{_LATTICE} {_COLUMNS} energy=-1.5 {words}", **options)
    assert message in str(caught.value)


_N2P2 = """begin
comment none
lattice 10.0 0.0 0.0
lattice 0.0 11.0 0.0
lattice 0.0 0.0 12.0
atom 1.0 2.0 3.0 Cu 0.0 0.0 0.1 0.2 0.3
atom 0.0 0.0 0.0 Cu 0.0 0.0 -0.1 -0.2 -0.3
energy -1.5
charge 0.0
end
"""


@pytest.mark.parametrize(
    ("options", "energy", "length"),
    [
        ({}, HARTREE, BOHR),
        ({"energy_unit": "eV", "length_unit": "angstrom"}, 1.0, 1.0),
        ({"length_unit": "nm"}, HARTREE, 10),
    ],
)
@pytest.mark.parametrize("format", [None, "n2p2", "runnerdata"])
def test_units_of_n2p2(
    options: dict[str, str],
    energy: float,
    length: float,
    format: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are Bohr and Hartree, unless the user knows better; in any case they are said."""
    pytest.importorskip("dpdata", reason="needs the extra atoms")
    path = tmp_path / "input.data"
    path.write_text(_N2P2)
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(path, format=format, **options)  # type: ignore[arg-type]
    assert frame.energy == pytest.approx(-1.5 * energy, rel=1e-6)
    np.testing.assert_allclose(frame.positions[0], length * np.array([1.0, 2.0, 3.0]), rtol=1e-6)
    np.testing.assert_allclose(frame.cell, length * np.diag([10.0, 11.0, 12.0]), rtol=1e-6)
    assert frame.forces is not None
    np.testing.assert_allclose(frame.forces[0], energy / length * np.array([0.1, 0.2, 0.3]), rtol=1e-6)
    said = (options.get("length_unit", "bohr"), options.get("energy_unit", "hartree"))
    assert caplog.messages == [
        f"{path}: lengths are taken as {said[0]} and energies as {said[1]}; length_unit and energy_unit say otherwise"
    ]


def test_n2p2_of_many_sizes(tmp_path: Path) -> None:
    """And a molecule among them."""
    text = _N2P2.replace("atom 0.0 0.0 0.0 Cu 0.0 0.0 -0.1 -0.2 -0.3\n", "")
    text = _N2P2 + "".join(line for line in text.splitlines(keepends=True) if "lattice" not in line)
    (tmp_path / "input.data").write_text(text)
    first, second = read_frames(tmp_path / "input.data")
    assert (first.n_atoms, second.n_atoms) == (2, 1)
    assert first.pbc.all()
    assert not second.pbc.any()


def test_options_of_other_formats(tmp_path: Path) -> None:
    """What cannot be honoured is refused."""
    (tmp_path / "input.data").write_text(_N2P2)
    with pytest.raises(InputError, match="energy_key has no meaning for the format cp2k/output; remove it"):
        read_frames(tmp_path / "input.data", format="cp2k/output", energy_key="e")


# ---- elements


@pytest.mark.parametrize("name", ["D", "Cu1", "Fe1", "X", "7", "OW"])
def test_names_that_are_no_elements(name: str, path: Path) -> None:
    """With a word on what to do; with that done, the frame is read."""
    _xyz(path, f"{_LATTICE} {_COLUMNS} energy=-1.5", atoms=f"{name} 0 0 0 0.1 0.2 0.3\nCu 1 2 3 -0.1 -0.2 -0.3")
    with pytest.raises(InputError) as caught:
        read_frames(path)
    assert f"a.xyz, frame 0: each name must be a chemical symbol, got '{name}'; say which it is with" in str(
        caught.value
    )
    (frame,) = read_frames(path, type_map={name: "Fe"})
    assert frame.symbols == ["Fe", "Cu"]
    np.testing.assert_array_equal(frame.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])


def test_numbered_types_of_extended_xyz(path: Path) -> None:
    """From 1 on, as in LAMMPS."""
    _xyz(path, f"{_LATTICE} {_COLUMNS} energy=-1.5", atoms="2 0 0 0 0.1 0.2 0.3\n1 1 2 3 -0.1 -0.2 -0.3")
    (frame,) = read_frames(path, type_map=["O", "H"])
    assert frame.symbols == ["H", "O"]
    with pytest.raises(InputError, match="type 2 must have an element, type_map names 1 from 1 on"):
        read_frames(path, type_map=["O"])


def test_type_maps_that_do_not_fit(path: Path) -> None:
    """They are refused."""
    _xyz(path, f"{_LATTICE} {_COLUMNS} energy=-1.5")
    cases: tuple[tuple[list[str] | dict[str, str], str], ...] = (
        (["O", "H"], r"names its elements itself \(Cu\), and type_map is a list for types that are numbers"),
        ({"D": "H"}, "has none of D, which type_map names; it has Cu"),
        ({"Cu": "Gold"}, "type_map must give chemical symbols, got 'Gold' for Cu"),
    )
    for type_map, message in cases:
        with pytest.raises(InputError, match=message):
            read_frames(path, type_map=type_map)


def test_atomic_numbers_in_a_column(path: Path) -> None:
    """They say which elements the labels mean."""
    columns = _COLUMNS.replace("species:S:1", "species:S:1:Z:I:1")
    _xyz(path, f"{_LATTICE} {columns} energy=-1.5", atoms="Fe1 26 0 0 0 0.1 0.2 0.3\nFe2 26 1 2 3 -0.1 -0.2 -0.3")
    (frame,) = read_frames(path)
    assert (frame.symbols, frame.energy) == (["Fe", "Fe"], -1.5)


_DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 4
0 5
0 6
ITEM: ATOMS id type x y z fx fy fz
1 2 0 0 0 0.1 0.2 0.3
2 1 1 2 3 -0.1 -0.2 -0.3
"""


@pytest.mark.parametrize("type_map", [["O", "H"], {"1": "O", "2": "H"}])
def test_types_of_a_lammps_dump(type_map: list[str] | dict[str, str], tmp_path: Path) -> None:
    """They are not hydrogen and helium; and a dump has no energy, of which ASE makes 0."""
    path = tmp_path / "run.lammpstrj"
    path.write_text(_DUMP)
    with pytest.raises(InputError, match=r'its types are numbers; name their elements, as in type_map = \["O", "H"\]'):
        read_frames(path, require=())
    (frame,) = read_frames(path, type_map=type_map, require=("forces",))
    assert frame.symbols == ["H", "O"]
    assert frame.energy is None
    with pytest.raises(InputError, match="has a type beyond 1, the last that type_map names; add the others"):
        read_frames(path, type_map={"1": "O"}, require=())


def test_elements_of_a_lammps_dump(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By names that are none, and by masses, which are guesses."""
    path, text = tmp_path / "run.lammpstrj", _DUMP.replace("1 2 0 0 0", "1 Fe1 0 0 0").replace("2 1 1 2 3", "2 O 1 2 3")
    path.write_text(text.replace("id type", "id element"))
    with pytest.raises(
        InputError, match="each name must be a chemical symbol, got 'Fe1'; say which it is with type_map"
    ):
        read_frames(path, require=())
    (frame,) = read_frames(path, type_map={"Fe1": "Fe"}, require=("forces",))
    assert frame.symbols == ["Fe", "O"]
    np.testing.assert_array_equal(frame.positions, [[0, 0, 0], [1, 2, 3]])
    heavy = (
        _DUMP.replace("id type", "id type mass").replace("1 2 0 0 0", "1 2 1.008 0 0 0").replace("2 1 1", "2 1 16.0 1")
    )
    path.write_text(heavy)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert read_frames(path, require=())[0].symbols == ["H", "O"]
    assert "its elements are guessed from the masses of the atoms; type_map names them" in caplog.text
    assert read_frames(path, require=(), type_map=["Au", "Cu"])[0].symbols == ["Cu", "Au"]


def test_types_of_a_lammps_dump_through_dpdata(tmp_path: Path) -> None:
    """The same word for it."""
    pytest.importorskip("dpdata", reason="needs the extra atoms")
    path = tmp_path / "run.dump"
    path.write_text(_DUMP)
    (frame,) = read_frames(path, type_map=["O", "H"], format="lammps/dump", require=())
    assert sorted(frame.symbols) == ["H", "O"]
    with pytest.raises(InputError, match=r"each name must be a chemical symbol, got 'TYPE_.'; say which it is"):
        read_frames(path, format="lammps/dump", require=())


def test_units_of_a_lammps_dump(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those that it names, else metal, and then it is said."""
    path = tmp_path / "run.lammpstrj"
    path.write_text("ITEM: UNITS\nreal\n" + _DUMP)
    (frame,) = read_frames(path, type_map=["O", "H"], require=("forces",))
    assert frame.forces is not None
    np.testing.assert_allclose(frame.forces[0], 0.0433641 * np.array([0.1, 0.2, 0.3]), rtol=1e-5)
    path.write_text(_DUMP)
    with caplog.at_level(logging.WARNING):
        read_frames(path, type_map=["O", "H"], require=("forces",))
    assert caplog.messages == [f"{path}: does not name its units; forces are taken as eV/Å (units metal)"]


def test_types_of_lammps_data(tmp_path: Path) -> None:
    """Where no masses tell them."""
    text = "data\n\n2 atoms\n2 atom types\n\n0 4 xlo xhi\n0 5 ylo yhi\n0 6 zlo zhi\n\n"
    text += "Atoms # atomic\n\n1 2 0 0 0\n2 1 1 2 3\n"
    (tmp_path / "a.data").write_text(text)
    with pytest.raises(InputError, match="its types are numbers; name their elements"):
        read_frames(tmp_path / "a.data", format="lammps-data", require=())
    (frame,) = read_frames(tmp_path / "a.data", format="lammps-data", type_map=["O", "H"], require=())
    assert frame.symbols == ["H", "O"]


def test_a_type_map_where_it_means_nothing(tmp_path: Path) -> None:
    """It is not passed over."""
    (tmp_path / "POSCAR").write_text("Cu\n1.0\n4 0 0\n0 5 0\n0 0 6\nCu\n1\nDirect\n0 0 0\n")
    with pytest.raises(InputError, match="type_map has no meaning for the format vasp; remove it"):
        read_frames(tmp_path / "POSCAR", type_map=["O"], require=())


def test_stress_without_a_cell_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stress means something together with a volume only; that it is dropped must not go unsaid."""
    path = tmp_path / "molecule.xyz"
    path.write_text(
        '2\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1 stress="1 0 0 0 1 0 0 0 1" pbc="F F F"\n'
        "H 0 0 0 0 0 1\nH 0 0 0.8 0 0 -1\n"
    )
    (frame,) = read_frames(path)
    assert frame.virial is None
    assert "the stress is not used, as there is no cell" in caplog.text
    assert "(1 of 1 frames)" in caplog.text
