"""Database of the labels computed so far; a label in it is never computed again."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from ase.db import connect
from ase.db.row import AtomsRow

from ekfcore.atoms import Frame
from ekfcore.errors import EKFError, InputError
from ekfcore.files import locked, sweep

from ._order import order_of
from ._result_file import read_result

__all__ = ["Ledger", "frame_key"]

_RESOLUTION = 1e-6  # [Å] far below what changes a label, far above the rounding in text files with eight digits
_log = logging.getLogger(__name__)

_DIGEST = "sha256"
_FRAME_COLUMNS = (
    *("numbers", "positions", "cell", "pbc", "energy", "free_energy", "forces", "stress"),
    *("initial_charges", "initial_magmoms", "masses", "tags"),
)
"""Columns of a row that a frame is read from."""
_MAX_REASON = 160  # characters of a message of SQLite or ASE
_Result = TypeVar("_Result")


def frame_key(frame: Frame) -> str:
    """Return a hash of a frame: elements in order, positions, cell, periodicity, charges and moments.

    Lengths, charges and moments are rounded to 1e-6. Labels, masses, constraints and source do not count. Frames that
    are equal by symmetry only, such as by a lattice vector, have different keys.

    Parameters
    ----------
    frame : Frame
        The frame, with or without labels.

    Returns
    -------
    str
        The letter f and 31 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for lengths in (frame.positions, frame.cell):
        digest.update(np.rint(np.asarray(lengths) / _RESOLUTION).astype("<i8").tobytes())
    for integers in (frame.numbers, frame.pbc):
        digest.update(np.asarray(integers).astype("<i8").tobytes())
    given = {name: values for name, values in {**frame.arrays, **frame.info}.items() if name != "masses"}
    for name, values in sorted(given.items()):
        digest.update(
            name.encode() + np.rint(np.asarray(values, dtype=np.float64) / _RESOLUTION).astype("<i8").tobytes()
        )
    return "f" + digest.hexdigest()[:31]  # with a letter, as ASE refuses text that looks like a number


class Ledger:
    """Append-only ASE database of labels, by `frame_key`; ``ase db``, ``ase gui`` and `read_frames` read the file.

    A label is on disk when `add` returns, even if the process is killed then. Frames that cannot be labelled are in a
    second database, ``NAME.quarantine.db``; remove that file to try them again.

    Parameters
    ----------
    path : path
        The file, ``NAME.db``; it is created, with its folder, by the first write.

    Raises
    ------
    InputError
        If the file is not a database of labels.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.suffix != ".db":
            raise InputError(f"{self.path}: the file of labels must have a name that ends in .db; rename it")
        self._quarantine = self.path.with_suffix(".quarantine.db")
        self._inbox = self.path.with_suffix(".inbox")
        self._load()

    def _load(self) -> None:
        rows = _rows(self.path)
        self._rows = {key: row.id for key, row in rows.items()}
        self._seconds = {key: float(row.seconds) for key, row in rows.items()}
        refused = _rows(self._quarantine)
        self._refused = {key: (str(row.data["reason"]), str(row.data["log"])) for key, row in refused.items()}

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def seconds(self) -> dict[str, float]:
        """Computing time of each label, by key [s]."""
        return dict(self._seconds)

    @property
    def quarantined(self) -> dict[str, str]:
        """Reason why each frame in quarantine has no label, by key."""
        return {key: reason for key, (reason, _) in self._refused.items()}

    def log(self, key: str) -> str:
        """Return the output of the calculations of a frame in quarantine; KeyError if it is not there."""
        return self._refused[key][1]

    def get(self, key: str) -> Frame:
        """Return a labelled frame as stored in the file; KeyError if it is not there."""
        number = self._rows[key]
        return _read(self.path, lambda db: _frame(self.path, db.get(id=number)))

    def add(self, frame: Frame, *, seconds: float) -> str:
        """Append a labelled frame, unless the ledger has it already.

        Parameters
        ----------
        frame : Frame
            The frame with its labels.
        seconds : float
            Computing time of the labels [s].

        Returns
        -------
        str
            Its key.
        """
        key = frame_key(frame)
        if key not in self._rows:
            self._rows[key] = _append(self.path, frame, {"frame_key": key, "seconds": float(seconds)}, {})
            self._seconds[key] = float(seconds)
        self._close(key)
        return key

    def quarantine(self, frame: Frame, reason: str, log: str = "") -> str:
        """Record that a frame cannot be labelled.

        Parameters
        ----------
        frame : Frame
            The frame; its labels, if any, are dropped.
        reason : str
            The reason, in one line.
        log : str
            Output of its calculations.

        Returns
        -------
        str
            Its key.
        """
        key = frame_key(frame)
        if key not in self._refused:
            bare = replace(frame, energy=None, forces=None, virial=None)
            _append(self._quarantine, bare, {"frame_key": key}, {"reason": reason, "log": log})
            self._refused[key] = (reason, log)
        self._close(key)
        return key

    def _close(self, key: str) -> None:
        """Remove the files of an order that is settled, the order last: while it is there, something may be left."""
        if key in self:
            self.result_file(key).unlink(missing_ok=True)
            sweep(self.result_file(key))
        order_of(self.result_file(key)).unlink(missing_ok=True)

    def result_file(self, key: str) -> Path:
        """Return the file in the folder ``NAME.inbox`` where a worker leaves a result until the ledger has it."""
        return self._inbox / f"{key}.json"

    @property
    def jobs(self) -> Path:
        """Folder for the files of jobs in a batch system, beside the results."""
        return self._inbox / "jobs"

    def order(self, key: str) -> Path:
        """Ask for a label; return the file in which a worker leaves it, see `result_file`."""
        order_of(self.result_file(key)).touch()
        return self.result_file(key)

    def collect(self, frames: Mapping[str, Frame]) -> None:
        """Add the results that workers left after the program that waited for them had ended.

        Parameters
        ----------
        frames : mapping
            Frames by key.
        """
        for path in self._inbox.glob("f*.json"):
            if path.stem not in frames:
                continue
            frame, seconds = read_result(path, frames[path.stem])
            self.add(frame, seconds=seconds)

    def claim(self, calculator: str, parameters: Mapping[str, Any]) -> None:
        """Set the calculator of the labels.

        Parameters
        ----------
        calculator : str
            Name of the calculator.
        parameters : mapping
            Its keywords.

        Raises
        ------
        InputError
            If another calculator computed the labels in the ledger or the inbox: labels must not be mixed.
        """
        wanted = {"calculator": calculator, "parameters": json.loads(json.dumps(dict(parameters), default=str))}
        present = _use(self.path, lambda db: dict(db.metadata)) if self.path.exists() else {}
        if present == wanted:
            return
        has_labels = len(self) or any(self._inbox.glob("f*.json"))
        for name in wanted if present and has_labels else ():
            if present.get(name) != wanted[name]:
                raise InputError(
                    f"{self.path}: was made with {name} {present.get(name)}, got {wanted[name]}; put the old settings "
                    "back, or name another file"
                )
        if present:  # the old settings labelled nothing: frames that failed with them may work now
            self._quarantine.unlink(missing_ok=True)
            self._refused = {}
        _use(self.path, lambda db: setattr(db, "metadata", wanted))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the inbox, and keep other processes from labelling into the same file during the block.

        Raises
        ------
        InputError
            If another process does so now, or the folder cannot be made.
        """
        try:
            self._inbox.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made ({error.strerror}); name another file") from None
        with locked(self.path, "labels into"):
            self._load()  # another process may have added labels since
            for order in self._inbox.glob("f*.order"):
                if order.stem in self or order.stem in self._refused:  # the program ended before it closed the order
                    self._close(order.stem)
            yield


