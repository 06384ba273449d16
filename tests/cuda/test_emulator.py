"""The emulation runs kernels as a GPU does, and finds the mistakes that it promises to find."""

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

REVERSE = """
extern "C" __global__ void run(const REAL *x, int n, REAL *y)
{
    __shared__ REAL values[8];
    const int thread = threadIdx.x, place = blockIdx.x * 8 + thread;
    values[thread] = place < n ? x[place] : 0;
    __syncthreads();
    if (place < n)
        y[place] = values[7 - thread];
}
"""


@pytest.fixture
def cupy(load_test_file: Any) -> ModuleType:
    """Return what stands for CuPy."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++ to run CUDA kernels on the CPU")
    module: ModuleType = load_test_file(Path(__file__).with_name("emulated_cupy.py")).make_cupy()
    return module


def _run(cupy: ModuleType, code: str, x: Any, n: Any = None, threads: int = 8) -> Any:
    y = cupy.empty_like(np.asarray(x, dtype=np.float64))
    kernel = cupy.RawModule(code=code, options=("-DREAL=double",)).get_function("run")
    kernel((-(-len(x) // 8),), (threads,), (x, np.int32(len(x)) if n is None else n, y))
    return y


def test_threads_exchange_numbers(cupy: ModuleType) -> None:
    """Through shared memory, over several blocks."""
    x = np.arange(24.0)
    np.testing.assert_array_equal(_run(cupy, REVERSE, x), x.reshape(3, 8)[:, ::-1].ravel())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("__syncthreads();", "", "y depends on the order of the threads"),
        ("__syncthreads();", "if (thread < 4) __syncthreads();", "some threads of a block do not reach a barrier"),
        ("if (place < n)\n", "", "wrote beside an array"),
        ("y[place] = ", "const_cast<REAL *>(x)[place] = y[place] = ", "wrote into x"),
        ("y[place]", "y(place)", "error: "),
    ],
    ids=["missing barrier", "divergent barrier", "out of bounds", "constant input", "no C++"],
)
def test_mistakes_are_found(cupy: ModuleType, old: str, new: str, message: str) -> None:
    """Each with its own message."""
    with pytest.raises(AssertionError, match=message):
        _run(cupy, REVERSE.replace(old, new), np.arange(20.0))


@pytest.mark.parametrize(
    ("x", "n", "threads"),
    [
        (np.arange(8.0, dtype=np.float32), None, 8),
        (np.arange(16.0)[::2], None, 8),
        (np.arange(8.0), 8, 8),
        (np.arange(8.0), np.int64(8), 8),
        (np.arange(8.0), None, 2048),
    ],
    ids=["wrong precision", "not contiguous", "number of unknown width", "number of wrong width", "too many threads"],
)
def test_wrong_launches_are_refused(cupy: ModuleType, x: Any, n: Any, threads: int) -> None:
    """What CuPy would pass on to the GPU as it is."""
    with pytest.raises(AssertionError):
        _run(cupy, REVERSE, x, n, threads)
