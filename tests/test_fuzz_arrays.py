"""Arrays and settings that nobody would mean, on the filter itself and on the optimizer of PyTorch: errors of ours."""

# What is wrong is given on purpose.
# mypy: disable-error-code="arg-type"

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ekfcore as ek
from ekfcore.uncertainty import CovarianceRoot, entropy_change, fisher_information

torch = pytest.importorskip("torch", reason="the optimizer is torch's")
strict = pytest.importorskip("array_api_strict", reason="a library of its own")

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore:Sparse")  # of numbers that overflow

_N = 5
_SHAPES = [(_N,), (1, _N), (3, _N), (_N, 1), (_N + 1,), (_N - 1,), (0,), (0, _N), (3, _N, 1), (), (2, 2, _N)]
_DTYPES = ["float64"] * 5 + ["float32", "float16", "int64", "bool", "complex128", "object", "uint8", ">f8", "U5"]
_OTHERS: list[Any] = [
    *(
        None,
        "x",
        b"1",
        True,
        0,
        1,
        -1,
        1.0,
        2.5,
        10**400,
        1e300,
        5e-324,
        math.nan,
        math.inf,
        1j,
        [],
        [1.0],
        [[1], [2, 3]],
    ),
    *([1.0] * 3, (1, 2, 3), {}, {1, 2}, [None], ["a"], range(3), object(), np.float32, np.float64(2), np.ones(3)),
    *(
        np.array(2.0),
        np.ones((3, 1)),
        np.ma.masked_array(np.ones(_N), np.arange(_N) == 0),
        np.ones((1, _N)).view(np.matrix),
    ),
    *(torch.ones(_N), torch.tensor(1.0), torch.ones(3, requires_grad=True), torch.ones(_N, dtype=torch.bfloat16)),
    *(torch.zeros(_N).to_sparse(), torch.zeros(_N, device="meta"), ek.EKFConfig(), ek.BlockLayout((2, 3))),
]
_others = st.sampled_from(_OTHERS)
_settings = [
    ek.EKFConfig(),
    ek.EKFConfig(rows=4),
    ek.EKFConfig(noise="adaptive"),
    ek.EKFConfig(noise="blocks", averaging=0.1, dtype="float32", pending=2),
]
_LIBRARIES: list[Callable[[Any], Any]] = [np.asarray, torch.from_numpy, lambda array: strict.asarray(array.copy())]


@st.composite
def _arrays(draw: st.DrawFn) -> Any:
    """Draw an array of some shape, type, library and order, in which a number may not be finite; or something else."""
    if draw(st.integers(0, 5)) == 0:
        return draw(_others)
    shape, dtype = draw(st.sampled_from(_SHAPES)), draw(st.sampled_from(_DTYPES))
    array = np.random.default_rng(0).normal(size=shape).astype(dtype)
    if array.size and array.dtype.kind == "f" and draw(st.booleans()):
        array[(0,) * array.ndim] = draw(
            st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e300 if dtype == "float64" else 1])
        )
    if array.ndim and draw(st.booleans()):
        array = array[::-1]
    elif array.ndim == 2:
        array = np.asfortranarray(array)
    if array.dtype.str[0] == ">" or array.dtype.kind not in "fiubc" or dtype == "float16":
        return array
    library = draw(st.sampled_from(_LIBRARIES))
    return library(array.copy()) if library is not np.asarray else array


@st.composite
def _states(draw: st.DrawFn) -> tuple[ek.EKFState, ek.EKFConfig]:
    config = draw(st.sampled_from(_settings))
    weights = np.arange(float(_N))
    library = draw(st.sampled_from(_LIBRARIES))
    return ek.init(library(weights), ek.BlockLayout((2, 3)), config), config


def _refused(call: Callable[..., Any], *given: Any, **options: Any) -> Any:
    """Return what comes of a call, or None if it was refused in our words."""
    try:
        return call(*given, **options)
    except ek.EKFError as error:
        told = str(error)
    assert told
    assert "\n" not in told
    return None


@given(
    w=_arrays(),
    layout=st.just(ek.BlockLayout((2, 3))) | _others,
    config=st.sampled_from(_settings) | _others,
    backend=st.sampled_from([None, "numpy", "torch", "generic", "x", 5, []]),
)
def test_init(w: Any, layout: Any, config: Any, backend: Any) -> None:
    """Weights of whatever kind."""
    state = _refused(ek.init, w, layout, config, backend=backend)
    assert state is None or state.weights.shape == (_N,)


