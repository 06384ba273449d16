"""The labels computed so far, on disk: what is in here is never computed again."""

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

from ._result_file import read_receipt

__all__ = ["Ledger", "frame_key"]

_RESOLUTION = 1e-6  # [Å] far below what changes a label, far above the rounding of text files with eight digits
_log = logging.getLogger(__name__)

_DIGEST = "sha256"
_TAKEN = (
    *("numbers", "positions", "cell", "pbc", "energy", "free_energy", "forces", "stress"),
    *("initial_charges", "initial_magmoms", "masses", "tags"),
)
"""Fields of a row that make a frame."""
_LONGEST = 160  # characters of what SQLite or ASE says
_Result = TypeVar("_Result")


def frame_key(frame: Frame) -> str:
    """Name a frame by its content: elements in their order, positions, cell, periodicity, and what it was given.

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
    return "f" + digest.hexdigest()[:31]  # the letter, because ASE refuses text that reads like a number


class Ledger:
    """Append-only ASE database of labels, by `frame_key`; ``ase db``, ``ase gui`` and `read_frames` read the file.

    A label is on disk when `add` returns, whatever kills the process then. Frames that cannot be labelled stand in a
    database of their own beside it, ``NAME.quarantine.db``; remove that file to try them again.

    Parameters
    ----------
    path : path
        The file, ``NAME.db``; it is made, with its folder, when something is written.

    Raises
    ------
    InputError
        If the file is no database of labels.
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
        """How long each label took to compute, by key [s]."""
        return dict(self._seconds)

    @property
    def quarantined(self) -> dict[str, str]:
        """Why each frame in quarantine has no label, by key."""
        return {key: reason for key, (reason, _) in self._refused.items()}

    def log(self, key: str) -> str:
        """Return what the calculations of a frame in quarantine printed; KeyError if it is not there."""
        return self._refused[key][1]

    def get(self, key: str) -> Frame:
        """Return a labelled frame as it stands in the file; KeyError if it is not there."""
        number = self._rows[key]
        return _read(self.path, lambda db: _frame(self.path, db.get(id=number)))

    def add(self, frame: Frame, *, seconds: float) -> str:
        """Append a labelled frame, unless it is there already.

        Parameters
        ----------
        frame : Frame
            The frame with its labels.
        seconds : float
            How long they took to compute [s].

        Returns
        -------
        str
            Its key.
        """
        key = frame_key(frame)
        if key not in self._rows:
            self._rows[key] = _append(self.path, frame, {"frame_key": key, "seconds": float(seconds)}, {})
            self._seconds[key] = float(seconds)
        self.receipt(key).unlink(missing_ok=True)
        sweep(self.receipt(key))
        return key

    def quarantine(self, frame: Frame, reason: str, log: str = "") -> str:
        """Note that a frame cannot be labelled.

        Parameters
        ----------
        frame : Frame
            The frame; labels that it has are dropped.
        reason : str
            Why, in one line.
        log : str
            What its calculations printed.

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
        return key

    def receipt(self, key: str) -> Path:
        """Return the file, in the folder ``NAME.inbox``, where a worker leaves a result until it is in here."""
        return self._inbox / f"{key}.json"

    def collect(self, frames: Mapping[str, Frame]) -> None:
        """Take in the results that workers left when nobody waited for them any more.

        Parameters
        ----------
        frames : mapping
            Frames by key.
        """
        for path in self._inbox.glob("f*.json"):
            if path.stem not in frames:
                continue
            frame, seconds = read_receipt(path, frames[path.stem])
            self.add(frame, seconds=seconds)

    def claim(self, calculator: str, parameters: Mapping[str, Any]) -> None:
        """Say what computes the labels from now on.

        Parameters
        ----------
        calculator : str
            Its name.
        parameters : mapping
            Its keywords.

        Raises
        ------
        InputError
            If something else computed those that are there, or that workers have left: they must not be mixed.
        """
        wanted = {"calculator": calculator, "parameters": json.loads(json.dumps(dict(parameters), default=str))}
        present = _use(self.path, lambda db: dict(db.metadata)) if self.path.exists() else {}
        if present == wanted:
            return
        paid = len(self) or any(self._inbox.glob("f*.json"))
        for name in wanted if present and paid else ():
            if present.get(name) != wanted[name]:
                raise InputError(
                    f"{self.path}: was made with {name} {present.get(name)}, got {wanted[name]}; put the old settings "
                    "back, or name another file"
                )
        if present:  # settings that labelled nothing: what failed with them may work now
            self._quarantine.unlink(missing_ok=True)
            self._refused = {}
        _use(self.path, lambda db: setattr(db, "metadata", wanted))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from labelling into the same file as long as the block runs, and open the inbox.

        Raises
        ------
        InputError
            If one does so now, or the folder cannot be made.
        """
        try:
            self._inbox.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be made ({error.strerror}); name another file") from None
        with locked(self.path, "labels into"):
            self._load()  # another process may have added labels since
            yield


