"""Damaged files of our own: refused by name, or what is in them is the same."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ekfcore as ek
from ekfcore import EKFError
from ekfcore.checkpoint import load, save

pytest.importorskip("ase", reason="needs the extra active")
pytest.importorskip("h5py", reason="needs the extra active")
pytest.importorskip("pydantic", reason="needs the extra active")
pytest.importorskip("threadpoolctl", reason="needs the extra active")

from ekfcore.active.report import RoundReport, read_report, write_report
from ekfcore.atoms import Frame
from ekfcore.deepmd.dp_file import read_dp, write_dp
from ekfcore.labelling._result_file import read_result, write_result
from ekfcore.labelling.ledger import Ledger
from ekfcore.models.deep_potential import Architecture, DeepPotential, Statistics, initial_weights
from ekfcore.potentials.model_file import load_model, save_model
from ekfcore.potentials.position import Position

if TYPE_CHECKING:
    from conftest import Damaged


def _frame(k: int = 0) -> Frame:
    rng = np.random.default_rng(k)
    return Frame(
        numbers=np.array([8, 1, 1]),
        positions=rng.uniform(0, 4, (3, 3)),
        cell=np.diag([5.0, 6.0, 7.0]),
        pbc=np.ones(3, dtype=np.bool_),
        energy=rng.normal(),
        forces=rng.normal(size=(3, 3)),
        virial=np.eye(3),
        info={"charge": 1.0},
        arrays={"initial_charges": np.array([1.0, 0.0, 0.0])},
        source=f"water, frame {k}",
    )


def _plain(value: Any) -> Any:
    """Return something that can be compared."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, Frame):
        return [_plain(getattr(value, name)) for name in Frame.__slots__]
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _write_filter(path: Path) -> None:
    config = ek.EKFConfig(rows=4)
    state = ek.init(np.arange(5.0), ek.BlockLayout((2, 3)), config)
    for k in range(6):
        state, _ = ek.update(state, np.random.default_rng(k).normal(size=5), 0.1, config=config)
    save(state, path)


def _read_filter(path: Path) -> Any:
    state = load(path)
    P = state.covariance
    return [state.weights, state.average, state.lam, state.count, P.dense(0), P.dense(1), P.pending]


def _write_model(path: Path) -> None:
    form = Architecture(
        elements=("Cu",), capacity=(60,), cutoff=4.5, cutoff_smooth=1.0, embedding=(4, 8), axis=4, fitting=(10, 10)
    )
    statistics = Statistics(
        mean=np.tile([0.1, 0, 0, 0], (1, 1)), std=np.tile([0.1, 0.07, 0.07, 0.07], (1, 1)), energy_bias=np.array([1.0])
    )
    weights = [("weights", initial_weights(form, seed=3))]
    model = DeepPotential(form, statistics)
    save_model(path, model, settings={}, position=Position(epoch=3), optimizer={"type": "adam"}, arrays=weights)


def _read_model(path: Path, *, whole: bool = True) -> Any:
    found = load_model(path, whole=whole)
    constants = found.model.statistics  # type: ignore[attr-defined]
    form = found.model.architecture.as_json()  # type: ignore[attr-defined]
    return [found.weights, constants.mean, constants.std, constants.energy_bias, form, found.position, found.settings]


def _write_labels(path: Path) -> None:
    ledger = Ledger(path)
    for k in range(2):
        ledger.add(_frame(k), seconds=1.5)


def _read_labels(path: Path) -> Any:
    ledger = Ledger(path)
    return [(key, ledger.seconds[key], ledger.get(key)) for key in ledger]


_KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "filter.ekf": (_write_filter, _read_filter),
    "model.npz": (_write_model, _read_model),
    "part.npz": (_write_model, lambda path: _read_model(path, whole=False)),
    "labels.db": (_write_labels, _read_labels),
    "result.json": (lambda path: write_result(path, _frame(), 1.5), lambda path: read_result(path, _frame(1))),
    "report.json": (
        lambda path: write_report(path, RoundReport(round=1, stage=1, temperatures=[300.0], trained_on=5)),
        read_report,
    ),
    "model.dp": (
        lambda path: write_dp(path, {"model": {"@variables": {"a": np.arange(6.0)}, "b": [1, "x", 2.5]}}),
        read_dp,
    ),
}


@pytest.fixture(params=_KINDS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bytes, Callable[[Path], Any]]:
    """Return each file in turn, its content, and what reads it; a database has another content each time."""
    path = tmp_path / request.param
    write, read = _KINDS[request.param]
    write(path)
    return path, path.read_bytes(), read


@given(data=st.data())
def test_no_altered_byte_is_believed(
    written: tuple[Path, bytes, Callable[[Path], Any]],
    damaged: "Damaged",
    data: st.DataObject,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing else comes of it than what was written; a database that has become empty is said to be so."""
    path, content, read = written
    path.write_bytes(content)
    before = _plain(read(path))
    path.write_bytes(data.draw(damaged(content)))
    caplog.clear()
    try:
        found = _plain(read(path))
    except EKFError as error:
        told = str(error)
    else:
        assert found == before or "is empty; if it held labels" in caplog.text
        return
    assert str(path) in told
    assert "\n" not in told


def test_a_row_of_labels_that_was_altered(tmp_path: Path) -> None:
    """As someone may do with SQL, or a disk with a byte of a number."""
    import sqlite3

    ledger = Ledger(tmp_path / "labels.db")
    key = ledger.add(_frame(), seconds=1.5)
    with sqlite3.connect(tmp_path / "labels.db") as database:
        database.execute("UPDATE systems SET energy = energy + 1e-9")
    database.close()
    for use in (lambda: ledger.get(key), lambda: Ledger(tmp_path / "labels.db")):
        with pytest.raises(EKFError, match=r"labels.db: is damaged \(row 1 was altered: its SHA-256 differs\)"):
            use()


def test_result_files_of_another_frame(tmp_path: Path) -> None:
    """With one atom less; and what is no result at all."""
    write_result(tmp_path / "f1.json", _frame(), 1.5)
    frame = _frame()
    smaller = replace(frame, numbers=frame.numbers[:2], positions=frame.positions[:2], arrays={})
    with pytest.raises(EKFError, match=r"f1.json holds no label of this frame \(.*forces must have shape \(2, 3\)"):
        read_result(tmp_path / "f1.json", smaller)
    for text in ("", "[]", "[" * 100_000, '{"energy": 1}', '{"energy": "x", "forces": [], "seconds": 1}'):
        (tmp_path / "f1.json").write_text(text)
        with pytest.raises(EKFError, match=r"f1.json .*; remove it to compute the label again"):
            read_result(tmp_path / "f1.json", frame)


def test_reports_beside_other_frames(tmp_path: Path) -> None:
    """The frames that a round was trained on and those that it chose are as they were; older reports do not tell."""
    (tmp_path / "selected.extxyz").write_text("1\n\nCu 0 0 0\n")
    report = RoundReport(round=1, stage=1, temperatures=[300.0], trained_on=5)
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report
    (tmp_path / "selected.extxyz").write_text("1\n\nCu 0 0 1\n")
    with pytest.raises(
        EKFError, match=r"selected.extxyz was altered after the round: its SHA-256 differs; put it back"
    ):
        read_report(tmp_path / "report.json")
    (tmp_path / "report.json").write_text('{"round": 1, "stage": 1, "temperatures": [300.0], "trained_on": 5}')
    assert read_report(tmp_path / "report.json") == report
