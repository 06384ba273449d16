"""Tiles and compiled kernels against dense matrices; whatever the backends share is tested with all of them."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.checkpoint import state_arrays
from ekfcore.registry import get_backend
from ekfcore.threads import limited_threads

pytest.importorskip("numba", reason="numba is not installed")
from ekfcore.backends._tiles import shares, tile_grid

KERNELS = get_backend("numba", like=np.zeros(1))
TILE = 64
# A single weight, blocks beside the edge of a tile, and one of several bands.
LAYOUT = ek.BlockLayout((1, TILE - 1, TILE, TILE + 1, 3 * TILE, 1000))
TOLERANCE = {"float64": 1e-13, "float32": 5e-5}  # of the largest element: sums of a thousand products


def _random(layout: ek.BlockLayout, m: int, k: int, dtype: str = "float64", seed: int = 0) -> dict[str, Any]:
    """Return dense blocks of Q with NaN above the diagonal, and the arguments of the kernels."""
    rng = np.random.default_rng(seed)
    halves = [rng.standard_normal((n, n)) / n**0.5 for n in layout.sizes]
    numbers = {
        "H": rng.standard_normal((m, layout.n_params)),
        "V": rng.standard_normal((k, layout.n_params)) / layout.n_params**0.5,
        "scale": rng.uniform(0.5, 2.0, len(layout.sizes)),
        "shift": rng.uniform(0.0, 1.0, len(layout.sizes)),
    }
    Q = [(half @ half.T).astype(dtype) for half in halves]
    lower = [np.where(np.tri(len(A), dtype=bool), A, np.nan).astype(dtype) for A in Q]
    return {"Q": Q, "lower": lower, **{name: array.astype(dtype) for name, array in numbers.items()}}


def _dense(layout: ek.BlockLayout, case: dict[str, Any]) -> list[NDArray[np.float64]]:
    """Return the blocks of P in double precision, as the protocol defines them."""
    blocks = []
    for index, part in enumerate(layout.slices):
        Q, V = case["Q"][index].astype(np.float64), case["V"][:, part].astype(np.float64)
        P = np.tril(Q) + np.tril(Q, k=-1).T + float(case["shift"][index]) * np.eye(len(Q)) - V.T @ V
        blocks.append(float(case["scale"][index]) * P)
    return blocks


def _assert_kernels_agree(layout: ek.BlockLayout, case: dict[str, Any], dtype: str) -> None:
    store = KERNELS.from_lower(layout, case["lower"])
    rest = case["V"], case["scale"], case["shift"]
    product = KERNELS.multiply(store, case["H"], *rest)
    folded = KERNELS.fold(store, *rest, donate=False)
    assert product.dtype == KERNELS.traces(folded).dtype == dtype
    for index, (part, P) in enumerate(zip(layout.slices, _dense(layout, case), strict=True)):
        np.testing.assert_array_equal(np.tril(KERNELS.lower(store, index)), np.tril(case["Q"][index]))
        _assert_near(np.tril(KERNELS.lower(folded, index)), np.tril(P), dtype)
        _assert_near(product[:, part], case["H"][:, part].astype(np.float64) @ P, dtype)
        np.testing.assert_allclose(KERNELS.traces(folded)[index], np.trace(P), rtol=TOLERANCE[dtype])


def _assert_near(actual: NDArray[Any], desired: NDArray[Any], dtype: str) -> None:
    np.testing.assert_allclose(actual, desired, rtol=0, atol=TOLERANCE[dtype] * max(1.0, np.max(np.abs(desired))))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("m", "k"), [(1, 0), (1, 4), (2, 1), (3, 7), (5, 32), (12, 3), (13, 0), (TILE + 6, 9)])
def test_kernels_equal_dense(m: int, k: int, dtype: str) -> None:
    """With pending rows and without, one measurement and more than a tile is wide, in both precisions."""
    _assert_kernels_agree(LAYOUT, _random(LAYOUT, m, k, dtype), dtype)


@given(st.lists(st.integers(1, 3 * TILE), min_size=1, max_size=6), st.integers(1, 4), st.integers(0, 6))
@settings(derandomize=True, deadline=None, max_examples=25)
def test_any_layout(sizes: list[int], m: int, k: int) -> None:
    """Blocks of any size, in any order."""
    layout = ek.BlockLayout(tuple(sizes))
    _assert_kernels_agree(layout, _random(layout, m, k), "float64")


def _some_results(layout: ek.BlockLayout, seed: int = 0) -> list[NDArray[Any]]:
    """Return products with P before and after a fold, and what the fold made."""
    rng = np.random.default_rng(seed)
    H, V = rng.standard_normal((13, layout.n_params)), 0.01 * rng.standard_normal((6, layout.n_params))
    scale, shift = rng.uniform(0.5, 2.0, (2, len(layout.sizes)))
    folded = KERNELS.fold(KERNELS.identity(layout, 1.0, like=H), V, scale, shift, donate=True)
    products = [KERNELS.multiply(folded, H[:m], V, scale, shift) for m in (1, 2, 5, 13)]
    lower = [np.tril(KERNELS.lower(folded, index)) for index in range(len(layout.sizes))]
    return [*products, KERNELS.traces(folded), *lower]


def test_number_of_threads_changes_no_bit() -> None:
    """Neither of a product nor of a fold: what is summed in which order depends on the layout alone."""
    layout = ek.BlockLayout((1500, 7, 2300))
    assert [len(shares(tile_grid(layout), count)[0]) - 1 for count in (1, 2, 3, 7)] == [1, 2, 3, 3]
    found = []
    for count in (1, 2, 3):
        with limited_threads(count):
            found.append(_some_results(layout))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("m", [1, 5, 12, 13])
def test_number_of_threads_changes_no_bit_of_what_joins_the_blocks(m: int) -> None:
    """Of products with rows that join blocks, and of the loss of some: sums depend on the number of rows alone."""
    layout, found = ek.BlockLayout((1500, 7, 300)), []
    rng = np.random.default_rng(8)
    H, V = rng.standard_normal((m, layout.n_params)), rng.standard_normal((101, layout.n_params))
    for count in (1, 2, 3, 7):
        with limited_threads(count):
            results = [KERNELS.correlate(H, V), KERNELS.correlate(H, V[:33])]
            P = ek.Covariance.identity(layout, 1.0, backend=KERNELS, like=H, coupled=True)
            for h in 0.1 * V[:40]:
                G = P.multiply(h[None, :])
                active = np.ones(3, dtype=bool)
                P = P.downdate(G / np.sqrt(1 + G @ h), active, 0.99, 0.0, information=h[None, :])
            P = P.age(20, donate=True)
            found.append([*results, P.multiply(H), P.pending, P.traces])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("m", [5, 13])
def test_rows_that_join_blocks_may_lie_as_they_like(m: int) -> None:
    """Read-only, in column order, with gaps: nothing is written to them, and the sums are the same."""
    rng = np.random.default_rng(9)
    H, V = rng.standard_normal((m, 90)), rng.standard_normal((37, 90))
    product = KERNELS.correlate(H, V)
    read_only = H.copy(), V.copy()
    for array in read_only:
        array.flags.writeable = False
    for h, v in (read_only, (np.asfortranarray(H), np.asfortranarray(V)), (np.repeat(H, 2, axis=1)[:, ::2], V)):
        np.testing.assert_allclose(KERNELS.correlate(h, v), product, rtol=0, atol=1e-12)
    for array, before in zip(read_only, (H, V), strict=True):
        np.testing.assert_array_equal(array, before)


def test_two_callers_at_once() -> None:
    """Filters in several threads of a program share the kernels' threads and nothing else."""
    layout, found = ek.BlockLayout((2000,)), {}

    def call(seed: int) -> None:
        found[seed] = _some_results(layout, seed)

    with limited_threads(2):
        callers = [threading.Thread(target=call, args=(seed,)) for seed in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=60)
    for seed in range(4):
        for one, other in zip(found[seed], _some_results(layout, seed), strict=True):
            np.testing.assert_array_equal(one, other)


