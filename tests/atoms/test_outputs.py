"""Outputs of programs: virials of a known pressure in each format, and steps that did not converge.

The files are as short as their readers allow. All hold two atoms of copper in a cell of 120 Å^3 under one pressure,
with the convention of each program: VASP, Quantum ESPRESSO, CP2K and ABACUS print what pushes outwards as positive,
SIESTA what pulls inwards.
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError

pytest.importorskip("ase.io", reason="needs the extra atoms")
pytest.importorskip("dpdata", reason="needs the extra atoms")

Array: TypeAlias = NDArray[np.float64]

CELL = np.diag([4.0, 5.0, 6.0])
LEFT_HANDED = CELL[[1, 0, 2]]
PRESSURE = np.array([[10.0, 1.0, 2.0], [1.0, 20.0, 3.0], [2.0, 3.0, 30.0]])  # [kbar]
VIRIAL = PRESSURE * 120 / 1602.1766208  # [eV], 1 eV/Å^3 is 1602.18 kbar
POSITIONS = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
FORCES = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])  # [eV/Å]
HARTREE, RYDBERG, BOHR = 27.211386, 13.605693, 0.529177211

Write = Callable[..., Path]


def _rows(array: Any, form: str = "{:.12f} {:.12f} {:.12f}") -> str:
    return "\n".join(form.format(*row) for row in array)


# ---- writers: the path, the cell, and for each step whether it converged


def vasp(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,), *, said: bool = True) -> Path:
    """OUTCAR; before version 6 VASP did not say that it gave up."""
    xx, yy, zz, xy, yz, xz = PRESSURE[[0, 1, 2, 0, 1, 0], [0, 1, 2, 1, 2, 2]]
    text = " vasp.6.3\n POTCAR:    PAW_PBE Cu 22Jun2005\n POTCAR:    PAW_PBE Cu 22Jun2005\n"
    text += "   ions per type =               2\n   NELM   =     5;   NELMIN=  2; NELMDL= -5\n   NWRITE =      2\n"
    for k, fine in enumerate(steps, 1):
        for n in range(1, 4 if fine else 6):
            text += f"---- Iteration {k:6d}({n:4d})  ----\n  free energy    TOTEN  =  -1.0 eV\n"
        if said:
            text += " aborting loop because EDIFF is reached\n" if fine else " aborting loop EDIFF was not reached\n"
        text += "  FORCE on cell =-STRESS in cart. coord.  units (eV):\n" + "  Direction\n" * 13
        text += f"  in kB  {xx} {yy} {zz} {xy} {yz} {xz}\n VOLUME and BASIS-vectors are now :\n ---\n\n\n"
        text += f"      direct lattice vectors                 reciprocal lattice vectors\n{_rows(cell)}\n\n"
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n ----\n"
        text += _rows(np.hstack([POSITIONS, FORCES]), " ".join(["{:.6f}"] * 6)) + "\n ----\n"
        text += f"  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ----\n  free  energy   TOTEN  =   -{k}.5 eV\n\n"
        text += f"  energy  without entropy=    -{k}.5  energy(sigma->0) =    -{k}.5\n"
    (folder / "OUTCAR").write_text(text)
    return folder / "OUTCAR"


def vasprun(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Write vasprun.xml."""

    def varray(name: str, array: Array) -> str:
        return f'<varray name="{name}">' + "".join(f"<v>{_rows([row])}</v>" for row in array) + "</varray>"

    def structure(name: str = "") -> str:
        fractions = POSITIONS @ np.linalg.inv(cell)
        crystal = f"<crystal>{varray('basis', cell)}</crystal>"
        return f"<structure{name}>{crystal}{varray('positions', fractions)}</structure>"

    text = '<modeling><parameters><i type="int" name="NELM">5</i></parameters><kpoints>'
    text += (
        '<varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints><atominfo>'
    )
    text += '<array name="atoms"><set>'
    text += "<rc><c>Cu</c><c>1</c></rc>" * 2 + "</set></array></atominfo>" + structure(' name="initialpos"')
    for k, fine in enumerate(steps, 1):
        energy = "".join(f'<i name="{name}">-{k}.5</i>' for name in ("e_fr_energy", "e_wo_entrp", "e_0_energy"))
        text += "<calculation>" + f"<scstep><energy>{energy}</energy></scstep>" * (3 if fine else 5)
        text += structure() + varray("forces", FORCES) + varray("stress", PRESSURE)
        text += f"<energy>{energy}</energy></calculation>"
    (folder / "vasprun.xml").write_text(text + "</modeling>")
    return folder / "vasprun.xml"


