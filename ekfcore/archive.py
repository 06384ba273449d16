"""The file in which everything is saved: named arrays, a header, and a digest that finds every altered byte.

An archive is an ordinary .npz file, which `numpy.load` reads, with one more member, ``header.json``. Its zip comment,
the last bytes of the file, holds a SHA-256 over every byte before the digest. Nothing in an archive can run code.
"""

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import CheckpointError, InputError
from ekfcore.files import replace_file

__all__ = ["JSON", "read_archive", "write_archive"]

JSON: TypeAlias = bool | int | float | str | Sequence["JSON"] | Mapping[str, "JSON"] | None
"""What a header can hold."""

_VERSION = 1
_HEADER = "header.json"
_ZIP = b"PK\x03\x04"  # first bytes of any zip file that has members
_MARK = b"ekfcore sha256 "
_DIGEST = 64  # hexadecimal digits of a SHA-256
_CHUNK = 2**20  # [bytes]
# Errors that altered bytes cause where the digest was not checked first: members that seem to be encrypted or
# compressed in some way, offsets beyond the end.
_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(KeyError, ValueError, OverflowError, RecursionError, RuntimeError, EOFError),
)


def write_archive(
    path: str | os.PathLike[str], header: Mapping[str, JSON], arrays: Iterable[tuple[str, NDArray[Any]]]
) -> None:
    """Write an archive in one stroke: afterwards the file is complete, or as it was before.

    Parameters
    ----------
    path : path
        File to write or to replace.
    header : mapping
        What to keep beside the arrays, with a "kind" that the reader can ask for.
    arrays : iterable of (name, array)
        Taken one at a time, so that a large array need not outlive its turn.

    Raises
    ------
    InputError
        If the file cannot be written; a file that was there survives.
    """
    with replace_file(path) as file:
        _write_members(file, {**header, "format": "ekfcore", "version": _VERSION}, arrays)
        _seal(file)
    _sync_folder(Path(path).parent)


def _write_members(file: BinaryIO, header: Mapping[str, JSON], arrays: Iterable[tuple[str, NDArray[Any]]]) -> None:
    # Members of a ZipInfo carry no date, so that equal contents make equal files.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(header, indent=1))
        for name, array in arrays:
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
            del array  # before the next one is made: a block of P takes hundreds of megabytes
        archive.comment = _MARK + b"0" * _DIGEST


def _seal(file: BinaryIO) -> None:
    """Put the digest in its place."""
    digest = _digest(file)
    file.seek(-_DIGEST, os.SEEK_END)
    file.write(digest)


def _digest(file: BinaryIO) -> bytes:
    """Return the SHA-256 of all but the last 64 bytes."""
    left = file.seek(0, os.SEEK_END) - _DIGEST
    file.seek(0)
    sha = hashlib.sha256()
    while left > 0 and (chunk := file.read(min(left, _CHUNK))):
        sha.update(chunk)
        left -= len(chunk)
    return sha.hexdigest().encode()


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power cut, where the system can: not every one opens a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_archive(
    path: str | os.PathLike[str], *, kind: str | None = None, whole: bool = True
) -> tuple[dict[str, Any], Mapping[str, NDArray[Any]]]:
    """Check an archive and open it.

    Parameters
    ----------
    path : path
        File to read.
    kind : str, optional
        Kind that it must be of.
    whole : bool
        Check every byte first, for which the whole file is read. Otherwise only what is asked for is, the header and
        then single arrays, each against the CRC-32 that a zip file has of it.

    Returns
    -------
    header : dict
        What was written, with "format", "version" and "kind".
    arrays : mapping
        Reads an array from the file whenever it is asked for one.

    Raises
    ------
    InputError
        If the file cannot be read at all.
    CheckpointError
        If it is no archive, truncated, altered, or of another version or kind.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            seal = _verify(path, file, whole=whole)
            header, names = _read_header(path, file)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    if header.get("version") != _VERSION:
        raise CheckpointError(
            f"{path} is of version {header.get('version')}, but this ekfcore reads version {_VERSION}; "
            "install the ekfcore that wrote it"
        )
    if kind is not None and header.get("kind") != kind:
        raise CheckpointError(f"{path} must hold a {kind}, but holds a {header.get('kind')}; choose another file")
    return header, _Arrays(path, names, seal, whole=whole)


def _verify(path: Path, file: BinaryIO, *, whole: bool) -> bytes:
    """Return the seal at the end of the file; with `whole`, check every byte against it first."""
    if file.read(len(_ZIP)) != _ZIP:
        raise CheckpointError(f"{path} is not a file that ekfcore saved; choose another file")
    seal = _read_seal(file)
    if not seal.startswith(_MARK):
        raise CheckpointError(f"{path} is truncated, or ekfcore did not save it; use an earlier copy")
    if whole and seal.removeprefix(_MARK) != _digest(file):
        raise CheckpointError(f"{path} was altered after it was saved: its SHA-256 differs; use an earlier copy")
    return seal


def _read_seal(file: BinaryIO) -> bytes:
    length = len(_MARK) + _DIGEST
    file.seek(max(file.seek(0, os.SEEK_END) - length, 0))
    return file.read(length)


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the header and the names of the arrays."""
    try:
        with zipfile.ZipFile(file) as archive:
            header = json.loads(archive.read(_HEADER))
            names = tuple(name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy"))
    except _UNREADABLE as error:
        raise CheckpointError(f"{path} has no readable header ({error}); use an earlier copy") from None
    if not isinstance(header, dict) or header.get("format") != "ekfcore":
        raise CheckpointError(f"{path} is not a file that ekfcore saved; choose another file")
    return header, names


class _Arrays(Mapping[str, NDArray[Any]]):
    """Arrays of an archive, read when they are asked for."""

    def __init__(self, path: Path, names: tuple[str, ...], seal: bytes, *, whole: bool) -> None:
        self._path, self._names, self._seal, self._whole = path, names, seal, whole

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._names:
            raise KeyError(name)
        try:
            with open(self._path, "rb") as file:
                # Arrays of two states must not be mixed when another process saves in the meantime.
                if _read_seal(file) != self._seal:
                    raise CheckpointError(f"{self._path} was replaced while it was read; read it again")
                with zipfile.ZipFile(file) as archive:
                    if not self._whole:
                        _check_member(archive, f"{name}.npy")
                    with archive.open(f"{name}.npy") as member:
                        return np.lib.format.read_array(member, allow_pickle=False)
        except OSError as error:
            raise InputError(f"cannot read {self._path}: {error.strerror or error}; check the path") from None
        except _UNREADABLE as error:
            raise CheckpointError(
                f"{self._path}: array {name!r} cannot be read ({error}); use an earlier copy"
            ) from None


def _check_member(archive: zipfile.ZipFile, name: str) -> None:
    """Check the CRC-32 of a member before an altered shape makes an array of it."""
    with archive.open(name) as member:
        while member.read(_CHUNK):
            pass
