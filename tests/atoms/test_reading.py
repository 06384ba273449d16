"""From files to frames, and what is said about files that are no good."""

import bz2
import gzip
import logging
import lzma
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, neighbour_pairs, read_frames, split_frames
from ekfcore.errors import InputError

MakeFrame = Callable[..., Frame]

ase_io = pytest.importorskip("ase.io", reason="needs the extra atoms")
pytest.importorskip("dpdata", reason="needs the extra atoms")
pytest.importorskip("vesin", reason="needs the extra atoms")

EXTXYZ = """2
Lattice="4 0 0 1 5 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5 pbc="T T F"
Cu 0 0 0 0.1 0.2 0.3
Au 1 2 3 -0.1 -0.2 -0.3
2
Lattice="4 0 0 1 5 0 0 0 6" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.4 virial="1 2 3 2 4 5 3 5 6" pbc="T T F"
Cu 0 0 0.1 0 0 0
Au 1 2 3 0 0 0
"""


def _assert_same(one: list[Frame], other: list[Frame]) -> None:
    """The data sets print positions [Å] and forces [eV/Å] with eight decimals, all else in full."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.numbers, b.numbers)
        np.testing.assert_array_equal(a.cell, b.cell)
        np.testing.assert_array_equal(a.pbc, b.pbc)
        assert a.energy == b.energy
        assert a.forces is not None
        assert b.forces is not None
        np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=6e-9)
        np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=6e-9)


def test_extended_xyz(tmp_path: Path) -> None:
    """Every field of every frame, and where it comes from."""
    path = tmp_path / "train.xyz"
    path.write_text(EXTXYZ)
    first, second = read_frames(path)
    assert first.symbols == ["Cu", "Au"]
    assert (first.energy, second.energy) == (-1.5, -1.4)
    assert first.source == f"{path}, frame 0"
    assert second.source == f"{path}, frame 1"
    np.testing.assert_array_equal(first.cell, [[4, 0, 0], [1, 5, 0], [0, 0, 6]])
    np.testing.assert_array_equal(first.pbc, [True, True, False])
    np.testing.assert_array_equal(first.positions, [[0, 0, 0], [1, 2, 3]])
    np.testing.assert_array_equal(first.forces, [[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]])
    assert first.virial is None
    np.testing.assert_array_equal(second.virial, [[1, 2, 3], [2, 4, 5], [3, 5, 6]])


def test_energies_that_differ_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever corrects the energy alone would otherwise not notice that the free energy is learned."""
    path = tmp_path / "train.xyz"
    path.write_text(
        EXTXYZ.replace("energy=-1.5", "energy=-1.5 free_energy=-1.526").replace("=-1.4", "=-1.4 free_energy=-1.44")
    )
    with caplog.at_level(logging.WARNING):
        frames = read_frames(path)
    assert [frame.energy for frame in frames] == [-1.526, -1.44]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: energy and free_energy lie up to 20 meV/atom apart (2 of 2 frames); the free energy is taken, as the "
        "forces belong to it; remove free_energy from the file where the energy is meant"
    ]


@pytest.mark.parametrize("free", ["", "free_energy=-1.5", "free_energy=-1.5019"])
def test_energies_that_agree_are_not_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture, free: str) -> None:
    """Less than 1 meV/atom is no correction."""
    (tmp_path / "train.xyz").write_text(EXTXYZ.replace("energy=-1.5", f"energy=-1.5 {free}"))
    read_frames(tmp_path / "train.xyz")
    assert not caplog.records


@pytest.mark.parametrize(("suffix", "module"), [(".gz", gzip), (".xz", lzma), (".bz2", bz2)])
def test_compressed(tmp_path: Path, suffix: str, module: Any) -> None:
    """The same frames, under the name that the user gave."""
    plain, packed = tmp_path / "train.xyz", tmp_path / f"train.xyz{suffix}"
    plain.write_text(EXTXYZ)
    packed.write_bytes(module.compress(EXTXYZ.encode()))
    frames = read_frames(packed)
    _assert_same(frames, read_frames(plain))
    assert frames[1].source == f"{packed}, frame 1"


