"""A function of many arguments on the executor of the labels."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from ekfcore.errors import EKFError, InputError
from ekfcore.labelling.distribute import distribute
from ekfcore.labelling.executors import ExecutorSettings

HERE = ExecutorSettings(workers=2)
KINDS = ["processes", *(pytest.param(k, marks=pytest.mark.filterwarnings("default")) for k in ("executorlib", "dask"))]


def _settings(kind: str) -> ExecutorSettings:
    if kind != "processes":
        pytest.importorskip({"dask": "distributed"}.get(kind, kind), reason=f"{kind} is not installed")
    return ExecutorSettings.model_validate({"kind": kind, "workers": 2, "threads": 3})


@pytest.fixture
def calls(importable: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return calls.py as a module that workers can import, too."""
    importable("calls.py")
    monkeypatch.delitem(sys.modules, "calls", raising=False)
    return importlib.import_module("calls")


@pytest.mark.parametrize("kind", KINDS)
def test_results_come_in_order(kind: str, tmp_path: Path, calls: ModuleType) -> None:
    """From processes with the number of threads that labels have."""
    names = ["a", "b", "c"]
    assert distribute(calls.threads, names, _settings(kind), tmp_path) == [(name, "3") for name in names]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_the_user_come_back(kind: str, tmp_path: Path, calls: ModuleType) -> None:
    """As what they are, without another try."""
    with pytest.raises(InputError, match=r"^frame 7 does not fit the model$"):
        distribute(calls.refuse, ["frame 7"], _settings(kind), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_worker_is_made_up_for(kind: str, tmp_path: Path, calls: ModuleType) -> None:
    """Its call is repeated."""
    assert distribute(calls.die_once, [tmp_path / "a", tmp_path / "b"], _settings(kind), tmp_path) == ["a", "b"]


def test_a_call_that_always_loses_its_worker(tmp_path: Path, calls: ModuleType) -> None:
    """It is given up in one line."""
    with pytest.raises(EKFError, match=r"call 1 of 1 failed 3 times \(.*SIGKILL.*\); what is finished is kept"):
        distribute(calls.die, [tmp_path / "modules"], HERE, tmp_path)
    assert len([path for path in (tmp_path / "modules").iterdir() if path.name.isdecimal()]) >= 3


def test_a_stop(tmp_path: Path, calls: ModuleType) -> None:
    """There is no result."""
    assert distribute(calls.threads, ["a"], HERE, tmp_path, should_stop=lambda: True) is None


def test_nothing_to_do(tmp_path: Path, calls: ModuleType) -> None:
    """No executor is needed for it."""
    assert distribute(calls.refuse, [], HERE, tmp_path) == []
