"""Fixtures that all tests share: array libraries, the strict comparison, the data beside the repository.

A test file names their types with ``if TYPE_CHECKING: from conftest import AssertClose, Xp``.
"""

import enum
import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from array_api_compat import array_namespace, device, is_torch_array

ROOT = Path(__file__).resolve().parents[1]

AssertClose: TypeAlias = Callable[..., None]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say why."""
    if item.get_closest_marker("deepmd") and importlib.util.find_spec("deepmd") is None:
        pytest.skip("needs deepmd-kit: make test-deepmd")
    if item.get_closest_marker("gpu") and shutil.which("nvidia-smi") is None:
        pytest.skip("needs an NVIDIA GPU")


class Library(enum.Enum):
    """Array libraries that every public function is tried with."""

    NUMPY = "numpy"
    NUMPY_READONLY = "numpy, read-only"  # catches code that writes into its inputs
    STRICT = "array_api_strict"  # has the standard and nothing else
    TORCH = "torch"

    @property
    def module(self) -> str:
        """Name to import."""
        return self.value.split(",")[0]


@dataclass(frozen=True)
class Xp:
    """An array library and how to get arrays into it and out of it."""

    library: Library
    namespace: Any

    def asarray(self, values: npt.ArrayLike, dtype: str = "float64") -> Any:
        """Return a new array of the library."""
        array = self.namespace.asarray(np.array(values, dtype=dtype))
        if self.library is Library.NUMPY_READONLY:
            array.flags.writeable = False
        return array

    def to_numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return the same numbers as a NumPy array."""
        return _to_numpy(array)


@pytest.fixture(params=Library, ids=lambda library: library.name.lower())
def xp(request: pytest.FixtureRequest) -> Xp:
    """Return each array library in turn."""
    library: Library = request.param
    module = pytest.importorskip(library.module, reason=f"{library.module} is not installed")
    # array_api_compat's view of the library, which is what the code under test sees
    return Xp(library, array_namespace(module.asarray([0.0])))


@pytest.fixture
def assert_close() -> AssertClose:
    """Return a comparison that also checks library, shape, dtype and device."""
    return _assert_close


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of published data sets, which stands beside the repository."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip("the data sets are not here: ../shared/data")
    return path


def _assert_close(actual: Any, desired: Any, *, rtol: float | None = None, atol: float = 0.0) -> None:
    """Raise unless both arrays agree; `rtol` defaults to 4 sqrt(eps), about half of the digits."""
    xp = array_namespace(actual)
    assert xp is array_namespace(desired), f"array libraries differ: {type(actual)}, {type(desired)}"
    assert actual.shape == desired.shape
    assert actual.dtype == desired.dtype
    assert device(actual) == device(desired)
    if rtol is None:
        rtol = 4 * float(xp.finfo(actual.dtype).eps) ** 0.5 if xp.isdtype(actual.dtype, "real floating") else 0.0
    np.testing.assert_allclose(_to_numpy(actual), _to_numpy(desired), rtol=rtol, atol=atol, equal_nan=False)


def _to_numpy(array: Any) -> npt.NDArray[Any]:
    return np.asarray(array.detach().cpu() if is_torch_array(array) else array)
