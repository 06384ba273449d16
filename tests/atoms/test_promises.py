"""Files that hold less than they promise: refused by name, or told of where the format does not let one know."""

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, read_frames, validate_frame
from ekfcore.errors import InputError

pytest.importorskip("ase.io", reason="needs the extra atoms")
pytest.importorskip("dpdata", reason="needs the extra atoms")

_XYZ = '2\nLattice="9 0 0 0 9 0 0 0 9" {}energy=-1.5\nCu 0 0 0 0 0 0\nCu 2 0 0 0 0 0\n'.format(
    "Properties=species:S:1:pos:R:3:forces:R:3 "
)
_DUMP = """ITEM: TIMESTEP
0
ITEM: NUMBER OF ATOMS
2
ITEM: BOX BOUNDS pp pp pp
0 4
0 5
0 6
ITEM: ATOMS id element x y z fx fy fz
1 H 0 0 0 0.1 0.2 0.3
2 O 1 2 3 -0.1 -0.2 -0.3
"""
_N2P2 = """begin
lattice 10.0 0.0 0.0
lattice 0.0 11.0 0.0
lattice 0.0 0.0 12.0
atom 1.0 2.0 3.0 Cu 0.0 0.0 0.1 0.2 0.3
energy -1.5
charge 0.0
end
"""
_MOVEMENT = """ 1 atoms,Iteration (fs) = 0.1E+01, Etot,Ep,Ek (eV) = -0.1E+02 -0.2E+02 0.1E+02, SCF = 60
 Lattice vector (Angstrom)
 4 0 0
 0 4 0
 0 0 4
 Position (normalized), move_x, move_y, move_z
 29 0.1 0.0 0.0 1 1 1
 Force (-force, eV/Angstrom)
 29 0.5 0.0 0.0
 -------------------------------------------------
"""


