"""The file in which everything is saved: its form, damage that must not go unseen, failures while writing."""

import errno
import hashlib
import io
import json
import os
import resource
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore import CheckpointError, EKFError, InputError
from ekfcore.archive import JSON, read_archive, write_archive

HEADER: dict[str, JSON] = {
    "kind": "model",
    "lam": 0.1 + 0.2,
    "sizes": [2, 3],
    "name": "Ångström",
    "nested": {"none": None, "yes": True},
}
ARRAYS = {
    "weights": np.random.default_rng(0).standard_normal(5),
    "lower.0": np.arange(12.0).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    "empty": np.zeros((0, 4)),
    "number": np.asarray(7),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return an archive."""
    target = tmp_path / "saved.ekf"
    write_archive(target, HEADER, ARRAYS.items())
    return target


def _seal(data: bytes) -> bytes:
    """Append what the format asks for to the bytes of a zip file without a comment, independently of the package."""
    comment_length = (15 + 64).to_bytes(2, "little")
    body = data[:-2] + comment_length + b"ekfcore sha256 "
    return body + hashlib.sha256(body).hexdigest().encode()


def _forge(path: Path, header: Any, arrays: dict[str, NDArray[Any]] | None = None, member: str = "") -> Path:
    """Write a file whose digest is right, whatever else is wrong with it."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **(arrays or {}))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("header.json", json.dumps(header))
        if member:
            archive.writestr(member, "no array")
    path.write_bytes(_seal(buffer.getvalue()))
    return path


def _assert_one_line(error: pytest.ExceptionInfo[EKFError], path: Path) -> None:
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_what_goes_in_comes_out(path: Path) -> None:
    """Header and arrays, to the last bit."""
    header, arrays = read_archive(path, kind="model")
    assert header == {**HEADER, "format": "ekfcore", "version": 1}
    assert list(arrays) == list(ARRAYS)
    assert len(arrays) == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)
    assert "weights" in arrays
    assert "header.json" not in arrays
    with pytest.raises(KeyError, match="biases"):
        arrays["biases"]


def test_numpy_reads_it(path: Path) -> None:
    """It is an ordinary .npz file, stored as it is, with nothing pickled in it."""
    with np.load(path, allow_pickle=False) as archive:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(archive[name], array)
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
        assert {member.compress_type for member in file.infolist()} == {zipfile.ZIP_STORED}
        assert json.loads(file.read("header.json"))["format"] == "ekfcore"


def test_the_file_ends_with_its_digest(path: Path) -> None:
    """Anyone can check it with sha256sum."""
    data = path.read_bytes()
    assert data[-79:-64] == b"ekfcore sha256 "
    assert data[-64:].decode() == hashlib.sha256(data[:-64]).hexdigest()


def test_independent_writer_is_understood(tmp_path: Path) -> None:
    """The format is what the documentation says, not what one writer happens to do."""
    forged = _forge(tmp_path / "forged", {"format": "ekfcore", "version": 1, "kind": "x"}, {"a": np.ones(3)})
    header, arrays = read_archive(forged, kind="x")
    assert header["kind"] == "x"
    np.testing.assert_array_equal(arrays["a"], np.ones(3))


def test_equal_contents_make_equal_files(path: Path) -> None:
    """No date, no name of a machine."""
    other = path.with_name("other")
    write_archive(other, HEADER, ARRAYS.items())
    assert other.read_bytes() == path.read_bytes()


def test_header_cannot_claim_another_format(tmp_path: Path) -> None:
    """Format and version are the archive's own."""
    write_archive(tmp_path / "file", {"kind": "x", "format": "other", "version": 9}, [])
    assert read_archive(tmp_path / "file")[0] == {"kind": "x", "format": "ekfcore", "version": 1}


def test_arrays_are_written_one_at_a_time(tmp_path: Path) -> None:
    """P takes a gigabyte: each array is gone before the next one is made."""
    alive: list[weakref.ref[NDArray[Any]]] = []

    def make() -> NDArray[Any]:
        array = np.zeros(1000)
        alive.append(weakref.ref(array))
        return array

    def blocks() -> Iterator[tuple[str, NDArray[Any]]]:
        for index in range(4):
            assert not [reference for reference in alive if reference() is not None]
            yield f"{index}", make()

    write_archive(tmp_path / "file", {"kind": "x"}, blocks())
    assert len(alive) == 4


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(path: Path, share: float) -> None:
    """Wherever it ends."""
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match=r"is truncated|is not a file that ekfcore saved") as error:
        read_archive(path)
    _assert_one_line(error, path)


