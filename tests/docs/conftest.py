"""The script that follows the tutorials, as a module."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

_SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "run_tutorials.py"


@pytest.fixture(scope="session")
def runner(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return docs/run_tutorials.py, which stands outside every package."""
    if not _SCRIPT.is_file():
        pytest.skip("docs/run_tutorials.py is not beside the tests")
    return load_test_file(_SCRIPT)