@pytest.mark.parametrize("name", ["cu.db", "cu.traj", "odd name@2.xyz"])
def test_other_formats_of_ase(tmp_path: Path, make_frame: MakeFrame, name: str) -> None:
    """What ASE writes comes back; an @ in a name does not choose frames."""
    frames = [make_frame(energy=-14.0 + n, virial=np.diag([1.0, 2.0, 3.0])) for n in range(2)]
    path = tmp_path / name
    if path.suffix == ".db":
        with pytest.importorskip("ase.db").connect(path) as database:
            for frame in frames:
                database.write(frame.to_ase())
    else:
        fmt = {".traj": "traj", ".xyz": "extxyz"}[path.suffix]
        with path.open("wb" if fmt == "traj" else "w") as file:  # through a file: ASE would cut the name at the @
            ase_io.write(file, [frame.to_ase() for frame in frames], format=fmt)
    again = read_frames(path, require=("energy", "forces", "virial"))
    _assert_same(again, frames)
    for frame in again:
        assert frame.virial is not None
        np.testing.assert_allclose(frame.virial, np.diag([1.0, 2.0, 3.0]), rtol=1e-12, atol=1e-12)


def test_several_paths(tmp_path: Path) -> None:
    """Frames come in the order of the paths; strings are paths too."""
    for name in ("b.xyz", "a.xyz"):
        (tmp_path / name).write_text(EXTXYZ)
    frames = read_frames([str(tmp_path / "b.xyz"), tmp_path / "a.xyz"])
    assert [frame.source.rpartition("/")[2] for frame in frames] == [
        "b.xyz, frame 0",
        "b.xyz, frame 1",
        "a.xyz, frame 0",
        "a.xyz, frame 1",
    ]


def test_labels_are_required_as_asked(tmp_path: Path) -> None:
    """Bare structures are welcome only where no labels are needed."""
    path = tmp_path / "bare.xyz"
    path.write_text("1\n\nCu 0 0 0\n")
    with pytest.raises(InputError, match=r"bare\.xyz, frame 0: has no energy"):
        read_frames(path)
    assert read_frames(path, require=())[0].energy is None


# ---- the importers against the same data in extended XYZ


def test_water_from_deepmd(shared_data: Path) -> None:
    """DeePMD-kit's water set equals its extended XYZ copy; data_3 is the test part."""
    folders = shared_data / "water_deepmd"
    water = read_frames(folders)
    assert len(water) == 400
    assert water[0].source == f"{folders}/data_0, frame 0"
    _assert_same(water[:320], read_frames(shared_data / "H2O" / "train.xyz.xz"))
    _assert_same(water[320:], read_frames(shared_data / "H2O" / "test.xyz.xz"))
    _assert_same(read_frames(folders / "data_3"), water[320:])


def test_copper_from_movement(shared_data: Path) -> None:
    """PWmat's copper runs equal their extended XYZ copy: the first 80 frames of each train, the rest test."""
    runs = [read_frames(shared_data / "Cu_pwmat_movement" / f"MOVEMENT_{t}K") for t in (300, 500)]
    _assert_same(runs[0][:80] + runs[1][:80], read_frames(shared_data / "Cu_pwmat" / "train.xyz.xz"))
    _assert_same(runs[0][80:] + runs[1][80:], read_frames(shared_data / "Cu_pwmat" / "test.xyz.xz"))
    assert runs[0][0].energy == -357682.8045  # all ten digits of the file


