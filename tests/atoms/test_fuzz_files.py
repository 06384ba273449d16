"""Damaged files of every format: frames of finite numbers, or one line that names the file."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError

pytest.importorskip("ase.io", reason="needs the extra atoms")
dpdata = pytest.importorskip("dpdata", reason="needs the extra atoms")
pytest.importorskip("h5py", reason="needs the extra atoms")

if TYPE_CHECKING:
    from conftest import Damaged

# Readers that stumble leave the file open.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

_PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}
# Formats of ASE and dpdata, by what test_outputs.py calls their writers
_OUTPUTS = {
    "vasp/outcar": "vasp",
    "vasp-out": "vasp",
    "vasp-xml": "vasprun",
    "qe/pw/scf": "pw",
    "espresso-out": "pw",
    "cp2k/output": "cp2k",
    "cp2k/aimd_output": "cp2k_md",
    "siesta/output": "siesta",
    "siesta/aimd_output": "siesta_md",
    "abacus/scf": "abacus",
    "abacus/md": "abacus_md",
    "abacus/relax": "abacus_relax",
}
_TEXTS = {"MOVEMENT": "_MOVEMENT", "input.data": "_N2P2", "run.dump": "_DUMP"}
_DEEPMD = {"npy": "deepmd/npy", "raw": "deepmd/raw", "mixed": "deepmd/npy/mixed", "data.hdf5": "deepmd/hdf5"}
_FILES = ["a.extxyz", *(f"a.extxyz{suffix}" for suffix in _PACKED), "a.traj", "a.json", "a.db", *_TEXTS, *_DEEPMD]


def _write(folder: Path, name: str, texts: ModuleType, system: Any) -> Path:
    """Write two frames in the format that a name stands for."""
    path = folder / name
    if name in _TEXTS:
        path.write_text(2 * getattr(texts, _TEXTS[name]))
    elif name == "mixed":
        dpdata.MultiSystems(system.copy()).to(_DEEPMD[name], str(path))
    elif name in _DEEPMD:
        system.copy().to(_DEEPMD[name], str(path))
    else:
        from ase.io import write

        plain = folder / "a.extxyz" if path.suffix in _PACKED else path
        frames = [frame.to_ase() for frame in _plain_frames()]
        write(plain, frames)
        if path.suffix in _PACKED:
            path.write_bytes(_PACKED[path.suffix](plain.read_bytes()))
            plain.unlink()
    return path


def _plain_frames() -> list[Frame]:
    rng = np.random.default_rng(1)
    return [
        Frame(
            numbers=np.array([29, 79]),
            positions=rng.uniform(0, 4, (2, 3)),
            cell=np.diag([4.0, 5.0, 6.0]),
            pbc=np.ones(3, dtype=np.bool_),
            energy=rng.normal(),
            forces=rng.normal(size=(2, 3)),
            virial=np.eye(3),
            source="made",
        )
        for _ in range(2)
    ]


@pytest.fixture(scope="module")
def texts(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return the module that has short files as text."""
    return load_test_file(Path(__file__).with_name("test_promises.py"))


@pytest.fixture(scope="module")
def outputs(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return the module with the writers of outputs."""
    return load_test_file(Path(__file__).with_name("test_outputs.py"))


def _read(path: Path, format: str | None = None) -> list[Frame] | str:
    """Return the frames, or why there are none."""
    try:
        return read_frames(path, require=(), format=format)
    except InputError as error:
        return str(error)


def _check(path: Path, home: Path, format: str | None) -> None:
    """Read, and look at what comes out."""
    found = _read(path, format)
    assert found
    if isinstance(found, str):
        assert str(home) in found
        assert "\n" not in found
        return
    for frame in found:
        for value in (frame.positions, frame.cell, frame.energy, frame.forces, frame.virial, *frame.info.values()):
            assert value is None or np.isfinite(value).all()


def _try(path: Path, home: Path, damaged: "Damaged", data: st.DataObject, format: str | None = None) -> None:
    """Damage one of the files in a folder, and put it back."""
    file = data.draw(st.sampled_from(sorted(file for file in home.rglob("*") if file.is_file())))
    before = file.read_bytes()
    try:
        file.write_bytes(data.draw(damaged(before)))
        _check(path, home, format)
    finally:
        file.write_bytes(before)


@pytest.fixture(params=_FILES)
def written(request: pytest.FixtureRequest, tmp_path: Path, texts: ModuleType, system: Any) -> Path:
    """Return each kind of file in turn; some have a date in them, so that they are written once."""
    return _write(tmp_path, request.param, texts, system)


@given(data=st.data())
def test_files(written: Path, tmp_path: Path, damaged: "Damaged", data: st.DataObject) -> None:
    """The format is recognised from what is left."""
    assert len(read_frames(written, require=())) == 2
    _try(written, tmp_path, damaged, data)


@pytest.fixture(params=_OUTPUTS)
def printed(request: pytest.FixtureRequest, tmp_path: Path, outputs: ModuleType) -> tuple[Path, str]:
    """Return each output in turn, and its format."""
    return getattr(outputs, _OUTPUTS[request.param])(tmp_path), request.param


@given(data=st.data())
def test_outputs(printed: tuple[Path, str], tmp_path: Path, damaged: "Damaged", data: st.DataObject) -> None:
    """Those of programs, some of which are several files."""
    path, format = printed
    assert len(read_frames(path, format=format)) == 1
    _try(path, tmp_path, damaged, data, format)


@pytest.mark.parametrize("name", ["a.extxyz", "raw", *_TEXTS])
@given(data=st.data())
def test_whatever_is_cut_off_is_told(
    name: str, tmp_path: Path, texts: ModuleType, system: Any, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    """Of a text that ends early either it is refused, or its frames are those that were written, or it is said."""
    path = _write(tmp_path, name, texts, system)
    frames = read_frames(path, require=())
    file = data.draw(st.sampled_from(sorted(file for file in tmp_path.rglob("*") if file.is_file())))
    content = file.read_bytes()
    file.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    caplog.clear()
    found = _read(path)
    if isinstance(found, str) or "does not end with a newline" in caplog.text:
        return
    for frame, before in zip(found, frames, strict=False):
        for field in ("numbers", "positions", "cell", "energy", "forces", "virial"):
            value = getattr(frame, field)
            assert value is None or np.array_equal(value, getattr(before, field)), field
