"""Which backend and which device a run gets, and what is said when it cannot have them."""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest

from ekfcore import EKFConfig, InputError, init, partition, registry, update
from ekfcore.devices import find_devices, free_memory, place, resolve
from ekfcore.registry import BACKENDS, BackendEntry, get_backend, get_namespace

if TYPE_CHECKING:
    from conftest import Xp

Pretend: TypeAlias = Callable[..., None]


@pytest.fixture
def pretend_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pretend]:
    """Return a function that makes CuPy absent, or present with that many GPUs or with an error in their place."""

    def pretend(*, count: int = 0, error: str = "", installed: bool = True) -> None:
        def count_devices() -> int:
            if error:
                raise RuntimeError(error)
            return count

        cupy: Any = ModuleType("cupy") if installed else None
        if installed:
            cupy.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count_devices))
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setitem(sys.modules, "array_api_compat.cupy", cupy)
        monkeypatch.delitem(sys.modules, "ekfcore.backends._cupy", raising=False)

    yield pretend
    sys.modules.pop("ekfcore.backends._cupy", None)


@pytest.fixture
def pretend_torch(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that gives PyTorch so many GPUs."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


NO_DRIVER = "cudaErrorInsufficientDriver: CUDA driver version is insufficient\nand a second line"


def test_cpu_is_always_there() -> None:
    """With NumPy, whatever else is installed."""
    assert find_devices("generic") == ["cpu"]
    assert resolve("auto", "cpu") == "numpy"
    array = place(np.arange(3.0), backend="generic", device="cpu")
    assert isinstance(array, np.ndarray)


@pytest.mark.parametrize("name", BACKENDS)
def test_place_keeps_the_numbers(name: str) -> None:
    """In the library of the backend, on its first device, in the same precision."""
    try:
        device = find_devices(name)[0]
    except InputError as error:
        pytest.skip(str(error))
    if name == "jax":
        importlib.import_module("jax").config.update("jax_enable_x64", True)
    array = place(np.arange(3.0), backend=name, device=device)
    assert type(array).__module__.partition(".")[0].startswith(BACKENDS[name].library)
    assert array.dtype == get_namespace(name).float64
    assert float(array[2]) == 2.0


def test_cupy_that_is_not_installed(pretend_cupy: Pretend) -> None:
    """The pip command is told."""
    pretend_cupy(installed=False)
    with pytest.raises(InputError, match=r"backend 'cupy' needs a package .* run: pip install \"ekfcore\[cupy\]\"$"):
        place(np.zeros(3), backend="cupy", device="cuda")


def test_cupy_without_a_gpu(pretend_cupy: Pretend) -> None:
    """The driver's reason is told, in one line."""
    pretend_cupy(error=NO_DRIVER)
    with pytest.raises(
        InputError, match=r"^backend 'cupy' finds no CUDA device \(cudaErrorInsufficientDriver: [^\n]*\)$"
    ):
        place(np.zeros(3), backend="cupy", device="cuda")


def test_cupy_has_no_cpu(pretend_cupy: Pretend) -> None:
    """Its arrays live on GPUs; the message names them."""
    pretend_cupy(count=2)
    assert find_devices("cupy") == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="backend 'cupy' finds no device 'cpu' here, only cuda:0, cuda:1; see"):
        place(np.zeros(3), backend="cupy", device="cpu")


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "abacus"])
@pytest.mark.parametrize("backend", ["numpy", "generic", "torch", "jax"])
def test_device_that_is_not_there(backend: str, device: str) -> None:
    """The message names what there is."""
    try:
        found = find_devices(backend)
    except InputError as error:
        pytest.skip(str(error))
    if any(name.startswith(device) for name in found):
        pytest.skip(f"{device} is here")
    with pytest.raises(InputError, match=f"backend '{backend}' finds no device '{device}' here, only cpu"):
        place(np.zeros(3), backend=backend, device=device)