@given(
    begun=_states(),
    H=_arrays(),
    innovation=_arrays() | st.just(0.1),
    noise=st.none() | _others,
    tracked=st.none() | _others,
    config=st.none() | _others,
)
def test_update(begun: Any, H: Any, innovation: Any, noise: Any, tracked: Any, config: Any) -> None:
    """The weights stay finite: what is not is refused, or named in the status."""
    state, own = begun
    found = _refused(
        ek.update, state, H, innovation, config=own if config is None else config, noise=noise, tracked=tracked
    )
    if found is not None:
        assert np.isfinite(np.asarray(ek.arrays.to_numpy(found[0].weights))).all()


@given(begun=_states(), weights=_arrays(), other=_others)
def test_states(begun: Any, weights: Any, other: Any) -> None:
    """Weights that were exchanged, and what is no state."""
    state, config = begun
    H = ek.arrays.detach(state.weights)
    _refused(ek.update, replace(state, weights=weights), H, 0.1, config=config)
    assert _refused(ek.update, other, H, 0.1, config=config) is None
    assert _refused(ek.kpu, other, H) is None


@given(begun=_states(), H=_arrays(), noise=_others, parameters=_others, ties=_others)
def test_uncertainties(begun: Any, H: Any, noise: Any, parameters: Any, ties: Any) -> None:
    """Gradients, noise, and numbers of weights."""
    state, _ = begun
    _refused(ek.kpu, state, H)
    _refused(entropy_change, state, H, noise)
    _refused(fisher_information, H, noise)
    root = _refused(CovarianceRoot, state, parameters=parameters, ties=ties)
    if root is not None:
        _refused(root.whiten, H)


@given(sizes=_others, block_size=_others, strategy=st.sampled_from(["rlekf", "even", "global"]) | _others)
def test_partition(sizes: Any, block_size: Any, strategy: Any) -> None:
    """And the layout itself."""
    _refused(ek.partition, sizes, block_size=block_size, strategy=strategy)
    _refused(ek.BlockLayout, sizes)


@given(data=st.data())
def test_settings(data: st.DataObject) -> None:
    """Settings that can be made can be used."""
    kind = data.draw(st.sampled_from([ek.EKFConfig, ek.MemoryFactor, ek.Anneal, ek.AdaptiveNoise]))
    needed = {"start": 1.0, "stop": 0.1, "measurements": 10} if kind is ek.Anneal else {}
    name = data.draw(st.sampled_from([field.name for field in fields(kind)]))
    config = _refused(kind, **{**needed, name: data.draw(_others)})
    if isinstance(config, ek.EKFConfig):
        state = ek.init(np.zeros(_N), ek.BlockLayout((2, 3)), config)
        _refused(ek.update, state, np.ones(_N), 0.1, config=config)