def _rows(path: Path) -> dict[str, Any]:
    """Return the rows of a database by key, once it is found to be whole."""
    if not path.exists():
        return {}
    if path.stat().st_size == 0:  # of a process that was killed before its first label, or lost
        _log.warning("%s: is empty; if it held labels, stop here and put back a copy", path)

    def find(database: Any) -> dict[str, Any]:
        # A row that is lost would be paid for again.
        (told,) = database.connection.execute("PRAGMA integrity_check(1)").fetchone()
        if told != "ok":
            raise _damaged(path, told)
        found = {}
        for row in database.select():
            if "frame_key" not in row:
                raise InputError(f"{path}: is no database of labels (row {row.id} has no frame_key); name another file")
            _check(path, row)
            found[row.frame_key] = row
        return found

    return _read(path, find)


def _read(path: Path, action: Callable[[Any], _Result]) -> _Result:
    """Read from a database, whatever its damaged bytes lead to."""
    try:
        return _use(path, action)
    except EKFError:
        raise
    except Exception as error:  # ASE decodes what it finds
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: is damaged ({reason[:_LONGEST]}); use an earlier copy")


def _check(path: Path, row: Any) -> None:
    """Refuse a row that was altered; those of before there was a digest have none."""
    if row.data.get(_DIGEST, digest := _digest(row, row.key_value_pairs, row.data)) != digest:
        raise _damaged(path, f"row {row.id} was altered: its SHA-256 differs")


def _digest(row: Any, pairs: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all that is taken from a row, whatever types a database makes of its numbers."""
    digest = hashlib.sha256()
    for name in _TAKEN:
        value = getattr(row, name, None)
        digest.update(name.encode() if value is None else np.asarray(value, dtype=np.float64).tobytes())
    told = [pairs, {name: value for name, value in data.items() if name != _DIGEST}]
    held = [constraint.todict() for constraint in row.constraints]
    digest.update(json.dumps([told, held], sort_keys=True, default=lambda value: np.asarray(value).tolist()).encode())
    return digest.hexdigest()


def _frame(path: Path, row: Any) -> Frame:
    _check(path, row)
    atoms = row.toatoms()
    atoms.info = {name: value for name, value in row.data.items() if name not in ("source", _DIGEST)}
    return Frame.from_ase(atoms, str(row.data["source"]))


def _append(path: Path, frame: Frame, pairs: dict[str, Any], data: dict[str, Any]) -> int:
    """Write one row, commit it and return its number."""
    atoms = frame.to_ase()
    data = data | {"source": frame.source, **atoms.info}  # such as the charge; a database keeps no info
    data[_DIGEST] = _digest(AtomsRow(atoms), pairs, data)
    return int(_use(path, lambda db: db.write(atoms, key_value_pairs=pairs, data=data)))


def _use(path: Path, action: Callable[[Any], _Result]) -> _Result:
    """Do something with a database; a transaction that is killed leaves no trace."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The lock file of ASE would outlive a killed process and block the next one; SQLite has locks of its own.
        with connect(path, type="db", use_lock_file=False) as database:
            database.connection.execute("BEGIN")  # else each of the tables that ASE makes at first is one by itself
            return action(database)
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, sqlite3.DatabaseError) and "not a database" in str(error):
            raise InputError(f"{path}: is no database of labels ({error}); name another file") from None
        raise EKFError(f"{path}: cannot be read or written ({error}); make room or mend it, and run again") from None
