"""Scripts of the documentation, as modules."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_SCRIPT, _EXPERIMENTS = _DOCS / "run_tutorials.py", _DOCS / "experiments"


@pytest.fixture(scope="session")
def runner(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return docs/run_tutorials.py, which stands outside every package."""
    if not _SCRIPT.is_file():
        pytest.skip("docs/run_tutorials.py is not beside the tests")
    return load_test_file(_SCRIPT)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return a function that imports a script of docs/experiments; all is forgotten afterwards."""
    if not _EXPERIMENTS.is_dir():
        pytest.skip("docs/experiments is not beside the tests")
    monkeypatch.syspath_prepend(_EXPERIMENTS)
    yield importlib.import_module
    for path in _EXPERIMENTS.glob("*.py"):
        sys.modules.pop(path.stem, None)