@given(data=st.data())
def test_optimizer(data: st.DataObject) -> None:
    """What a closure returns, and states that are none."""
    from ekfcore.torch.optimizer import EKF

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    p = net(torch.ones(4, 2))
    labels = [torch.zeros(4, 1), torch.zeros(4), torch.zeros(4, 1, dtype=torch.complex64), torch.full((4, 1), math.inf)]
    labels += [torch.zeros(4, 1).to_sparse(), torch.zeros(4, 1, device="meta")]
    changed = [p.detach(), p.double(), p.sum(), p[:0], p.to(torch.bfloat16), p * math.nan, p > 0, p.to_sparse()]
    tensors = st.sampled_from([p, p, *changed, *labels])
    pairs = st.tuples(tensors, tensors | _others)
    options = {
        name: data.draw(_others)
        for name in ("config", "block_size", "measure", "noise")
        if data.draw(st.integers(0, 9)) == 0
    }
    optimizer = _refused(EKF, data.draw(st.just(list(net.parameters())) | _others), **options)
    if optimizer is None:
        return
    _refused(optimizer.step, lambda: data.draw(pairs | st.lists(pairs, max_size=2) | _others))
    saved = optimizer.state_dict()
    part = data.draw(st.sampled_from(["header", "arrays"]))
    name = data.draw(st.sampled_from(sorted(saved["filter"][part])))
    saved["filter"][part][name] = data.draw(_others)
    _refused(optimizer.load_state_dict, saved)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: ek.init(np.zeros(5), (2, 3)), "`layout` must be a BlockLayout, got tuple"),
        (lambda s: ek.init(np.zeros(5), ek.BlockLayout((5,)), {}), "`config` must be an EKFConfig, got dict"),
        (lambda s: ek.init(np.ma.masked_array(np.zeros(5)), ek.BlockLayout((5,))), "`w` must have no mask"),
        (
            lambda s: ek.init(torch.zeros(5).to_sparse(), ek.BlockLayout((5,))),
            "`w` must be dense, got torch.sparse_coo",
        ),
        (
            lambda s: ek.init(torch.zeros(5, device="meta"), ek.BlockLayout((5,))),
            "`w` must hold numbers, got a tensor on",
        ),
        (lambda s: ek.BlockLayout((2, 0)), "`sizes` must be positive integers, at least one of them, got (2, 0)"),
        (lambda s: ek.partition(5), "`sizes` must be positive integers, at least one of them, got 5"),
        (lambda s: ek.partition([5], block_size=10**400), "`block_size` must be an integer of at least 1"),
        (
            lambda s: ek.partition([5], strategy=[]),
            "`strategy` must be one of rlekf, deepmd, layer, even, global, got []",
        ),
        (lambda s: ek.EKFConfig(memory=0.98), "`memory` must be a MemoryFactor, got float"),
        (
            lambda s: ek.update(None, np.ones(5), 0.1, config=ek.EKFConfig()),
            "`state` must be an EKFState, got NoneType",
        ),
        (lambda s: ek.update(s, np.ones(5), 0.1, config=None), "`config` must be an EKFConfig, got NoneType"),
        (lambda s: ek.update(s, np.ones(5), 0.1, config=ek.EKFConfig(), tracked=1), "`tracked` must hold 1 flags"),
        (lambda s: ek.update(s, np.ones(5), 0.1, config=ek.EKFConfig(), noise=10**400), "`noise` must be one or 1 pos"),
        (
            lambda s: ek.update(replace(s, weights=torch.zeros(5)), np.ones(5), 0.1, config=ek.EKFConfig()),
            "`state.weights` must be an array of numpy as its covariance is, got torch.Tensor",
        ),
        (
            lambda s: ek.update(replace(s, weights=np.zeros(5, dtype=int)), np.ones(5), 0.1, config=ek.EKFConfig()),
            "`state.weights` must hold floating-point numbers, got int64",
        ),
        (lambda s: entropy_change(s, np.zeros((0, 5)), 1.0), "`H` must hold at least one measurement, got none"),
        (lambda s: fisher_information([1.0], 1.0), "`H` must be an array, got builtins.list"),
        (
            lambda s: fisher_information(np.ones((1, 2, 3)), 1.0),
            "`H` must have shape (n,) or (m, n), m and n at least 1",
        ),
        (lambda s: CovarianceRoot(s, parameters=np.array([5])), "`parameters` must lie between 0 and 4, got 5 to 5"),
        (
            lambda s: CovarianceRoot(s, parameters=np.ones(5, bool)),
            "`parameters` must be an array of at least one integer",
        ),
        (lambda s: CovarianceRoot(s, ties=np.zeros(4, int)), "`ties` must have shape (5,), got (4,)"),
    ],
)
def test_messages(call: Callable[[ek.EKFState], Any], message: str) -> None:
    """The argument, its rule and what was given."""
    with pytest.raises(ek.InputError) as caught:
        call(ek.init(np.zeros(5), ek.BlockLayout((2, 3))))
    assert str(caught.value).startswith(message)


def test_parameters_in_bfloat16() -> None:
    """Their filter can be saved, though NumPy has no such numbers."""
    from ekfcore.torch.optimizer import EKF

    net = torch.nn.Linear(2, 1).to(torch.bfloat16)
    one = torch.ones(1, 2, dtype=torch.bfloat16)
    optimizer = EKF(net.parameters())
    optimizer.step(lambda: (net(one), torch.ones(1, 1, dtype=torch.bfloat16)))
    saved = optimizer.state_dict()
    assert torch.equal(saved["filter"]["arrays"]["weights"], optimizer.filter.weights.float())
    other = EKF(net.parameters())
    other.load_state_dict(saved)
    assert torch.equal(other.filter.covariance.dense(0), optimizer.filter.covariance.dense(0))


def test_innovations_that_no_float_can_hold() -> None:
    """As any other that is not finite; integers have a Fisher information like other numbers."""
    state = ek.init(np.zeros(2), ek.BlockLayout((2,)))
    new, info = ek.update(state, np.ones(2), 10**400, config=ek.EKFConfig())
    assert info.status == "non_finite"
    assert np.array_equal(new.weights, [0.0, 0.0])
    np.testing.assert_allclose(fisher_information(np.array([1, 2]), 0.5), [[2.0, 4.0], [4.0, 8.0]], rtol=1e-15)
