"""Activations and networks: values and derivatives against finite differences and torch."""

import functools
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ekfcore.errors import InputError
from ekfcore.models._activation import ACTIVATIONS, activation
from ekfcore.models._network import LayerShape, NetworkShape

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

# Off the corners of relu and relu6, on both sides of them, and far out where exp would overflow.
POINTS = np.concatenate([np.linspace(-8.0, 8.0, 40), [-800.0, -40.0, 40.0, 800.0]])
SMALL = POINTS[:-4]
ROUNDING = 2e-13  # 1 - tanh^2 is rounded at 1e-16, and gelu's curvature multiplies it by some hundred
TANH_OF_JAX = 7 * ROUNDING  # XLA's tanh is off by up to seven units in the last place

NETWORKS = {
    "plain": NetworkShape((LayerShape(2, 5, "tanh"), LayerShape(5, 3, "silu"))),
    "same width": NetworkShape.hidden((3, 3, 3), "tanh"),
    "doubled width": NetworkShape.hidden((2, 4, 8), "gelu"),
    "width one to two": NetworkShape.hidden((1, 2, 5, 5), "sigmoid"),
    "time step": NetworkShape.hidden((3, 3, 6, 4), "tanh", time_step=True),
    "output": NetworkShape.hidden((2, 4, 4), "softplus", time_step=True).with_output(),
}


@pytest.fixture(params=list(NETWORKS.values()), ids=list(NETWORKS))
def net(request: pytest.FixtureRequest) -> NetworkShape:
    """Return networks of every form in turn."""
    shape: NetworkShape = request.param
    return shape


@pytest.mark.parametrize("name", ACTIVATIONS)
class TestActivation:
    """Value, slope and curvature belong together."""

    def test_against_torch(self, name: str, reference: ModuleType) -> None:
        """Also where the argument is large."""
        z = reference.torch.tensor(POINTS, requires_grad=True)
        value = reference.ACTIVATIONS[name](z)
        grad = reference.torch.autograd.grad
        (slope,) = grad(value.sum(), z, create_graph=True)
        curvature = np.zeros_like(POINTS)
        if slope.requires_grad:
            (second,) = grad(slope.sum(), z, materialize_grads=True)
            curvature = second.numpy()
        actual = activation(name)(np, POINTS)
        for mine, torchs in zip(actual, [value.detach().numpy(), slope.detach().numpy(), curvature], strict=True):
            np.testing.assert_allclose(mine, torchs, rtol=1e-10, atol=ROUNDING)

    def test_against_finite_differences(self, name: str) -> None:
        """The slope is that of the value, the curvature that of the slope."""
        f, h = activation(name), 1e-3
        _, slope, curvature = f(np, SMALL)
        (v1, s1, _), (v2, s2, _), (v3, s3, _), (v4, s4, _) = (f(np, SMALL + k * h) for k in (1, -1, 2, -2))
        np.testing.assert_allclose(slope, (8 * (v1 - v2) - (v3 - v4)) / (12 * h), rtol=0, atol=1e-10)
        np.testing.assert_allclose(curvature, (8 * (s1 - s2) - (s3 - s4)) / (12 * h), rtol=0, atol=1e-10)

    def test_any_array_library(self, name: str, xp: "Xp", assert_close: "AssertClose") -> None:
        """The same numbers everywhere."""
        atol = TANH_OF_JAX if "jax" in xp.library.module else ROUNDING
        for mine, numpys in zip(
            activation(name)(xp.namespace, xp.asarray(POINTS)), activation(name)(np, POINTS), strict=True
        ):
            assert_close(mine, xp.asarray(numpys), rtol=1e-12, atol=atol)


def test_unknown_activation() -> None:
    """The message lists what there is."""
    with pytest.raises(InputError, match=r"`activation` must be one of tanh, gelu, .*, got 'swish'"):
        activation("swish")


def test_parts() -> None:
    """Matrix, bias and, in a residual layer that has one, time step."""
    shape = NetworkShape.hidden((2, 3, 6, 4), "tanh", time_step=True).with_output()
    assert shape.part_sizes == (6, 3, 18, 6, 6, 24, 4, 4, 1)
    assert shape.n_params == 72
    assert [layer.copies for layer in shape.layers] == [0, 2, 0, 0]
    assert NetworkShape.hidden((2, 2), "tanh").layers[0].copies == 1


def _reference(reference: ModuleType, net: NetworkShape) -> Any:
    """Return the same network in torch, a function of weights and input."""
    output = len(net.layers) > 1 and net.layers[-1].activation == "linear"
    hidden = net.layers[:-1] if output else net.layers
    widths = (hidden[0].n_in, *[layer.n_out for layer in hidden])
    time_step = any(layer.time_step for layer in hidden)

    def plain(w: Any, x: Any) -> Any:
        for layer in net.layers:
            k = layer.n_in * layer.n_out
            z = x @ w[:k].reshape(layer.n_out, layer.n_in).T + w[k : k + layer.n_out]
            x, w = reference.ACTIVATIONS[layer.activation](z), w[k + layer.n_out :]
        return x

    def residual(w: Any, x: Any) -> Any:
        return reference.network(w, widths, hidden[0].activation, x, time_step=time_step, output=output)

    return residual if any(layer.resnet for layer in hidden) else plain