def test_auto_takes_the_gpu_that_works(pretend_cupy: Pretend, pretend_torch: Callable[[int], None]) -> None:
    """CuPy's if it finds one, else PyTorch's, else none with both reasons."""
    pretend_torch(1)
    pretend_cupy(count=1)
    assert resolve("auto", "cuda") == "cupy"
    pretend_cupy(error=NO_DRIVER)
    assert resolve("auto", "cuda:0") == "torch"
    assert resolve("cupy", "cuda") == "cupy"
    pretend_torch(0)
    with pytest.raises(
        InputError, match=r"^device 'cuda' cannot be used: backend 'cupy' finds .*; backend 'torch' finds"
    ):
        place(np.zeros(3), backend="auto", device="cuda")


def test_jax_without_double_precision() -> None:
    """Half of the digits are not dropped without a word."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(InputError, match="backend 'jax' has no float64 as it is set up here; set JAX_ENABLE_X64=1"):
            place(np.zeros(3), backend="jax", device="cpu")
        assert place(np.zeros(3, dtype=np.float32), backend="jax", device="cpu").dtype == np.float32
    finally:
        jax.config.update("jax_enable_x64", True)


def test_auto_knows_cpu_and_cuda() -> None:
    """What only one library has must be asked of that library."""
    with pytest.raises(InputError, match="device 'mps' cannot be used with backend 'auto'; name a backend that has it"):
        place(np.zeros(3), backend="auto", device="mps")


def test_a_library_of_which_nothing_else_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Named in BACKENDS and in _FASTEST, as CONTRIBUTING says, a backend works on the host."""
    strict = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")
    pytest.importorskip("psutil", reason="free memory needs psutil")
    monkeypatch.setitem(registry._FASTEST, "array_api_strict", ("strict",))
    module = SimpleNamespace(backend=importlib.import_module("ekfcore.backends._generic").GenericBackend("strict"))
    monkeypatch.setitem(sys.modules, "ekfcore.backends._of_tomorrow", module)
    entry = BackendEntry("ekfcore.backends._of_tomorrow", "array_api_strict", "pip install array-api-strict")
    monkeypatch.setitem(BACKENDS, "strict", entry)
    assert find_devices("strict") == ["cpu"]
    array = place(np.arange(3.0), backend="strict", device="cpu")
    assert type(array) is type(strict.zeros(3))
    assert registry._fastest(array) == "strict"
    for name in (None, "auto", "strict"):
        state, _ = update(init(array, partition([3]), backend=name), strict.ones(3), 1.0, config=EKFConfig())
        assert state.covariance.backend is module.backend
    assert free_memory(array) == pytest.approx(free_memory(np.zeros(3)), rel=0.5)  # others compute here, too
    with pytest.raises(InputError, match=r"backend 'strict' takes arrays of array_api_strict, got numpy.ndarray"):
        init(np.zeros(3), partition([3]), backend="strict")
    with pytest.raises(InputError, match="backend 'strict' finds no device 'cuda' here, only cpu"):
        place(np.arange(3.0), backend="strict", device="cuda")


def test_free_memory_of_a_gpu_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Is what JAX has left of it, not what the host has."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    host = free_memory(jax.numpy.zeros(1))
    assert host == pytest.approx(free_memory(np.zeros(1)), rel=0.5)

    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 7000, "bytes_in_use": 4000})
    monkeypatch.setattr("ekfcore.devices.array_namespace", lambda array: jax.numpy)
    assert free_memory(SimpleNamespace(devices=lambda: [gpu])) == 3000


def test_unknown_names_are_refused() -> None:
    """Wherever a backend is named."""
    for call in (find_devices, get_namespace, lambda name: place(np.zeros(3), backend=name, device="cpu")):
        with pytest.raises(InputError, match=r"`backend` must be one of auto, numpy, .*, got 'abacus'"):
            call("abacus")


def test_kernels_follow_the_arrays(xp: "Xp") -> None:
    """The fastest that take them; what takes others says so."""
    like, library = xp.asarray([0.0]), xp.library.module.partition(".")[0]
    fastest = get_backend("auto", like=like).name
    if library in {entry.library for entry in BACKENDS.values()}:
        assert BACKENDS[fastest].library == library
    else:
        assert fastest == "generic"
    for name, entry in BACKENDS.items():
        if name != "generic" and entry.library != library:
            refusal = f"backend '{name}' (takes arrays of {entry.library}, got .*; use backend 'auto'|needs a package)"
            with pytest.raises(InputError, match=refusal):
                init(xp.asarray(np.zeros(3)), partition([3]), backend=name)