def test_sign_of_movement_forces(shared_data: Path) -> None:
    """Along the run the energy falls by the work of the forces."""
    frames = read_frames(shared_data / "Cu_pwmat_movement" / "MOVEMENT_300K")
    energies, forces = (np.array([getattr(frame, name) for frame in frames]) for name in ("energy", "forces"))
    steps = np.diff([frame.positions for frame in frames], axis=0) @ np.linalg.inv(frames[0].cell)
    steps = (steps - steps.round()) @ frames[0].cell  # the file wraps positions
    work = np.sum((forces[1:] + forces[:-1]) / 2 * steps, axis=(1, 2))
    assert np.polyfit(work, np.diff(energies), 1)[0] == pytest.approx(-1, abs=0.02)


def test_sign_of_movement_virials(shared_data: Path) -> None:
    """The virial follows that of a pair potential fitted to the forces, whose sign is beyond doubt."""
    frames = read_frames(shared_data / "Cu_pwmat_movement" / "MOVEMENT_500K", require=("forces", "virial"))[::5]
    knots = np.linspace(2.0, 5.5, 15)
    pull, pair_virials = [], []  # force and virial of one piecewise linear pair force for each knot
    for frame in frames:
        i, _, vectors = neighbour_pairs(frame, 5.5)
        r = np.linalg.norm(vectors, axis=1)
        hats = np.array([np.interp(r, knots, unit) for unit in np.eye(len(knots))])
        away = -vectors / r[:, None]  # from the neighbour to the centre: a positive force repels
        force = np.zeros((frame.n_atoms, 3, len(knots)))
        np.add.at(force, i, away[:, :, None] * hats.T[:, None, :])
        pull.append(force.reshape(-1, len(knots)))
        # W = 1/2 sum over pairs of (r_i - r_j) F_ij
        pair_virials.append(0.5 * np.einsum("kp,pa,pb->abk", hats, -vectors, away))
    labels = np.concatenate([np.ravel(frame.forces) for frame in frames if frame.forces is not None])
    strength = np.linalg.lstsq(np.concatenate(pull), labels)[0]
    assert np.corrcoef(np.concatenate(pull) @ strength, labels)[0, 1] > 0.99
    fitted, given = np.array(pair_virials) @ strength, np.array([frame.virial for frame in frames])
    assert np.corrcoef(np.trace(fitted, axis1=1, axis2=2), np.trace(given, axis1=1, axis2=2))[0, 1] > 0.9
    assert np.corrcoef(fitted[:, 0, 1], given[:, 0, 1])[0, 1] > 0.9


# ---- MOVEMENT files made by hand


def _movement(numbers: list[int], header: str = "Force (-force, eV/Angstrom)") -> str:
    """Return one frame in a skewed cell, atom k at k/10 along a and with -force k along x."""
    lines = [
        f"  {len(numbers)} atoms,Iteration (fs) =    0.1E+01, Etot,Ep,Ek (eV) =  -0.1E+02  -0.2E+02  0.1E+02, SCF =  60"
    ]
    lines += [" Lattice vector (Angstrom)"]
    for row, stress in zip(["0.0 4.0 0.0", "5.0 0.0 0.0", "0.0 1.0 -6.0"], ["1 2 3", "2 4 5", "3 5 6"], strict=True):
        lines.append(f"  {row}     stress (eV):  {stress}")
    lines += [" Pressure Internal(Hartree/bohr^3)", " 1 0 0", " 0 1 0", " 0 0 1"]
    lines += [" Position (normalized), move_x, move_y, move_z"]
    lines += [f" {z}  0.{k}  0.0  0.0  1 1 1" for k, z in enumerate(numbers)]
    lines += [" nonperiodic_Position (normalized), move_x, move_y, move_z", *[f" {z}  9.0  9.0  9.0" for z in numbers]]
    lines += [f" {header}", *[f" {z}  {k}.0  0.0  0.0" for k, z in enumerate(numbers)]]
    return "\n".join([*lines, " -------------------------------------------------", ""])