def _random(net: NetworkShape, *, m: int = 3, rows: int = 4) -> tuple[Any, ...]:
    """Return weights, input, its change for each of m functionals, and their weights of value and tangent."""
    rng = np.random.default_rng(0)
    n_in, n_out = net.layers[0].n_in, net.layers[-1].n_out
    x, xdot = rng.normal(size=(rows, n_in)), rng.normal(size=(m, rows, n_in))
    return net.draw(rng), x, xdot, rng.normal(size=(m, rows, n_out)), rng.normal(size=(m, rows, n_out))


def test_passes_against_torch(net: NetworkShape, reference: ModuleType) -> None:
    """Forward, tangent and all three reverse passes; several functionals at once."""
    torch = reference.torch
    w, x, xdot, ybar, ydotbar = _random(net)
    inputs = torch.tensor(w, requires_grad=True), torch.tensor(x, requires_grad=True)
    f = functools.partial(_reference(reference, net), inputs[0])
    expected = f(inputs[1])
    # The change of y for each functional, with its graph.
    changes = [torch.autograd.functional.jvp(f, inputs[1], torch.tensor(d), create_graph=True)[1] for d in xdot]

    def gradients(ybar: Any, ydotbar: Any) -> tuple[Any, Any]:
        """Return those of the sum of ybar times y plus ydotbar times ydot, for each functional."""
        rows = []
        for value, tangent, change in zip(ybar, ydotbar, changes, strict=True):
            total = torch.sum(torch.tensor(value) * expected) + torch.sum(torch.tensor(tangent) * change)
            rows.append(torch.autograd.grad(total, inputs, retain_graph=True))
        return torch.stack([row[0] for row in rows]), torch.stack([row[1] for row in rows])

    y, tapes = net.forward(np, w, x)
    _agree(y, expected)
    _agree(net.tangent(np, tapes, xdot), torch.stack(changes))
    zero = np.zeros_like(ybar)
    weights, xbar = gradients(ybar, zero)
    _agree(net.reverse(np, tapes, ybar), weights)
    _agree(net.reverse_input(np, tapes, ybar[0]), xbar[0])
    for given in (ybar, None):
        for actual, theirs in zip(
            net.reverse_tangent(np, tapes, given, ydotbar),
            gradients(zero if given is None else given, ydotbar),
            strict=True,
        ):
            _agree(actual, theirs)


def _agree(actual: Any, expected: Any) -> None:
    expected = expected.detach().numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12 * np.max(np.abs(expected)))


def test_passes_against_finite_differences(net: NetworkShape) -> None:
    """The tangent along x, and the gradients of value and tangent along a direction of w and x."""
    w, x, xdot, ybar, ydotbar = _random(net, m=1)
    rng = np.random.default_rng(1)
    dw, dx, h = rng.normal(size=w.shape), rng.normal(size=x.shape), 1e-4

    def value(t: float) -> Any:
        return net.forward(np, w, x + t * xdot[0])[0]

    def functional(t: float) -> Any:
        y, tapes = net.forward(np, w + t * dw, x + t * dx)
        return np.sum(ybar * y) + np.sum(ydotbar * net.tangent(np, tapes, xdot))

    def slope(f: Any) -> Any:
        return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

    _, tapes = net.forward(np, w, x)
    np.testing.assert_allclose(net.tangent(np, tapes, xdot)[0], slope(value), rtol=1e-8, atol=1e-9)
    weights, xbar = net.reverse_tangent(np, tapes, ybar, ydotbar)
    np.testing.assert_allclose(weights[0] @ dw + np.sum(xbar * dx), slope(functional), rtol=1e-8)


def test_any_array_library(net: NetworkShape, xp: "Xp", assert_close: "AssertClose") -> None:
    """All passes give the numbers of NumPy."""
    arrays = _random(net)

    def passes(namespace: Any, w: Any, x: Any, xdot: Any, ybar: Any, ydotbar: Any) -> list[Any]:
        y, tapes = net.forward(namespace, w, x)
        ydot = net.tangent(namespace, tapes, xdot)
        first = [net.reverse(namespace, tapes, ybar), net.reverse_input(namespace, tapes, ybar[0, :, :])]
        return [y, ydot, *first, *net.reverse_tangent(namespace, tapes, ybar, ydotbar)]

    theirs = passes(xp.namespace, *[xp.asarray(a) for a in arrays])
    for mine, numpys in zip(theirs, passes(np, *arrays), strict=True):
        assert_close(mine, xp.asarray(numpys), rtol=1e-10, atol=1e-12)


def test_draw() -> None:
    """The spread of each kind of weight, to five standard errors, and the same weights for the same seed."""
    shape = NetworkShape.hidden((60, 60, 120), "tanh", time_step=True).with_output()
    w = shape.draw(np.random.default_rng(0))
    assert (w == shape.draw(np.random.default_rng(0))).all()
    assert w.shape == (shape.n_params,)
    parts = np.split(w, np.cumsum(shape.part_sizes)[:-1])
    means = [0, 0, 0.1, 0, 0, 0.1, 0, 0]
    deviations = [120**-0.5, 1, 0.001, 180**-0.5, 1, 0.001, 121**-0.5, 1]
    for part, mean, deviation in zip(parts, means, deviations, strict=True):
        assert abs(part.mean() - mean) < 5 * deviation / len(part) ** 0.5
        if len(part) > 1:
            assert abs(part.std() / deviation - 1) < 5 / (2 * len(part)) ** 0.5