def _rows(path: Path) -> dict[str, Any]:
    """Return the rows of a database by key, after a check of its integrity."""
    if not path.exists():
        return {}
    if path.stat().st_size == 0:  # of a process that was killed before its first label, or with lost content
        _log.warning("%s: is empty; if it held labels, stop here and put back a copy", path)

    def find(database: Any) -> dict[str, Any]:
        # The label of a row that is lost unnoticed would be computed again.
        (status,) = database.connection.execute("PRAGMA integrity_check(1)").fetchone()
        if status != "ok":
            raise _damaged(path, status)
        found = {}
        for row in database.select():
            if "frame_key" not in row:
                raise InputError(f"{path}: is no database of labels (row {row.id} has no frame_key); name another file")
            _check(path, row)
            found[row.frame_key] = row
        return found

    return _read(path, find)


def _read(path: Path, action: Callable[[Any], _Result]) -> _Result:
    """Read from a database; any error that damaged bytes cause becomes an InputError."""
    try:
        return _use(path, action)
    except EKFError:
        raise
    except Exception as error:  # ASE raises anything when it decodes damaged data
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: is damaged ({reason[:_MAX_REASON]}); use an earlier copy")


def _check(path: Path, row: Any) -> None:
    """Refuse a row that was altered; rows of earlier versions have no digest and pass."""
    if row.data.get(_DIGEST, digest := _digest(row, row.key_value_pairs, row.data)) != digest:
        raise _damaged(path, f"row {row.id} was altered: its SHA-256 differs")


def _digest(row: Any, pairs: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that is read from a row, independent of the number types of the database."""
    digest = hashlib.sha256()
    for name in _FRAME_COLUMNS:
        value = getattr(row, name, None)
        digest.update(name.encode() if value is None else np.asarray(value, dtype=np.float64).tobytes())
    given = [pairs, {name: value for name, value in data.items() if name != _DIGEST}]
    held = [constraint.todict() for constraint in row.constraints]
    digest.update(json.dumps([given, held], sort_keys=True, default=lambda value: np.asarray(value).tolist()).encode())
    return digest.hexdigest()


def _frame(path: Path, row: Any) -> Frame:
    _check(path, row)
    atoms = row.toatoms()
    atoms.info = {name: value for name, value in row.data.items() if name not in ("source", _DIGEST)}
    return Frame.from_ase(atoms, str(row.data["source"]))


def _append(path: Path, frame: Frame, pairs: dict[str, Any], data: dict[str, Any]) -> int:
    """Write one row, commit it and return its number."""
    atoms = frame.to_ase()
    data = data | {"source": frame.source, **atoms.info}  # such as the charge: ASE databases do not store info
    data[_DIGEST] = _digest(AtomsRow(atoms), pairs, data)
    return int(_use(path, lambda db: db.write(atoms, key_value_pairs=pairs, data=data)))


def _use(path: Path, action: Callable[[Any], _Result]) -> _Result:
    """Run `action` on a database in one transaction, which leaves no trace if the process is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # ASE's lock file would outlive a killed process and block the next one; SQLite has locks of its own.
        with connect(path, type="db", use_lock_file=False) as database:
            database.connection.execute("BEGIN")  # otherwise ASE commits each table of a new file separately
            return action(database)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise InputError(f"{path}: is no database of labels ({error}); name another file") from None
        raise EKFError(f"{path}: cannot be read or written ({error}); make room or mend it, and run again") from None