@pytest.mark.parametrize("header", ["Force (-force, eV/Angstrom)", "Force (eV/Angstrom)"])
@pytest.mark.parametrize("name", ["MOVEMENT", "100_1200k_movement", "run.dat.gz"])
def test_movement(tmp_path: Path, header: str, name: str) -> None:
    """Elements in any order, any orientation of the cell, both headers of the forces, any name."""
    path = tmp_path / name
    text = _movement([3, 14, 32, 16], header) + _movement([16, 1], header)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    first, second = read_frames(path, require=("energy", "forces", "virial"))
    assert first.symbols == ["Li", "Si", "Ge", "S"]
    assert second.symbols == ["S", "H"]
    assert (first.energy, second.source) == (-20.0, f"{path}, frame 1")
    np.testing.assert_array_equal(first.cell, [[0, 4, 0], [5, 0, 0], [0, 1, -6]])
    np.testing.assert_allclose(first.positions, np.outer([0.0, 0.1, 0.2, 0.3], [0.0, 4.0, 0.0]), atol=1e-15)
    np.testing.assert_array_equal(first.forces, [[0, 0, 0], [-1, 0, 0], [-2, 0, 0], [-3, 0, 0]])
    np.testing.assert_array_equal(first.virial, [[-1, -2, -3], [-2, -4, -5], [-3, -5, -6]])
    assert first.pbc.all()


def test_movement_without_stress(tmp_path: Path) -> None:
    """Older files have none."""
    path = tmp_path / "MOVEMENT"
    path.write_text(re.sub(" +stress.*", "", _movement([29, 29])))
    assert read_frames(path)[0].virial is None


@pytest.mark.parametrize("cut", [400, 700, 830])
def test_movement_cut_off(tmp_path: Path, cut: int) -> None:
    """A run that was killed leaves half a frame."""
    path = tmp_path / "MOVEMENT"
    text = _movement([29, 29])
    assert 400 < len(text) < 1000
    path.write_text(text + text[: min(cut, text.index("-----") - 10)])
    with pytest.raises(InputError, match="MOVEMENT, frame 1: is cut off or damaged; take it out of the file"):
        read_frames(path)


# ---- deepmd/npy folders made by hand


