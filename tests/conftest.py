"""Fixtures that all tests share: array libraries, kernels, the strict comparison, the data beside the repository.

A test file names their types with ``if TYPE_CHECKING: from conftest import AssertClose, Contender, Xp``.
"""

import enum
import functools
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
from array_api_compat import array_namespace, device
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from ekfcore.arrays import to_numpy
from ekfcore.errors import InputError
from ekfcore.protocols import Backend
from ekfcore.registry import BACKENDS, get_backend

ROOT = Path(__file__).resolve().parents[1]

AssertClose: TypeAlias = Callable[..., None]
Damaged: TypeAlias = Callable[[bytes], st.SearchStrategy[bytes]]

# Few examples, the same ones each time; "wide" looks for new ones (CONTRIBUTING.md). Fixtures are shared by examples.
_SHARED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
}
settings.register_profile("quick", derandomize=True, max_examples=12, **_SHARED)
settings.register_profile("wide", max_examples=2000, **_SHARED)
settings.load_profile("quick")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot run, and say why."""
    if item.get_closest_marker("deepmd") and importlib.util.find_spec("deepmd") is None:
        pytest.skip("needs deepmd-kit: make test-deepmd")
    if item.get_closest_marker("gpu") and not _has_gpu():
        pytest.skip("needs an NVIDIA GPU")
    if item.get_closest_marker("slurm") and not _has_slurm():
        pytest.skip("needs the SLURM of the tests: make test-slurm")


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


@functools.cache
def _has_slurm() -> bool:
    """Whether it is the SLURM of the tests that answers: they cancel jobs, which must be nobody's."""
    if shutil.which("scontrol") is None:
        return False
    found = subprocess.run(["scontrol", "show", "config"], check=False, capture_output=True, text=True)
    return re.search(r"ClusterName\s*= ekfcore-test", found.stdout) is not None


class Library(enum.Enum):
    """Array libraries that every public function is tried with."""

    NUMPY = "numpy"
    NUMPY_READONLY = "numpy, read-only"  # catches code that writes into its inputs
    STRICT = "array_api_strict"  # has the standard and nothing else
    TORCH = "torch"
    JAX = "jax.numpy"  # its arrays never change
    TORCH_GPU = "torch, on a GPU"
    CUPY = "cupy, on a GPU"

    @property
    def module(self) -> str:
        """Name to import."""
        return self.value.split(",")[0]

    @property
    def on_gpu(self) -> bool:
        """Whether its arrays live on a GPU."""
        return self.value.endswith("on a GPU")


@dataclass(frozen=True)
class Xp:
    """An array library and how to get arrays into it and out of it."""

    library: Library
    namespace: Any

    def asarray(self, values: npt.ArrayLike, dtype: str = "float64") -> Any:
        """Return a new array of the library."""
        place = {"device": "cuda"} if self.library is Library.TORCH_GPU else {}
        array = self.namespace.asarray(np.array(values, dtype=dtype), **place)
        if self.library is Library.NUMPY_READONLY:
            array.flags.writeable = False
        return array

    def to_numpy(self, array: Any) -> npt.NDArray[Any]:
        """Return the same numbers as a NumPy array."""
        return to_numpy(array)


@dataclass(frozen=True)
class Contender:
    """Kernels, with the array library that they are tried with."""

    xp: Xp
    kernels: Backend


@pytest.fixture(
    params=[library for library in Library if _has_gpu() or not library.on_gpu], ids=lambda x: x.name.lower()
)
def xp(request: pytest.FixtureRequest) -> Xp:
    """Return each array library in turn."""
    if request.param is Library.JAX and request.path.name in ("test_filter.py", "test_checkpoint.py", "test_noise.py"):
        pytest.skip("JAX compiles for every shape anew, and here are many; test_conformance.py has the filter with JAX")
    return _load(request.param)


def _load(library: Library) -> Xp:
    module = pytest.importorskip(library.module, reason=f"{library.module} is not installed")
    if library is Library.JAX:
        _set_jax_up()
    # array_api_compat's view of the library, which is what the code under test sees
    return Xp(library, array_namespace(module.asarray([0.0])))


def _set_jax_up() -> None:
    """Double precision; what JAX compiles for each operation and shape is kept for the next run, as Numba does."""
    config = importlib.import_module("jax").config
    config.update("jax_enable_x64", True)
    # a folder for each worker: one that read what another is writing would warn, and warnings are errors
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache" / worker))
    config.update("jax_persistent_cache_min_compile_time_secs", 0)
    config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# Every set of kernels with the libraries that it takes; "generic" takes all.
_CONTENDERS = [("generic", library) for library in Library]
_CONTENDERS += [(name, Library.NUMPY) for name, entry in BACKENDS.items() if entry.library == "numpy"]
_CONTENDERS += [("torch", Library.TORCH), ("torch, tiles", Library.TORCH), ("cupy, emulated", Library.NUMPY)]
_CONTENDERS += [("torch", Library.TORCH_GPU), ("cupy", Library.CUPY)]


