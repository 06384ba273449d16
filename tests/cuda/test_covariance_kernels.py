"""The kernels of the covariance in the size in which they run on a GPU, against dense matrices."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore import BlockLayout

# Shorter than a tile, longer by some, a whole tile, two tiles and a bit
LAYOUT = BlockLayout((5, 70, 64, 130))
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}  # of the largest element: sums of some hundred products


def _numbers(m: int, k: int, dtype: str) -> dict[str, Any]:
    rng, n = np.random.default_rng(m), LAYOUT.n_params
    halves = [rng.standard_normal((size, size)) for size in LAYOUT.sizes]
    numbers = {
        "H": rng.standard_normal((m, n)),
        "V": rng.standard_normal((k, n)),
        "scale": rng.uniform(0.5, 2.0, len(halves)),
        "shift": rng.uniform(0.0, 1.0, len(halves)),
    }
    return {"Q": [half @ half.T for half in halves], **{name: a.astype(dtype) for name, a in numbers.items()}}


def _dense(case: dict[str, Any]) -> list[NDArray[np.float64]]:
    blocks = []
    for Q, part, scale, shift in zip(case["Q"], LAYOUT.slices, case["scale"], case["shift"], strict=True):
        V = case["V"][:, part].astype(np.float64)
        blocks.append(scale * (Q + shift * np.eye(len(Q)) - V.T @ V))
    return blocks


def _assert_close(actual: NDArray[Any], desired: NDArray[Any], dtype: str) -> None:
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, desired, rtol=0, atol=TOLERANCE[dtype] * np.abs(desired).max())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("m", "k"), [(1, 0), (2, 19), (11, 8)], ids=str)  # eleven rows take two launches
def test_kernels_in_full_size(emulated_cupy: ModuleType, m: int, k: int, dtype: str) -> None:
    """Product, fold-in and trace; the fold may be in place."""
    kernels = emulated_cupy.backend
    case = _numbers(m, k, dtype)
    store = kernels.from_lower(LAYOUT, [Q.astype(dtype) for Q in case["Q"]])
    rest, P = (case["V"], case["scale"], case["shift"]), _dense(case)
    product = kernels.multiply(store, case["H"], *rest)
    blocks = zip(LAYOUT.slices, P, strict=True)
    _assert_close(product, np.concat([case["H"][:, part] @ block for part, block in blocks], axis=1), dtype)
    kept = kernels.fold(store, *rest, donate=False)
    donated = kernels.fold(store, *rest, donate=True)
    assert donated.numbers is store.numbers
    np.testing.assert_array_equal(kept.numbers, donated.numbers)
    _assert_close(kernels.traces(kept), np.asarray([np.trace(block) for block in P]), dtype)
    for index, block in enumerate(P):
        _assert_close(np.tril(kernels.lower(kept, index)), np.tril(block), dtype)
    whole = kept.numbers[: kept.layout.n_chunks]
    np.testing.assert_array_equal(whole, np.swapaxes(whole, 1, 2))