@pytest.fixture
def deepmd(tmp_path: Path) -> Path:
    """Return a folder with three frames of water in two sets."""
    folder = tmp_path / "water"
    rng = np.random.default_rng(1)
    for n, n_frames in enumerate((2, 1)):
        (folder / f"set.00{n}").mkdir(parents=True)
        arrays = {"coord": 5 * rng.random((n_frames, 9)), "force": rng.random((n_frames, 9))}
        arrays |= {"energy": rng.random(n_frames), "virial": rng.random((n_frames, 9))}
        arrays |= {"box": np.tile([5.0, 0, 0, 1, 6, 0, 0, 2, 7], (n_frames, 1))}
        for name, array in arrays.items():
            np.save(folder / f"set.00{n}" / f"{name}.npy", array)
    (folder / "type.raw").write_text("1\n0\n1\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    return folder


def test_deepmd(deepmd: Path) -> None:
    """Every field; the virial of DeePMD-kit is minus the strain derivative, as ours."""
    frames = read_frames(deepmd, require=("energy", "forces", "virial"))
    assert [frame.source for frame in frames] == [f"{deepmd}, frame {k}" for k in range(3)]
    last, stored = frames[2], {path.stem: np.load(path)[0] for path in (deepmd / "set.001").glob("*.npy")}
    assert last.symbols == ["H", "O", "H"]
    assert last.energy == stored["energy"]
    np.testing.assert_array_equal(last.cell, [[5, 0, 0], [1, 6, 0], [0, 2, 7]])
    np.testing.assert_array_equal(last.positions, stored["coord"].reshape(3, 3))
    np.testing.assert_array_equal(last.forces, stored["force"].reshape(3, 3))
    np.testing.assert_array_equal(last.virial, stored["virial"].reshape(3, 3))
    assert last.pbc.all()


def test_deepmd_of_molecules(deepmd: Path) -> None:
    """The file nopbc switches the cell off."""
    (deepmd / "nopbc").touch()
    frame = read_frames(deepmd)[0]
    assert not frame.pbc.any()
    assert not frame.cell.any()


def test_deepmd_of_mixed_composition(deepmd: Path) -> None:
    """In deepmd/npy/mixed the frames tell their own types; -1 is no atom."""
    (deepmd / "type.raw").write_text("0\n0\n0\n")
    np.save(deepmd / "set.000" / "real_atom_types.npy", [[1, 0, 1], [0, 1, -1]])
    np.save(deepmd / "set.001" / "real_atom_types.npy", [[1, 1, 1]])
    frames = read_frames(deepmd)
    assert [frame.symbols for frame in frames] == [["H", "O", "H"], ["O", "H"], ["H", "H", "H"]]
    stored = np.load(deepmd / "set.000" / "force.npy")[1].reshape(3, 3)
    np.testing.assert_array_equal(frames[1].forces, stored[:2])


def test_deepmd_without_labels(deepmd: Path) -> None:
    """Bare structures are welcome only where no labels are needed."""
    for path in deepmd.glob("set.*/energy.npy"):
        path.unlink()
    with pytest.raises(InputError, match="water, frame 0: has no energy"):
        read_frames(deepmd)
    assert len(read_frames(deepmd, require=())) == 3


def _break(folder: Path, kind: str) -> None:
    """Damage a deepmd/npy folder."""
    match kind:
        case "names":
            (folder / "type_map.raw").unlink()
        case "symbol":
            (folder / "type_map.raw").write_text("O\nHydrogen\n")
        case "short":
            (folder / "type_map.raw").write_text("O\n")
        case "sets":
            for path in folder.glob("set.*"):
                shutil.rmtree(path)
        case "mixed":
            for path in folder.glob("set.*"):
                np.save(path / "real_atom_types.npy", [[0, 1, 2]] * len(np.load(path / "energy.npy")))
        case "box":
            (folder / "set.000" / "box.npy").unlink()
        case "damaged":
            (folder / "set.000" / "coord.npy").write_bytes(b"no array")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("names", "water: has no type_map.raw; add one with the element of each type"),
        ("symbol", "type_map.raw: each name must be a chemical symbol, got 'Hydrogen'"),
        ("short", "water: type 1 must have a name, got 1 names; complete type_map.raw"),
        ("sets", "water: holds no set.* folder; convert the data to deepmd/npy"),
        ("mixed", "water: type 2 must have a name, got 2 names; complete type_map.raw"),
        ("box", "water/set.000: has no box.npy; add it, or an empty file nopbc beside type.raw for molecules"),
        ("damaged", "water: cannot be read (ValueError: "),
    ],
)
def test_bad_deepmd_folders(deepmd: Path, kind: str, message: str) -> None:
    """One line that names the folder and what it lacks; also when it is found below another."""
    _break(deepmd, kind)
    for path in (deepmd, deepmd.parent):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            read_frames(path)
        assert "\n" not in str(caught.value)


# ---- files that are no good