@pytest.fixture(
    params=[
        pytest.param(case, id=f"{case[0]} on {case[1].value}", marks=[pytest.mark.gpu] if case[1].on_gpu else [])
        for case in dict.fromkeys(_CONTENDERS)
    ]
)
def contender(request: pytest.FixtureRequest) -> Contender:
    """Return all kernels in turn, with each library that they take."""
    name, library = request.param
    xp = _load(library)
    if name == "cupy, emulated":
        kernels: Backend = request.getfixturevalue("emulated_cupy").CupyBackend(edge=8)
    elif name == "torch, tiles":  # those of the GPU, which do not ask where they run
        kernels = importlib.import_module("ekfcore.backends._torch_tiles").TorchTiles(edge=8)
    else:
        try:
            kernels = get_backend(name, like=xp.asarray([0.0]))
        except InputError as error:
            pytest.skip(str(error))
    return Contender(xp, kernels)


@pytest.fixture
def kernels_in_use(contender: Contender, monkeypatch: pytest.MonkeyPatch) -> Xp:
    """Return the array library of all kernels in turn, which the filter uses whatever it is asked for."""

    def choose(name: str | None, *, like: Any) -> Any:
        if name != "generic" and array_namespace(like) is contender.xp.namespace:
            return contender.kernels
        return get_backend(name, like=like)

    for module in ("filter", "checkpoint"):
        monkeypatch.setattr(f"ekfcore.{module}.get_backend", choose)
    return contender.xp


@pytest.fixture(scope="session")
def emulated_cupy() -> ModuleType:
    """Return the module of the CuPy kernels on the covariance, as it runs on the CPU."""
    return _load_emulated(ROOT / "backends/_cupy.py", "ekfcore.backends._cupy_on_the_cpu")


@pytest.fixture(scope="session")
def emulated_nodal() -> ModuleType:
    """Return the module of the CuPy kernels of the nodal embedding, as it runs on the CPU."""
    name = "ekfcore.models.deep_potential._nodal_cupy_on_the_cpu"
    return _load_emulated(ROOT / "models/deep_potential/_nodal_cupy.py", name)


def _load_emulated(path: Path, name: str) -> ModuleType:
    """Import a module for CuPy with arrays of NumPy and CUDA kernels that run on the CPU."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to run the CUDA kernels on the CPU")
    cupy = _load_file(ROOT / "tests/cuda/emulated_cupy.py", "emulated_cupy").make_cupy()
    before = sys.modules.get("cupy")
    sys.modules["cupy"] = cupy
    try:
        return _load_file(path, name)
    finally:
        sys.modules.pop("cupy")
        if before is not None:
            sys.modules["cupy"] = before


@pytest.fixture(scope="session")
def load_test_file() -> Callable[[Path], ModuleType]:
    """Return a function that imports a helper of the tests or a script of the docs, which no package has."""
    return lambda path: _load_file(path, path.stem)


def _load_file(path: Path, name: str) -> ModuleType:
    """Import a file that no package has under this name, and forget the name again."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what the environment of a process needs beside for it to find no PyTorch.

    Vesin imports it wherever there is one, in each process anew, for longer than all else takes in a small training.
    """
    folder = tmp_path_factory.mktemp("without_torch")
    (folder / "torch.py").write_text('raise ImportError("left out")\n', encoding="utf-8")
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


@pytest.fixture(scope="session")
def damaged() -> Damaged:
    """Return what makes a strategy of contents of a file that are no longer as they were written."""
    return _damaged


def _damaged(content: bytes) -> st.SearchStrategy[bytes]:
    end = len(content)
    places, pairs = st.integers(0, end - 1), st.tuples(st.integers(0, end - 1), st.integers(1, 40))
    lines = content.splitlines(keepends=True)
    found = re.finditer(rb"(?<![\w.])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", content)
    numbers: list[re.Match[bytes] | None] = [*found] or [None]
    line, number = st.integers(0, len(lines) - 1), st.sampled_from(numbers)
    kinds = [
        places.map(lambda k: content[:k]),
        st.tuples(places, st.integers(1, 255)).map(lambda p: _patched(content, p[0], 1, bytes([content[p[0]] ^ p[1]]))),
        pairs.map(lambda p: _patched(content, p[0], p[1], b"")),
        st.tuples(places, st.binary(min_size=1, max_size=40)).map(lambda p: _patched(content, p[0], 0, p[1])),
        line.map(lambda k: b"".join(lines[:k])),
        line.map(lambda k: b"".join([*lines[:k], *lines[k + 1 :]])),
        line.map(lambda k: b"".join([*lines[: k + 1], *lines[k:]])),
        st.tuples(number, st.sampled_from(_NUMBERS)).map(
            lambda p: content[:-1] if p[0] is None else _patched(content, p[0].start(), len(p[0][0]), p[1])
        ),
        st.binary(max_size=100),
    ]
    return st.one_of(kinds).filter(lambda found: found != content)


def _patched(content: bytes, start: int, length: int, patch: bytes) -> bytes:
    return content[:start] + patch + content[start + length :]


_NUMBERS = [
    *(b"nan", b"inf", b"-inf", b"1e400", b"******", b"", b"x", b"-5", b"0", b"7", b"1.5", b"1000", b"3e9"),
    *(b"1000000", b"2147483648", b"1000000000000", b"99999999999999999999"),
]


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
    np.testing.assert_allclose(to_numpy(actual), to_numpy(desired), rtol=rtol, atol=atol, equal_nan=False)
