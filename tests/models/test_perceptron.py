"""The small network for regression."""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ekfcore as ek
from ekfcore.models.perceptron import Perceptron

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

SHAPES: list[tuple[tuple[int, ...], str]] = [
    ((1, 8, 1), "tanh"),
    ((3, 4, 4, 2), "silu"),  # equal widths: still no residual
    ((2, 4, 3), "gelu"),
    ((3, 2), "tanh"),  # linear regression
]


@pytest.fixture
def x() -> Any:
    """Return a few inputs for up to three features."""
    return np.random.default_rng(1).normal(size=(5, 3))


@pytest.fixture
def cotangents() -> list[dict[str, Any]]:
    """Return three functionals of up to three outputs, one of them zero."""
    rng = np.random.default_rng(2)
    return [{"y": rng.normal(size=(5, 3))}, {}, {"y": rng.normal(size=(5, 3))}]


def _cut(cotangents: list[dict[str, Any]], n_out: int) -> list[dict[str, Any]]:
    return [{name: c[:, :n_out] for name, c in cotangent.items()} for cotangent in cotangents]


@pytest.mark.parametrize(("widths", "activation"), SHAPES)
def test_against_torch(widths: tuple[int, ...], activation: str, x: Any, cotangents: list[dict[str, Any]]) -> None:
    """The layers are torch's Linear layers, one weight after the other in the order of their parameters."""
    torch = pytest.importorskip("torch", reason="torch is the oracle here: pip install ekfcore[torch]")
    model = Perceptron(widths, activation)
    w, x = model.initial_weights(seed=0), x[:, : widths[0]]
    act = {"tanh": torch.nn.Tanh(), "silu": torch.nn.SiLU(), "gelu": torch.nn.GELU("tanh")}[activation]
    layers: list[Any] = []
    for n_in, n_out in pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out, dtype=torch.float64), act]
    net = torch.nn.Sequential(*layers[:-1])
    torch.nn.utils.vector_to_parameters(torch.tensor(w), net.parameters())
    y = net(torch.tensor(x))
    np.testing.assert_allclose(model.predict(w, x)["y"], y.detach().numpy(), rtol=1e-12)
    values, H = model.jacobian(w, x, _cut(cotangents, widths[-1]))
    assert tuple(p.numel() for p in net.parameters()) == model.layer_sizes
    for value, row, cotangent in zip(values, H, _cut(cotangents, widths[-1]), strict=True):
        expected = torch.sum(y * torch.tensor(cotangent.get("y", np.zeros(y.shape))))
        gradient = torch.autograd.grad(expected, tuple(net.parameters()), retain_graph=True)
        np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
        np.testing.assert_allclose(row, torch.cat([g.ravel() for g in gradient]).numpy(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("widths", "activation"), SHAPES)
def test_against_finite_differences(
    widths: tuple[int, ...], activation: str, x: Any, cotangents: list[dict[str, Any]]
) -> None:
    """Each weight in turn, by central differences of fourth order."""
    model = Perceptron(widths, activation)
    w, x, cotangents = model.initial_weights(seed=3), x[:, : widths[0]], _cut(cotangents, widths[-1])
    _, H = model.jacobian(w, x, cotangents)
    h = 1e-3
    for k, step in enumerate(np.eye(len(w)) * h):
        values = [model.jacobian(w + s * step, x, cotangents)[0] for s in (1, -1, 2, -2)]
        difference = (8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * h)
        np.testing.assert_allclose(H[:, k], difference, rtol=1e-8, atol=1e-10)


def test_any_array_library(xp: "Xp", assert_close: "AssertClose", x: Any, cotangents: list[dict[str, Any]]) -> None:
    """Prediction and gradients are those of NumPy, in the arrays of the caller."""
    model = Perceptron((3, 4, 3))
    w = model.initial_weights(seed=0)
    theirs = [{name: xp.asarray(c) for name, c in cotangent.items()} for cotangent in cotangents]
    prediction = model.predict(xp.asarray(w), xp.asarray(x))
    assert_close(prediction["y"], xp.asarray(model.predict(w, x)["y"]))
    actual = model.jacobian(xp.asarray(w), xp.asarray(x), theirs)
    for mine, numpys in zip(actual, model.jacobian(w, x, cotangents), strict=True):
        assert_close(mine, xp.asarray(numpys), atol=1e-14)


def test_filter_trains_it(xp: "Xp") -> None:
    """A sine, learned in any array library."""
    model = Perceptron((1, 8, 1))
    points = np.linspace(-3.0, 3.0, 20)
    one, config = xp.asarray([[1.0]]), ek.EKFConfig()
    state = ek.init(xp.asarray(model.initial_weights(seed=0)), ek.partition(model.layer_sizes), config)
    errors = []
    for x in np.tile(points, 6):
        y, H = model.jacobian(state.weights, xp.asarray([[x]]), [{"y": one}])
        state, info = ek.update(state, H, xp.asarray([np.sin(x)]) - y, config=config)
        errors.append(abs(float(info.innovation[0])))
    assert np.mean(errors[:20]) > 0.3
    assert np.mean(errors[-20:]) < 0.1


def test_seed_fixes_the_weights() -> None:
    """Same seed, same weights."""
    model = Perceptron((2, 50, 1))
    assert (model.initial_weights(seed=1) == model.initial_weights(seed=1)).all()
    assert (model.initial_weights(seed=1) != model.initial_weights(seed=2)).all()


@pytest.mark.parametrize(
    ("widths", "activation", "message"),
    [
        ((3,), "tanh", r"`widths` must hold at least two positive numbers, got \[3\]"),
        ((3, 0, 1), "tanh", r"`widths` must hold at least two positive numbers, got \[3, 0, 1\]"),
        ((3, 1), "swish", r"`activation` must be one of tanh, .*, got 'swish'"),
    ],
)
def test_bad_settings(widths: tuple[int, ...], activation: str, message: str) -> None:
    """Each rule has its message."""
    with pytest.raises(ek.InputError, match=message):
        Perceptron(widths, activation)


def test_unknown_quantity(x: Any) -> None:
    """A misspelt name is not taken for zero."""
    model = Perceptron((3, 1))
    with pytest.raises(ek.InputError, match=r"`cotangents` may name y, got \['z'\]"):
        model.jacobian(model.initial_weights(seed=0), x, [{"z": x}])