def _bad_files(folder: Path) -> Iterator[tuple[str, str]]:
    """Write bad files and yield their names with the expected message."""
    yield "absent.xyz", "absent.xyz: no such file or folder; check the spelling"
    yield "a" * 5000, "aaa: no such file or folder"
    yield "absent/", "absent: no such file or folder"
    (folder / "empty.xyz").touch()
    yield "empty.xyz", "empty.xyz: is empty"
    (folder / "empty.xyz.gz").write_bytes(gzip.compress(b""))
    yield "empty.xyz.gz", "empty.xyz.gz: is empty"
    (folder / "blank.xyz").write_text("\n")
    yield "blank.xyz", "blank.xyz: "
    (folder / "cut.xyz").write_text(EXTXYZ[:-30])
    yield "cut.xyz", "cut.xyz, frame 1: must hold 2 atoms, but the file ends after 1; it is cut off or damaged"
    (folder / "cut.xyz.xz").write_bytes(lzma.compress(EXTXYZ.encode())[:-20])
    yield "cut.xyz.xz", "cut.xyz.xz: cannot be read (EOFError: "
    (folder / "fake.xyz.gz").write_text(EXTXYZ)
    yield "fake.xyz.gz", "fake.xyz.gz: cannot be read (BadGzipFile: "
    (folder / "notes.abc").write_text("Buy copper.\n")
    yield "notes.abc", "notes.abc: cannot be read (UnknownFileTypeError: "
    (folder / "noise.traj").write_bytes(bytes(range(256)))
    yield "noise.traj", "noise.traj: cannot be read ("
    (folder / "MOVEMENT").write_text("Buy copper.\n")
    yield "MOVEMENT", "MOVEMENT: cannot be read ("
    (folder / "nothing").mkdir()
    yield "nothing", "nothing: is a folder without deepmd/npy data (no type.raw in it or below)"
    (folder / "ghost.xyz").write_text(EXTXYZ.replace("Au", "X", 1))
    yield "ghost.xyz", "ghost.xyz, frame 0: each name must be a chemical symbol, got 'X'; say which it is with type_map"
    (folder / "nan.xyz").write_text(EXTXYZ.replace("energy=-1.4", "energy=nan"))
    yield "nan.xyz", "nan.xyz, frame 1: energy must be finite, got nan"
    (folder / "flat.xyz").write_text(EXTXYZ.replace("0 0 6", "0 0 0", 1))
    yield "flat.xyz", "flat.xyz, frame 0: a periodic cell must span a volume"


def test_bad_files(tmp_path: Path) -> None:
    """Each gives one line that names the file."""
    for name, message in _bad_files(tmp_path):
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            read_frames(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert len(str(caught.value)) < 300 + len(str(tmp_path)) + len(name)


def test_no_paths() -> None:
    """An empty list is a mistake of the caller, not an empty data set."""
    with pytest.raises(InputError, match="no data files given; name at least one"):
        read_frames([])


@pytest.mark.parametrize("package", ["ase.io", "dpdata"])
def test_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Whoever installed the core only learns what to install."""
    (tmp_path / "train.xyz").write_text(EXTXYZ)
    monkeypatch.setitem(sys.modules, package, None)
    name = package.partition(".")[0]
    with pytest.raises(InputError, match=rf'^{name} is not installed; run: pip install "ekfcore\[atoms\]"$'):
        read_frames(tmp_path / "train.xyz", format={"ase": None, "dpdata": "cp2k/output"}[name])


# ---- splitting


def test_split_is_random_but_fixed(make_frame: MakeFrame) -> None:
    """Every frame is in one part; the seed decides which; the order stays."""
    frames = [make_frame(source=str(n)) for n in range(20)]

    def names(seed: int) -> tuple[list[int], list[int]]:
        train, test = split_frames(frames, 0.25, seed)
        return [int(frame.source) for frame in train], [int(frame.source) for frame in test]

    train, test = names(0)
    assert (len(train), len(test)) == (15, 5)
    assert sorted(train + test) == list(range(20))
    assert (train, test) == (sorted(train), sorted(test))
    assert names(0) == (train, test)
    assert names(1) != (train, test)
    assert test != list(range(15, 20))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_fraction(make_frame: MakeFrame, fraction: float) -> None:
    """It is a share."""
    with pytest.raises(InputError, match="test_fraction must lie between 0 and 1, got"):
        split_frames([make_frame()] * 4, fraction, 0)


@pytest.mark.parametrize(("count", "fraction"), [(0, 0.5), (1, 0.5), (1, 0.9), (4, 0.05), (4, 0.95)])
def test_split_leaves_no_part_empty(make_frame: MakeFrame, count: int, fraction: float) -> None:
    """Too few frames to have both."""
    with pytest.raises(InputError, match=r"must leave frames to train on and to test on, got \d and \d of \d"):
        split_frames([make_frame()] * count, fraction, 0)