@pytest.mark.parametrize("lost", [1, 2, 63, 64, 65, 79, 80, 101])
def test_truncated_end_is_refused(path: Path, lost: int) -> None:
    """The last bytes are the digest, its mark and the end of the zip file's directory."""
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(CheckpointError, match="is truncated"):
        read_archive(path)


def test_any_flipped_byte_is_found(path: Path) -> None:
    """In every region of the file: members, arrays, directory, mark and digest."""
    data = path.read_bytes()
    spread = np.linspace(0, len(data) - 1, 150).astype(int).tolist()
    positions = sorted({*range(20), *spread, *range(len(data) - 110, len(data))})
    for position in positions:
        for bit in (0x01, 0x20, 0xFF):  # 0x20 turns a hexadecimal digit into a capital
            altered = bytearray(data)
            altered[position] ^= bit
            path.write_bytes(altered)
            with pytest.raises(CheckpointError, match=r"altered|truncated|is not a file") as error:
                read_archive(path)
            _assert_one_line(error, path)
    path.write_bytes(data)
    read_archive(path)


@pytest.mark.parametrize("where", ["front", "middle", "end"])
def test_added_byte_is_found(path: Path, where: str) -> None:
    """A file may not grow either."""
    data = path.read_bytes()
    at = {"front": 0, "middle": len(data) // 2, "end": len(data)}[where]
    path.write_bytes(data[:at] + b"\0" + data[at:])
    with pytest.raises(CheckpointError, match=r"altered|truncated|is not a file"):
        read_archive(path)


@pytest.mark.parametrize("content", [b"", b"PK", b"P", b"energy,force\n1,2\n" * 20, b"\x80\x04pickle"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """Text, pickles, nothing at all."""
    other = tmp_path / "other"
    other.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a file that ekfcore saved; choose another file") as error:
        read_archive(other)
    _assert_one_line(error, other)


def test_plain_npz_is_refused(tmp_path: Path) -> None:
    """It has no digest."""
    np.savez(tmp_path / "plain.npz", a=np.ones(3))
    with pytest.raises(CheckpointError, match="is truncated, or ekfcore did not save it"):
        read_archive(tmp_path / "plain.npz")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_version_is_refused(tmp_path: Path, version: object) -> None:
    """The message names both versions."""
    forged = _forge(tmp_path / "file", {"format": "ekfcore", "version": version, "kind": "x"})
    with pytest.raises(CheckpointError, match=f"is of version {version}, but this ekfcore reads version 1") as error:
        read_archive(forged)
    _assert_one_line(error, forged)


@pytest.mark.parametrize("header", [{"format": "other", "version": 1}, {}, [1, 2], "ekfcore", None])
def test_other_format_is_refused(tmp_path: Path, header: object) -> None:
    """Even with a digest of the same form."""
    with pytest.raises(CheckpointError, match="is not a file that ekfcore saved"):
        read_archive(_forge(tmp_path / "file", header))


def test_file_without_readable_header_is_refused(tmp_path: Path) -> None:
    """No header, or one that is no JSON."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    (tmp_path / "none").write_bytes(_seal(buffer.getvalue()))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("header.json", "{")
    (tmp_path / "broken").write_bytes(_seal(buffer.getvalue()))
    for name in ("none", "broken"):
        with pytest.raises(CheckpointError, match="has no readable header"):
            read_archive(tmp_path / name)


@pytest.mark.parametrize("damaged", ["lower.0", "header"])
def test_part_of_an_archive_is_read_without_the_rest(path: Path, damaged: str) -> None:
    """Then a byte of an array that is not asked for does not matter; one that is read is checked by itself."""
    data = bytearray(path.read_bytes())
    data[data.index(ARRAYS["lower.0"].tobytes() if damaged == "lower.0" else b"ngstr") + 4] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="was altered"):
        read_archive(path)
    if damaged == "header":
        with pytest.raises(CheckpointError, match="no readable header"):
            read_archive(path, whole=False)
        return
    _, arrays = read_archive(path, whole=False)
    np.testing.assert_array_equal(arrays["weights"], ARRAYS["weights"])
    with pytest.raises(CheckpointError, match=r"array 'lower.0' cannot be read \(Bad CRC-32"):
        arrays["lower.0"]
    path.write_bytes(data[:-3])
    with pytest.raises(CheckpointError, match="is truncated"):
        read_archive(path, whole=False)


def test_other_kind_is_refused(path: Path) -> None:
    """A model is not a filter."""
    with pytest.raises(CheckpointError, match="must hold a filter, but holds a model; choose another file") as error:
        read_archive(path, kind="filter")
    _assert_one_line(error, path)


def test_pickles_are_refused(tmp_path: Path) -> None:
    """Reading a file never runs code from it."""
    trap = np.asarray([{"anything": "could be called"}], dtype=object)
    forged = _forge(tmp_path / "file", {"format": "ekfcore", "version": 1, "kind": "x"}, {"trap": trap})
    _, arrays = read_archive(forged)
    with pytest.raises(CheckpointError, match=r"array 'trap' cannot be read .*allow_pickle=False") as error:
        arrays["trap"]
    _assert_one_line(error, forged)


def test_objects_are_not_written(tmp_path: Path) -> None:
    """What could not be read must not be written."""
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_archive(tmp_path / "file", {"kind": "x"}, [("a", np.asarray([{}], dtype=object))])
    assert list(tmp_path.iterdir()) == []


def test_broken_array_is_refused(tmp_path: Path) -> None:
    """A member that is no array, in a file whose digest is right."""
    header = {"format": "ekfcore", "version": 1, "kind": "x"}
    _, arrays = read_archive(_forge(tmp_path / "file", header, member="a.npy"))
    with pytest.raises(CheckpointError, match="array 'a' cannot be read"):
        arrays["a"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    """The user gave a wrong path."""
    with pytest.raises(InputError, match=r"cannot read .*no.ekf: No such file or directory; check the path") as error:
        read_archive(tmp_path / "no.ekf")
    _assert_one_line(error, tmp_path / "no.ekf")
    with pytest.raises(InputError, match="cannot read"):
        read_archive(tmp_path)  # a folder


def test_file_replaced_in_the_meantime_is_noticed(path: Path) -> None:
    """Arrays of two states are never mixed."""
    _, arrays = read_archive(path)
    arrays["weights"]
    write_archive(path, HEADER, {**ARRAYS, "weights": np.zeros(5)}.items())
    with pytest.raises(CheckpointError, match="was replaced while it was read; read it again"):
        arrays["weights"]
    path.unlink()
    with pytest.raises(InputError, match="cannot read"):
        arrays["weights"]


def test_full_disk_leaves_the_old_file(path: Path) -> None:
    """The failure comes in the middle of the arrays; one line says what to do, and no half of a file stays behind."""
    before = path.read_bytes()

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        yield "weights", np.ones(1000)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match=r"No space left on device.*free some space") as error:
        write_archive(path, {"kind": "model"}, arrays())
    _assert_one_line(error, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("room", [10, 1000, 8000, 100_000])
def test_system_that_refuses_to_write_leaves_the_old_file(path: Path, room: int) -> None:
    """The system itself ends the file: in the header, in an array, at the end of one."""
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(InputError, match="File too large") as error:
            write_archive(path, HEADER, [("a", np.ones(1000)), ("b", np.ones(100_000))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    _assert_one_line(error, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError, CheckpointError])
def test_interruption_leaves_the_old_file(path: Path, interruption: type[BaseException]) -> None:
    """It passes through, and nothing stays behind."""
    before = path.read_bytes()

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        yield "weights", np.ones(1000)
        raise interruption

    with pytest.raises(interruption):
        write_archive(path, {"kind": "model"}, arrays())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    """A folder that is not there, a name that is a folder."""
    (tmp_path / "folder").mkdir()
    for target in (tmp_path / "absent" / "file", tmp_path / "folder"):
        with pytest.raises(InputError, match=r"No such file or directory|Is a directory") as error:
            write_archive(target, {"kind": "x"}, [])
        _assert_one_line(error, target)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_forbidden_folder_is_named(tmp_path: Path) -> None:
    """Permissions are the user's to mend."""
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        write_archive(tmp_path / "file", {"kind": "x"}, [])


def test_other_users_can_read_it(path: Path) -> None:
    """As any file, it has the permissions that the user's mask leaves."""
    plain = path.with_name("plain")
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode
