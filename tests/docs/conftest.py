"""The script that follows the tutorials, as a module."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "run_tutorials.py"


@pytest.fixture(scope="session")
def runner() -> ModuleType:
    """Return docs/run_tutorials.py, which stands outside every package."""
    if not _SCRIPT.is_file():
        pytest.skip("docs/run_tutorials.py is not beside the tests")
    spec = importlib.util.spec_from_file_location("run_tutorials", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module
