"""A small network for regression: the shortest complete example of a model that the filter can train."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.errors import InputError
from ekfcore.protocols import Cotangent, Prediction

from ._activation import activation
from ._network import LayerShape, NetworkShape

__all__ = ["Perceptron"]


@dataclass(frozen=True, slots=True)
class Perceptron:
    """A multilayer perceptron y = net(x), a JacobianProvider whose samples are arrays x of shape (rows, n_in).

    Parameters
    ----------
    widths : tuple of int
        Number of inputs, widths of the hidden layers if any, number of outputs.
    activation : str
        Activation of the hidden layers; the last layer is linear.

    Raises
    ------
    InputError
        If a width is not positive or the activation is unknown.

    Examples
    --------
    Fit a sine, one point after the other.

    >>> import numpy as np
    >>> import ekfcore as ek
    >>> model = Perceptron((1, 8, 1))
    >>> points = np.linspace(-3.0, 3.0, 20)[:, None, None]
    >>> config = ek.EKFConfig()
    >>> state = ek.init(model.initial_weights(seed=0), ek.partition(model.layer_sizes), config)
    >>> for epoch in range(11):
    ...     errors = []
    ...     for x in points:
    ...         y, H = model.jacobian(state.weights, x, [{"y": np.ones((1, 1))}])
    ...         errors.append(np.sin(x[0]) - y)
    ...         state, info = ek.update(state, H, errors[-1], config=config)
    ...     if epoch % 5 == 0:
    ...         print(f"epoch {epoch}: error {np.sqrt(np.mean(np.square(errors))):.2f}")
    epoch 0: error 0.50
    epoch 5: error 0.10
    epoch 10: error 0.02
    """

    widths: tuple[int, ...]
    activation: str = "tanh"

    def __post_init__(self) -> None:
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise InputError(f"`widths` must hold at least two positive numbers, got {list(self.widths)}")
        activation(self.activation)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the matrices and biases in order."""
        return self._net.part_sizes

    def initial_weights(self, *, seed: int) -> NDArray[np.float64]:
        """Draw the weights, shape (n,): matrices of variance 1 / (n_in + n_out), biases of variance 1."""
        return self._net.draw(np.random.default_rng(seed))

    def predict(self, w: Array, sample: Array) -> Prediction:
        """Return ``y``, shape (rows, n_out), for the weights `w`, shape (n,), and `sample`, shape (rows, n_in)."""
        y, _ = self._net.forward(array_namespace(w), w, sample)
        return {"y": y}

    def jacobian(self, w: Array, sample: Array, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return the values, shape (m,), of m linear functionals of ``y`` and their gradients, shape (m, n)."""
        xp = array_namespace(w)
        for cotangent in cotangents:
            if unknown := set(cotangent) - {"y"}:
                raise InputError(f"`cotangents` may name y, got {sorted(unknown)}")
        y, tapes = self._net.forward(xp, w, sample)
        ybar = xp.stack([cotangent.get("y", xp.zeros_like(y)) for cotangent in cotangents])
        return xp.sum(ybar * y, axis=(-2, -1)), self._net.reverse(xp, tapes, ybar)

    @property
    def _net(self) -> NetworkShape:
        hidden = [LayerShape(n_in, n_out, self.activation) for n_in, n_out in pairwise(self.widths[:-1])]
        return NetworkShape((*hidden, LayerShape(self.widths[-2], self.widths[-1], "linear")))