def test_block_that_is_not_measured_gives_zeros() -> None:
    """Its tiles are not even looked at."""
    case = _random(LAYOUT, 2, 5)
    resting = LAYOUT.slices[5]
    case["H"][:, resting] = 0.0
    store = KERNELS.from_lower(LAYOUT, case["lower"])
    product = KERNELS.multiply(store, case["H"], case["V"], case["scale"], case["shift"])
    assert not np.any(product[:, resting])
    assert np.all(product[:, : resting.start])


@pytest.mark.parametrize("trouble", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(trouble: float) -> None:
    """It must reach the status of the update, and no other block."""
    case = _random(LAYOUT, 2, 3)
    case["H"][1, LAYOUT.slices[4].start] = trouble
    store = KERNELS.from_lower(LAYOUT, case["lower"])
    product = KERNELS.multiply(store, case["H"], case["V"], case["scale"], case["shift"])
    bad = np.zeros(product.shape, dtype=bool)
    bad[1, LAYOUT.slices[4]] = True
    np.testing.assert_array_equal(np.isfinite(product), ~bad)


def test_arrays_may_lie_in_memory_as_they_like() -> None:
    """Read-only, in column order, with gaps: the same bits."""
    case = _random(LAYOUT, 4, 3)
    store = KERNELS.from_lower(LAYOUT, case["lower"])
    rest = case["V"], case["scale"], case["shift"]
    product = KERNELS.multiply(store, case["H"], *rest)
    read_only = case["H"].copy()
    read_only.flags.writeable = False
    for H in (read_only, np.asfortranarray(case["H"]), np.repeat(case["H"], 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(KERNELS.multiply(store, H, *rest), product)


def test_one_triangle_is_kept() -> None:
    """Half the memory of squares, and half a row of tiles more."""
    layout = ek.BlockLayout((1024, 2048))
    size = KERNELS.store_size(layout, like=np.zeros(1))
    assert size <= sum(n**2 for n in layout.sizes) * (0.5 + 0.5 * TILE / 1024)
    assert KERNELS.identity(layout, 1.0, like=np.zeros(1)).tiles.nbytes == 8 * size


def test_files_go_from_backend_to_backend(tmp_path: Path) -> None:
    """Written with these kernels, read with those of NumPy, written by them and read again: no bit changes."""
    pytest.importorskip("scipy", reason="the NumPy kernels call BLAS through SciPy")
    config, rng = ek.EKFConfig(pending=4, process_noise=1e-3), np.random.default_rng(1)
    state = ek.init(rng.standard_normal(LAYOUT.n_params), LAYOUT, config, backend="numba")
    for _ in range(5):
        H, e = 0.1 * rng.standard_normal((2, LAYOUT.n_params)), rng.standard_normal(2)
        state, _ = ek.update(state, H, e, config=config, throw=True)
    ek.save(state, tmp_path / "numba")
    numpy = ek.load(tmp_path / "numba", backend="numpy")
    ek.save(numpy, tmp_path / "numpy")
    again = ek.load(tmp_path / "numpy", backend="numba")
    assert [s.covariance.backend.name for s in (state, numpy, again)] == ["numba", "numpy", "numba"]
    for one, other in zip(state_arrays(state), state_arrays(again), strict=True):
        assert one[0] == other[0]
        np.testing.assert_array_equal(one[1], other[1])
    H, e = rng.standard_normal((2, LAYOUT.n_params)), np.ones(2)
    states = [ek.update(s, H, e, config=config)[0] for s in (state, again, numpy)]
    np.testing.assert_array_equal(states[1].weights, states[0].weights)
    np.testing.assert_allclose(states[2].weights, states[0].weights, rtol=1e-10)


def test_kernels_work_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Compiled code is not kept then."""
    (tmp_path / "file").touch()
    code = (
        "import numpy as np, ekfcore as ek\n"
        "state = ek.init(np.zeros(3), ek.partition([3]), backend='numba')\n"
        "print(ek.kpu(state, np.asarray([1.0, 2.0, 2.0])))"
    )
    run = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "file" / "folder")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.split() == ["[9.]"], run.stderr


_BITS = """
from hashlib import sha256
import numpy as np
import ekfcore as ek
from ase.build import bulk
from ase.calculators.emt import EMT
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import *
atoms = bulk("Cu", cubic=True) * 2
atoms.rattle(0.1, seed=0)
atoms.calc = EMT()
atoms.get_forces()
frame = Frame.from_ase(atoms, "copper")
architecture = Architecture(elements=("Cu",), capacity=neighbour_capacity([frame], ["Cu"], 4.0), cutoff=4.0)
exact = DeepPotential(architecture, fit_statistics([frame], architecture))
w = initial_weights(architecture, seed=0)
rng, config = np.random.default_rng(0), ek.EKFConfig()
for model in (exact, NodalPotential(exact, 0.02, find_kernels(np))):
    prediction, pull = model.linearize(w, model.environment(frame, like=w))
    signs = {"forces": rng.choice([-1.0, 1.0], np.shape(prediction["forces"]))}
    for array in (*prediction.values(), *pull([{"energy": np.asarray(1.0)}, signs])):
        print(sha256(np.asarray(array).tobytes()).hexdigest())
state = ek.init(rng.normal(size=900), ek.partition([600, 300], block_size=150), config, backend="numba")
for _ in range(20):
    state, _ = ek.update(state, rng.normal(size=(3, 900)), rng.normal(size=3), config=config)
print(sha256(state.weights.tobytes()).hexdigest())
"""


def test_compiled_and_loaded_kernels_are_one(tmp_path: Path, without_torch: dict[str, str]) -> None:
    """A process that compiles gives the bits of those that load what it compiled, so a restart changes nothing."""
    for package in ("ase", "vesin", "scipy"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')
    command = [sys.executable, "-P", "-c", _BITS]
    environment = os.environ | without_torch | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbc")), "nothing was compiled"
    assert first == second


_COMPILES = """
import numpy as np
from ekfcore.compiling.jit import tell_of_compiling
from ekfcore.backends import _numba_kernels as kernels
tell_of_compiling(lambda: print("compiling"))
for dtype in (np.float64, np.float32):
    row = np.zeros((1, 64), dtype)
    kernels.pack(np.asarray([[0, 0, 64]]), row, row[0, :1], np.zeros((1, 1, 64), dtype))
"""


def test_compiling_is_told_once_and_only_where_it_happens(tmp_path: Path) -> None:
    """Whoever waits for the first run knows what for; the next process finds the kernels on disk."""
    for told in ("compiling\n", ""):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        command = [sys.executable, "-c", _COMPILES]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert found.stdout == told