@pytest.fixture(scope="module")
def outputs(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return the module with the writers of outputs."""
    return load_test_file(Path(__file__).with_name("test_outputs.py"))


def _refused(path: Path, text: str, **options: Any) -> str:
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_frames(path, require=(), **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_XYZ + _XYZ[:-16], "frame 1: must hold 2 atoms, but the file ends after 1; it is cut off or damaged"),
        (_XYZ + _XYZ[:2], "frame 1: must hold 2 atoms, but the file ends after 0"),
        ("99999999999" + _XYZ[1:], "frame 0: must hold 99999999999 atoms, but the file ends after 2"),
        (_XYZ + "\n" + _XYZ, "has a blank line after 1 frames, where ASE stops; remove it"),
        (
            _XYZ.replace("species:S:1", "species:S:99999999"),
            "frame 0: Properties must give each name a letter and a number of columns",
        ),
        (_XYZ.replace("species:S:1", "species:S:-1"), "Properties must give each name a letter"),
    ],
)
def test_extended_xyz(text: str, message: str, tmp_path: Path) -> None:
    """ASE would leave out frames in silence, or count for hours."""
    found = _refused(tmp_path / "a.xyz", text)
    assert message.removeprefix("frame 0: Prop") in found


def test_blank_lines_at_the_end_are_no_frames(tmp_path: Path) -> None:
    """Nor are the vectors that a frame may end with."""
    (tmp_path / "a.xyz").write_text(_XYZ + _XYZ + "\n \n")
    assert len(read_frames(tmp_path / "a.xyz")) == 2
    (tmp_path / "b.xyz").write_text("1\n\nCu 0 0 0\nVEC1 9 0 0\nVEC2 0 9 0\nVEC3 0 0 9\n1\n\nCu 0 0 0\n")
    assert len(read_frames(tmp_path / "b.xyz", require=())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_DUMP.replace("ATOMS\n2", "ATOMS\n1"), "frame 0: must hold 1 atoms, got 2; it is cut off or damaged"),
        (_DUMP + _DUMP[: _DUMP.index("2 O 1")], "frame 1: must hold 2 atoms, got 1"),
        (_DUMP.replace("ATOMS\n2", "ATOMS\n99999999999"), "frame 0: must hold 99999999999 atoms, got 2"),
        (_DUMP + _DUMP[: _DUMP.index("ITEM: ATOMS")], "has 2 time steps and 1 lists of atoms"),
        (_DUMP + _DUMP.replace("ITEM: ATOMS", "ITEM: ATOM"), "has 2 time steps and 1 lists of atoms"),
    ],
)
def test_dumps(text: str, message: str, tmp_path: Path) -> None:
    """ASE would make frames of fewer atoms."""
    assert message in _refused(tmp_path / "run.dump", text, format="lammps-dump-text")


def test_types_of_a_dump(tmp_path: Path) -> None:
    """For dpdata counts the atoms of all types up to the last one."""
    text = _DUMP.replace("element", "type").replace("1 H", "1 1").replace("2 O", "2 99999999")
    told = _refused(tmp_path / "run.dump", text, format="lammps/dump", type_map=["O", "H"])
    assert "cannot have a type 99999999" in told


@pytest.mark.parametrize(
    ("text", "frame"), [(_N2P2 + _N2P2[:-4], 1), (_N2P2 + _N2P2[6:], 1), (_N2P2[:-4] + _N2P2, 0), ("end\n", 0)]
)
def test_n2p2(text: str, frame: int, tmp_path: Path) -> None:
    """A frame stands between begin and end."""
    told = _refused(tmp_path / "input.data", text, format="n2p2")
    assert f"frame {frame}: must stand between begin and end" in told


def test_movement_without_a_header(tmp_path: Path) -> None:
    """Two frames must not become one."""
    text = _MOVEMENT + _MOVEMENT.replace("Etot,Ep,Ek", "Etot,Ep,Xk")
    assert "frame 0: is cut off or damaged" in _refused(tmp_path / "MOVEMENT", text)


def test_numbers_of_atoms_that_no_file_can_hold(tmp_path: Path, outputs: ModuleType) -> None:
    """Dpdata would make lists of that length."""
    path = outputs.vasp(tmp_path)
    text = path.read_text().replace("type =               2", "type = 99999999999")
    assert "cannot hold the 99999999999 atoms that OUTCAR speaks of" in _refused(path, text, format="vasp/outcar")
    outputs.cp2k_md(tmp_path)
    trajectory = tmp_path / "run-pos-1.xyz"
    trajectory.write_text(trajectory.read_text().replace("2\n", "99999999999\n", 1))
    with pytest.raises(InputError, match=r"cannot hold the 99999999999 atoms that run-pos-1.xyz speaks of"):
        read_frames(tmp_path, format="cp2k/aimd_output")


@pytest.mark.parametrize(("write", "kind"), [("abacus", "scf"), ("abacus_md", "md"), ("abacus_relax", "relax")])
def test_stru_that_ends_after_a_title(write: str, kind: str, tmp_path: Path, outputs: ModuleType) -> None:
    """Dpdata would wait for ever for what follows it."""
    getattr(outputs, write)(tmp_path)
    text = (tmp_path / "STRU").read_text()
    (tmp_path / "STRU").write_text(text[: text.index("Cartesian")].rstrip())
    with pytest.raises(InputError, match="STRU ends after ATOMIC_POSITIONS; it is cut off or damaged"):
        read_frames(tmp_path, format=f"abacus/{kind}")


# ---- what no reader can know is told


def test_text_that_ends_in_a_number(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, load_test_file: Callable[[Path], ModuleType]
) -> None:
    """It may be a part of it."""
    (tmp_path / "a.xyz").write_text(_XYZ.replace("2 0 0 0 0 0", "2 0 0 0 0 0.25")[:-2])
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(tmp_path / "a.xyz")
    assert frame.forces is not None
    assert frame.forces[1, 2] == 0.2
    told = "does not end with a newline; if it was cut off, its last number is wrong"
    assert caplog.messages == [f"{tmp_path / 'a.xyz'}: {told}"]
    caplog.clear()
    np.savetxt(tmp_path / "coord.raw", [[0.0, 0.0, 0.0]])
    np.savetxt(tmp_path / "box.raw", [np.diag([9.0, 9.0, 9.0]).ravel()])
    (tmp_path / "energy.raw").write_text("-1.")
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "type_map.raw").write_text("Cu")
    with caplog.at_level(logging.WARNING):
        read_frames(tmp_path, require=["energy"])
    assert caplog.messages == [f"{tmp_path / 'energy.raw'}: {told}"]


def test_folder_with_a_text_that_ends_in_a_number(
    tmp_path: Path, outputs: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    """The file in it is named."""
    path = outputs.cp2k_md(tmp_path) / "run-pos-1.xyz"
    path.write_text(path.read_text().rstrip()[:-2])
    with caplog.at_level(logging.WARNING):
        read_frames(tmp_path, format="cp2k/aimd_output")
    assert f"{path}: does not end with a newline" in caplog.text


def test_xml_of_a_run_that_was_killed(tmp_path: Path, outputs: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """Its frames are read, and it is said that there may be more."""
    path = outputs.vasprun(tmp_path, steps=(True, True))
    path.write_text(path.read_text().removesuffix("</calculation></modeling>"))
    with caplog.at_level(logging.WARNING):
        assert len(read_frames(path)) < 3
    assert "vasprun.xml: is cut off or damaged (no element found" in caplog.text


def test_a_step_without_a_frame(tmp_path: Path, outputs: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """It is missed."""
    path = outputs.cp2k_md(tmp_path, steps=(True, True, True)) / "run-pos-1.xyz"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    with caplog.at_level(logging.WARNING):
        assert len(read_frames(tmp_path, format="cp2k/aimd_output")) == 2
    assert "has 3 electronic steps, but only 2 frames can be read" in caplog.text


def test_input_and_output_of_pw(tmp_path: Path, outputs: ModuleType) -> None:
    """Dpdata would give the forces on the first atoms to those that the input still has."""
    path = outputs.pw(tmp_path)
    text = (tmp_path / "pw.in").read_text()
    (tmp_path / "pw.in").write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"pw.out: is of 2 atoms, but its input of 1; put the two together again"):
        read_frames(path, format="qe/pw/scf")


def test_what_a_reader_says_is_told(tmp_path: Path, outputs: ModuleType, caplog: pytest.LogCaptureFixture) -> None:
    """With the name of the file."""
    path = outputs.vasp(tmp_path)
    path.write_text(path.read_text().replace("in kB  10.0", "in kB  ******"))
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(path, format="vasp-out")
    assert frame.virial is None
    assert caplog.messages == [f"{path}: its reader says: Found badly formatted stress line. Setting stress to None."]


@pytest.mark.parametrize(
    "fields", [{"info": {"charge": np.inf}}, {"arrays": {"initial_charges": np.array([0.0, np.nan, 0.0])}}]
)
def test_what_a_calculation_is_given_is_finite(fields: dict[str, Any], make_frame: Callable[..., Frame]) -> None:
    """Charges as well as labels."""
    with pytest.raises(InputError, match=r"water.xyz, frame 3: (initial_)?charges? must be finite, got .*(inf|nan)"):
        validate_frame(make_frame(**fields))
