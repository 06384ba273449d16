"""The preset "deepmd-lkf" against the optimizer that it is named after."""

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.presets import preset

WIDTHS = (6, 12, 5, 1)  # matrices of 72, 60 and 5 weights; with biases, parts that are split, gathered and left over
BLOCK_SIZE = 40
ROUNDING = 1e-12  # relative to the largest number of an array, after 50 steps


@pytest.fixture(scope="module")
def lkf() -> Any:
    """Return the module that defines the optimizer, which needs nothing of DeePMD-kit but torch."""
    spec = importlib.util.find_spec("deepmd")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "pt" / "optimizer" / "LKF.py"
    file = importlib.util.spec_from_file_location("deepmd_lkf", path)
    assert file is not None
    assert file.loader is not None
    module = importlib.util.module_from_spec(file)
    file.loader.exec_module(module)
    return module


def _flat(tensors: list[Any]) -> Any:
    """Lay arrays out as the optimizer does: matrices (n_in, n_out) in column order, which are ours in row order."""
    return np.concatenate([tensor.detach().numpy().T.ravel() for tensor in tensors])


def _close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=ROUNDING * np.max(np.abs(expected)))


@pytest.mark.deepmd
def test_fifty_steps(lkf: Any) -> None:
    """Weights, P and lambda stay the same when both are given the same gradients and errors."""
    import torch

    rng = np.random.default_rng(0)
    shapes = [shape for n_in, n_out in pairwise(WIDTHS) for shape in [(n_in, n_out), (n_out,)]]
    parameters = [torch.nn.Parameter(torch.tensor(rng.normal(size=shape))) for shape in shapes]
    theirs = lkf.LKFOptimizer(parameters, block_size=BLOCK_SIZE)
    theirs.set_grad_prefactor(1.0)
    state_of = theirs.state[parameters[0]]

    recipe = preset("deepmd-lkf")
    layout = ek.partition([p.numel() for p in parameters], block_size=BLOCK_SIZE, strategy=recipe.strategy)
    state = ek.init(_flat(parameters), layout, recipe.config)
    assert layout.sizes == tuple(len(P) for P in state_of["P"]) == (40, 32, 12, 40, 20, 11)

    for _ in range(50):
        for parameter, shape in zip(parameters, shapes, strict=True):
            parameter.grad = torch.tensor(rng.normal(size=shape))
        error = abs(rng.normal())
        H = _flat([parameter.grad for parameter in parameters])
        state, info = ek.update(state, H, error, config=recipe.config)
        theirs.step(torch.tensor(error, dtype=torch.float64))
        assert info.status == "ok"
    _close(state.weights, _flat(parameters))
    assert state.lam == pytest.approx(state_of["kalman_lambda"], rel=ROUNDING)
    for index, P in enumerate(state_of["P"]):
        _close(state.covariance.dense(index), P.numpy())
