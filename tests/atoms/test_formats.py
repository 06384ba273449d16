"""Formats that have to be named, and those of DeePMD-kit that hold several systems in a file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError

dpdata = pytest.importorskip("dpdata", reason="dpdata reads these formats")
pytest.importorskip("h5py", reason="the files are HDF5")


def _same(frame: Frame, system: Any, k: int) -> None:
    data = system.data
    assert frame.numbers.tolist() == [1, 8, 1]
    assert frame.energy == pytest.approx(data["energies"][k], rel=1e-14)
    for ours, theirs in (("positions", "coords"), ("forces", "forces"), ("virial", "virials"), ("cell", "cells")):
        np.testing.assert_allclose(getattr(frame, ours), data[theirs][k], rtol=1e-14, err_msg=ours)


@pytest.mark.parametrize("name", ["deepmd/npy", "deepmd/raw"])
def test_folders_by_the_name_of_their_format(name: str, system: Any, tmp_path: Path) -> None:
    """The frames are those that were written, in the same order."""
    system.to(name, str(tmp_path / "data"))
    for k, frame in enumerate(read_frames(tmp_path / "data", format=name)):
        _same(frame, system, k)


def test_compositions_in_one_folder(system: Any, tmp_path: Path) -> None:
    """In deepmd/npy/mixed dpdata puts atoms of one element side by side; each keeps its force."""
    dpdata.MultiSystems(system).to("deepmd/npy/mixed", str(tmp_path / "data"))
    (folder,) = (tmp_path / "data").iterdir()
    frames = read_frames(folder, format="deepmd/npy/mixed")
    assert [frame.energy for frame in frames] == pytest.approx(system.data["energies"].tolist(), rel=1e-14)
    for k, frame in enumerate(frames):
        assert frame.forces is not None
        atoms = zip(frame.numbers.tolist(), frame.forces.tolist(), strict=True)
        assert sorted(atoms) == sorted(zip([1, 8, 1], system.data["forces"][k].tolist(), strict=True))


def test_a_group_of_an_hdf5_file(system: Any, tmp_path: Path) -> None:
    """DeePMD-kit's inputs name such systems file.hdf5#group; the format is known by that."""
    system.to("deepmd/hdf5", str(tmp_path / "data.hdf5#bulk/water"))
    frames = read_frames(f"{tmp_path}/data.hdf5#bulk/water")
    assert [frame.source for frame in frames] == [f"{tmp_path}/data.hdf5#bulk/water, frame {k}" for k in range(2)]
    for k, frame in enumerate(frames):
        _same(frame, system, k)


def test_a_format_of_ase_by_name(tmp_path: Path) -> None:
    """A name without a slash is ASE's."""
    text = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.5\nCu 0 0 0 0 0 0\n'
    (tmp_path / "frames.data").write_text(text)
    (frame,) = read_frames(tmp_path / "frames.data", format="extxyz")
    assert frame.energy == -1.5


@pytest.mark.parametrize(
    ("path", "name", "message"),
    [
        ("frames.data", "vasp/outcart", "dpdata knows no format 'vasp/outcart', only "),
        ("frames.data", "vasp/outcar", "frames.data: cannot be read ("),
        ("frames.data", "nonsense", "frames.data: neither ASE nor dpdata knows a format 'nonsense'"),
        ("frames.data", "extxzy", "did you mean extxyz"),
        ("none.hdf5#water", None, "none.hdf5#water: no such file or folder"),
        ("empty.hdf5#water", None, "empty.hdf5#water: has no such group"),
    ],
)
def test_formats_that_do_not_fit(path: str, name: str | None, message: str, tmp_path: Path) -> None:
    import h5py

    (tmp_path / "frames.data").write_text("nothing of the kind\n")
    h5py.File(tmp_path / "empty.hdf5", "w").close()
    with pytest.raises(InputError) as caught:
        read_frames(tmp_path / path, format=name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