def pw(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Input and output of pw.x, whose lengths are in units of 1 Bohr."""
    text = "&system\n ibrav = 0\n/\nCELL_PARAMETERS angstrom\n" + _rows(cell)
    text += "\nATOMIC_POSITIONS angstrom\n" + _rows(POSITIONS, "Cu {} {} {}") + "\n"
    (folder / "pw.in").write_text(text)
    text = "     Program PWSCF v.7.2 starts\n     celldm(1)=   1.000000  celldm(2)=   0.000000\n"
    text += "     number of atoms/cell      =            2\n     number of atomic types    =            1\n"
    text += "     crystal axes: (cart. coord. in units of alat)\n"
    text += _rows(cell / BOHR, "               a(1) = (  {:.9f}  {:.9f}  {:.9f} )") + "\n\n"
    text += "     site n.     atom                  positions (alat units)\n"
    text += _rows(POSITIONS / BOHR, "         1           Cu  tau(   1) = ( {:.9f} {:.9f} {:.9f} )") + "\n\n"
    for k, fine in enumerate(steps, 1):
        if k > 1:
            text += "ATOMIC_POSITIONS (angstrom)\n" + _rows(POSITIONS, "Cu {} {} {}") + "\n\n"
        text += "" if fine else "     convergence NOT achieved after 100 iterations: stopping\n"
        text += f"{'!' if fine else ' '}    total energy              =   {-(k + 0.5) / RYDBERG:.9f} Ry\n"
        text += "     Forces acting on atoms (cartesian axes, Ry/au):\n\n"
        for row in FORCES * BOHR / RYDBERG:
            text += "     atom    1 type  1   force = {:.9f} {:.9f} {:.9f}\n".format(*row)
        text += "\n     total   stress  (Ry/bohr**3)                   (kbar)     P=       20.00\n"
        both = np.hstack([PRESSURE / 1602.1766208 / RYDBERG * BOHR**3, PRESSURE])
        text += _rows(both, " {:.12f} {:.12f} {:.12f}  {:.6f} {:.6f} {:.6f}") + "\n\n"
    (folder / "pw.out").write_text(text)
    return folder / "pw.out"


def _cp2k_step(fine: bool, unit: str = "GPa") -> str:
    text = (
        "  *** SCF run converged in    10 steps ***\n"
        if fine
        else " *** WARNING in qs_scf.F:1 :: SCF run NOT converged\n"
    )
    text += f" ENERGY| Total FORCE_EVAL ( QS ) energy (a.u.):   {-1.5 / HARTREE:.12f}\n\n ATOMIC FORCES in [a.u.]\n\n"
    text += " # Atom   Kind   Element          X              Y              Z\n"
    for k, row in enumerate(FORCES * BOHR / HARTREE, 1):
        text += f"      {k}      1      Cu   " + " ".join(f"{x:.9f}" for x in row) + "\n"
    text += (
        f" SUM OF ATOMIC FORCES           0.0 0.0 0.0 0.0\n\n STRESS TENSOR [{unit}]\n\n            X       Y       Z\n"
    )
    return text + "".join(f"  {name} {_rows([row / 10])}\n" for name, row in zip("XYZ", PRESSURE, strict=True)) + "\n"


def cp2k(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,), unit: str = "GPa") -> Path:
    """Output of one step."""
    text = " CP2K| version string:   CP2K version 2023.1\n DBCSR| Multiplication driver    BLAS\n"
    text += "".join(f" CELL| Vector {name} [angstrom]: {_rows([row])}\n" for name, row in zip("abc", cell, strict=True))
    text += "  1. Atomic kind: Cu    Number of atoms: 2\n\n  Atom  Kind  Element       X  Y  Z  Z(eff)  Mass\n\n"
    text += "".join(f"  {k}  1 Cu  29 {_rows([row])} 11.0 63.5\n" for k, row in enumerate(POSITIONS, 1)) + "\n"
    # dpdata wants to have seen one run that converged.
    (folder / "run.out").write_text(text + "".join(_cp2k_step(fine, unit) for fine in steps))
    return folder / "run.out"


def cp2k_md(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Log and trajectory of a run."""
    log, trajectory = " GLOBAL| Global print level          MEDIUM\n", ""
    log += "".join(f" CELL| Vector {name} [angstrom]: {_rows([row])}\n" for name, row in zip("abc", cell, strict=True))
    lengths = np.linalg.norm(cell, axis=1) / BOHR
    log += f" INITIAL CELL LNTHS[bohr]     =     {_rows([lengths])}\n INITIAL CELL ANGLS[deg] = 90.0 90.0 90.0\n"
    log += "  1. Atomic kind: Cu    Number of atoms: 2\n"
    for fine in steps:
        log += _cp2k_step(fine) + f" {'*' * 79}\n ENSEMBLE TYPE                = NVE\n"
        log += f" POTENTIAL ENERGY[hartree]   =   {-1.5 / HARTREE:.12f}\n {'*' * 79}\n"
        trajectory += f"2\n i = 0, time = 0.0, E = {-1.5 / HARTREE:.12f}\n" + _rows(POSITIONS, "Cu {} {} {}") + "\n"
    (folder / "run.log").write_text(log)
    (folder / "run-pos-1.xyz").write_text(trajectory)
    return folder


def siesta(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Output of one step; the tension is minus the pressure."""
    text = (
        " *             WELCOME TO SIESTA             *\nredata: Number of Atomic Species                  =        1\n"
    )
    text += "Species number:            1  Label: Cu Atomic number:          29\n"
    text += "initatom: Number of atoms  =     2  here  2\n"
    text += "outcoor: Atomic coordinates (Ang):\n" + _rows(POSITIONS, "{} {} {} 1  1  Cu") + "\n\n"
    text += f"outcell: Unit cell vectors (Ang):\n{_rows(cell)}\n\n"
    for fine in steps:
        text += "" if fine else "SCF_NOT_CONV: SCF did not converge in maximum number of steps (required).\n"
        text += "siesta: E_KS(eV) =              -1.5000\n"
        text += "siesta: Atomic forces (eV/Ang):\nsiesta: " + _rows(FORCES).replace("\n", "\nsiesta: ") + "\n\n"
        text += "siesta: Stress tensor (static) (eV/Ang**3):\nsiesta: "
        text += _rows(-PRESSURE / 1602.1766208).replace("\n", "\nsiesta: ") + "\n\n"
    (folder / "siesta.out").write_text(text)
    return folder / "siesta.out"


def siesta_md(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Output of a run, in which the rows of the tension have no name."""
    path = siesta(folder, cell, steps)
    head, mark, rest = path.read_text().partition("siesta: Stress tensor")
    title, _, rows = rest.partition("\n")
    path.write_text(f"{head}{mark}{title}\n" + rows.replace("siesta:", "") + "siesta: Pressure (static):\n")
    return path


def _abacus(folder: Path, cell: Array, kind: str) -> str:
    """Write INPUT and STRU, and return the log of a step."""
    (folder / "INPUT").write_text(f"INPUT_PARAMETERS\ncalculation {kind}\n")
    stru = f"ATOMIC_SPECIES\nCu 63.5 Cu.upf\n\nLATTICE_CONSTANT\n{1 / BOHR}\n\nLATTICE_VECTORS\n{_rows(cell)}\n\n"
    stru += f"ATOMIC_POSITIONS\nCartesian\nCu\n0.0\n2\n{_rows(POSITIONS, '{} {} {} 1 1 1')}\n"
    (folder / "STRU").write_text(stru)
    (folder / "OUT.ABACUS").mkdir()
    log = "TOTAL-FORCE (eV/Angstrom)\n" + "".join(f" Cu{k} {_rows([row])}\n" for k, row in enumerate(FORCES, 1))
    return log + f"\n TOTAL-STRESS (KBAR)\n{_rows(PRESSURE)}\n\n"


def abacus(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Run of one step."""
    log = " final etot is -1.5 eV\n" if all(steps) else " !! convergence has not been achieved @_@\n"
    rest = _abacus(folder, cell, "scf")
    (folder / "OUT.ABACUS/running_scf.log").write_text(log + rest)
    return folder


def abacus_md(folder: Path, cell: Array = CELL, steps: tuple[bool, ...] = (True,)) -> Path:
    """Molecular dynamics."""
    _abacus(folder, cell, "md")
    dump, log = "", ""
    for k, fine in enumerate(steps):
        dump += f"MDSTEP: {k}\nLATTICE_CONSTANT: 1.0 Angstrom\nLATTICE_VECTORS\n{_rows(cell)}\nVIRIAL (kbar)\n"
        dump += _rows(PRESSURE) + "\nINDEX    LABEL    POSITION (Angstrom)    FORCE (eV/Angstrom)\n"
        for n, row in enumerate(np.hstack([POSITIONS, FORCES])):
            dump += f"{n} Cu " + " ".join(f"{x}" for x in row) + "\n"
        dump += "\n\n"
        log += " final etot is -1.5 eV\n" if fine else " !! convergence has not been achieved\n"
    (folder / "OUT.ABACUS/MD_dump").write_text(dump)
    (folder / "OUT.ABACUS/running_md.log").write_text(log)
    return folder


def abacus_relax(folder: Path, cell: Array = CELL) -> Path:
    """Relaxation."""
    step = _abacus(folder, cell, "relax")
    log = f"             number of atom for this type = 2\n                  lattice constant (Bohr) = {1 / BOHR}\n"
    log += f"CARTESIAN COORDINATES ( UNIT = 1 Bohr ).\natom x y z\n{_rows(POSITIONS, 'tauc_Cu {} {} {} 0')}\n"
    log += f" Lattice vectors: (Cartesian coordinate: in unit of a_0)\n{_rows(cell)}\n final etot is -1.5 eV\n{step}"
    (folder / "OUT.ABACUS/running_relax.log").write_text(log)
    return folder


_FORMATS: dict[str, Write] = {
    "vasp/outcar": vasp,
    "outcar": vasp,
    "vasp-out": vasp,
    "vasp/xml": vasprun,
    "xml": vasprun,
    "vasp-xml": vasprun,
    "qe/pw/scf": pw,
    "espresso-out": pw,
    "cp2k/output": cp2k,
    "cp2k/aimd_output": cp2k_md,
    "siesta/output": siesta,
    "siesta/aimd_output": siesta_md,
    "abacus/scf": abacus,
    "abacus/lcao/scf": abacus,
    "abacus/md": abacus_md,
    "abacus/pw/md": abacus_md,
    "abacus/relax": abacus_relax,
}


@pytest.mark.parametrize("cell", [CELL, LEFT_HANDED], ids=["right", "left"])
@pytest.mark.parametrize("format", _FORMATS)
def test_virial_of_a_known_pressure(format: str, cell: Array, tmp_path: Path) -> None:
    """It is the pressure times the volume, whichever program printed it and however the cell is oriented."""
    (frame,) = read_frames(_FORMATS[format](tmp_path, cell), format=format, require=("energy", "forces", "virial"))
    # The files and the constants of the readers have seven digits.
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, VIRIAL, rtol=1e-6)
    assert frame.forces is not None
    np.testing.assert_allclose(frame.forces, FORCES, rtol=1e-5)
    np.testing.assert_allclose(frame.cell, cell, atol=1e-6)
    np.testing.assert_allclose(frame.positions, POSITIONS, atol=1e-6)
    assert frame.energy == pytest.approx(-1.5, rel=1e-6)


def test_virials_of_other_formats_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of cp.x contain the motion of the nuclei; and nobody knows what a plug-in of dpdata does."""
    (tmp_path / "run.in").write_text(
        "&system\n ibrav = 0\n nat = 2\n ntyp = 1\n/\nATOMIC_SPECIES\nCu 63.5 Cu.upf\n"
        "ATOMIC_POSITIONS bohr\nCu 0 0 0\nCu 1 2 3\n\nCELL_PARAMETERS bohr\n8 0 0\n0 8 0\n0 0 8\n"
    )
    for suffix, array in {"pos": POSITIONS, "for": FORCES, "cel": 8 * np.eye(3), "str": PRESSURE}.items():
        (tmp_path / f"run.{suffix}").write_text(f"  1  0.001\n{_rows(array)}\n")
    (tmp_path / "run.evp").write_text("# nfi\n 1 0.001 0 0 0 -1.5 0 0 0 0\n")
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(tmp_path / "run", format="qe/cp/traj")
    assert frame.virial is None
    assert frame.forces is not None
    assert "its virials are left out: their sign or unit in the format qe/cp/traj is not known" in caplog.text


def test_stress_of_cp2k_in_another_unit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where dpdata would take bar for GPa."""
    log = cp2k_md(tmp_path) / "run.log"
    log.write_text(log.read_text().replace("[GPa]", "[bar]"))
    for path, format in ((tmp_path, "cp2k/aimd_output"), (cp2k(tmp_path, unit="bar"), "cp2k/output")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            (frame,) = read_frames(path, format=format)
        assert frame.virial is None
        assert "its virials are left out" in caplog.text


def test_stress_of_cp2k_under_another_title(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As versions since 8 print it, which dpdata does not read."""
    path = cp2k(tmp_path)
    path.write_text(path.read_text().replace(" STRESS TENSOR [GPa]", " STRESS| Analytical stress tensor [GPa]"))
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(path, format="cp2k/output")
    assert frame.virial is None
    assert "its virials are left out" in caplog.text


def test_one_rule_for_movement(tmp_path: Path, shared_data: Path) -> None:
    """All names that dpdata has for it lead to the same reader."""
    path = shared_data / "Cu_pwmat_movement" / "MOVEMENT_300K"
    lines = path.read_text().splitlines(keepends=True)
    end = next(k for k, line in enumerate(lines) if line.lstrip().startswith("-------"))
    (tmp_path / "run").write_text("".join(lines[: end + 1]))
    (expected,) = read_frames(tmp_path / "run")
    for name in ("movement", "mlmd", "pwmat/output", "pwmat/movement", "pwmat/mlmd"):
        (frame,) = read_frames(tmp_path / "run", format=name)
        assert (frame.virial is None) == (expected.virial is None)
        if frame.virial is not None and expected.virial is not None:
            np.testing.assert_array_equal(frame.virial, expected.virial)


# ---- convergence

_STEPS = {
    name: _FORMATS[name]
    for name in ("vasp/outcar", "vasp-out", "vasp/xml", "vasp-xml", "espresso-out", "cp2k/aimd_output")
}


@pytest.mark.parametrize("format", _STEPS)
def test_unconverged_steps_are_left_out(format: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And named; the frames keep their numbers."""
    path = _STEPS[format](tmp_path, steps=(True, False, True))
    with caplog.at_level(logging.WARNING):
        frames = read_frames(path, format=format)
    assert [frame.source.rpartition(", ")[2] for frame in frames] == ["frame 0", "frame 2"]
    assert caplog.messages == [f"{path}: frame 1 not converged, left out; keep_unconverged = true keeps them"]
    caplog.clear()
    kept = read_frames(path, format=format, keep_unconverged=True, require=("forces",))
    assert len(kept) == 3
    assert not caplog.messages


def test_both_readers_of_vasp_agree(tmp_path: Path) -> None:
    """Also where NELM iterations were needed and enough, and where VASP does not say that it gave up."""
    text = vasp(tmp_path, steps=(True, False, True)).read_text()
    silent = "".join(line for line in text.splitlines(keepends=True) if "aborting loop" not in line)
    for case, numbers in (
        (silent, [0, 2]),
        (text.replace("EDIFF was not reached", "because EDIFF is reached"), [0, 1, 2]),
    ):
        (tmp_path / "OUTCAR").write_text(case)
        ours, theirs = (read_frames(tmp_path / "OUTCAR", format=name) for name in ("vasp-out", "vasp/outcar"))
        assert [f.source for f in ours] == [f"{tmp_path}/OUTCAR, frame {k}" for k in numbers]
        _same(ours, theirs)


def test_both_readers_of_pw_agree(tmp_path: Path) -> None:
    """One step, converged or not."""
    path = pw(tmp_path)
    _same(read_frames(path, format="qe/pw/scf"), read_frames(path, format="espresso-out"))
    path = pw(tmp_path, steps=(False,))
    for name in ("qe/pw/scf", "espresso-out"):
        with pytest.raises(
            InputError, match=r"no frame has converged \(frame 0\); repeat the calculation, or keep_unc"
        ):
            read_frames(path, format=name)


def _same(ours: list[Frame], theirs: list[Frame]) -> None:
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.source == b.source
        assert a.energy == pytest.approx(b.energy, rel=1e-7)
        for name in ("numbers", "positions", "cell", "forces", "virial"):
            # Constants of 2014 and of 2018.
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-9)


def test_relaxations_are_not_for_the_reader_of_one_step(tmp_path: Path) -> None:
    """Of which dpdata pairs the last energy with the first forces."""
    path = pw(tmp_path, steps=(True, True))
    with pytest.raises(InputError, match='holds 2 steps, and qe/pw/scf is for one; give format = "espresso-out"'):
        read_frames(path, format="qe/pw/scf")
    assert len(read_frames(path)) == 2


@pytest.mark.parametrize("format", ["cp2k/output", "siesta/output", "abacus/scf"])
def test_a_single_step_that_has_not_converged(format: str, tmp_path: Path) -> None:
    """Nothing is left."""
    path = _FORMATS[format](tmp_path, steps=(False,))
    with pytest.raises(InputError, match="no frame has converged"):
        read_frames(path, format=format)


def test_what_dpdata_leaves_out_itself_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of ABACUS it keeps no step that did not converge."""
    with caplog.at_level(logging.WARNING):
        frames = read_frames(abacus_md(tmp_path, steps=(True, False, True)), format="abacus/md")
    assert len(frames) == 2
    assert "dpdata says: Structure 1  are unconverged and not collected!" in caplog.text


def test_extended_xyz_that_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that some converters write."""
    frame = "1\nProperties=species:S:1:pos:R:3:forces:R:3 energy=-1 converged={}\nCu 0 0 0 0 0 0\n"
    (tmp_path / "a.xyz").write_text(frame.format("T") + frame.format("F"))
    with caplog.at_level(logging.WARNING):
        assert len(read_frames(tmp_path / "a.xyz")) == 1
    assert "frame 1 not converged, left out" in caplog.text


# ---- another reader


def test_an_outcar_that_only_dpdata_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a blank more than ASE expects; it is said who read it."""
    path = vasp(tmp_path)
    path.write_text(path.read_text().replace("without entropy=", "without entropy ="))
    with caplog.at_level(logging.WARNING):
        (frame,) = read_frames(path)
    assert frame.virial is not None
    np.testing.assert_allclose(frame.virial, VIRIAL, rtol=1e-6)
    assert (
        "ASE cannot read it (ValueError: could not convert string to float: '='), dpdata can, as format" in caplog.text
    )
    with pytest.raises(InputError, match=r"float: '='\); try format = \"vasp/outcar\""):
        read_frames(path, format="vasp-out")


@pytest.mark.parametrize(
    ("write", "name", "hint"),
    [
        (cp2k, "run.out", 'it looks like CP2K: give format = "cp2k/output"'),
        (siesta, "siesta.out", 'it looks like SIESTA: give format = "siesta/output"'),
        (abacus, "", 'it looks like a run of ABACUS: give format = "abacus/scf"'),
        (abacus_md, "", 'it looks like a run of ABACUS: give format = "abacus/md"'),
        (cp2k_md, "", 'it looks like a run of CP2K: give format = "cp2k/aimd_output"'),
    ],
)
def test_the_format_that_would_do_is_named(write: Write, name: str, hint: str, tmp_path: Path) -> None:
    """The parser that stumbled over the file cannot know it."""
    write(tmp_path)
    with pytest.raises(InputError) as caught:
        read_frames(tmp_path / name)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_names_without_a_slash(tmp_path: Path) -> None:
    """Dpdata's short names, where they are none of ASE."""
    path = vasp(tmp_path)
    _same(read_frames(path, format="outcar"), read_frames(path, format="vasp/outcar"))
