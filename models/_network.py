"""Multilayer networks with residual connections: value, tangent, and the gradients of both.

The weights of a network stand in one vector, layer by layer: matrix (n_out, n_in) in row order, bias, and the time step
of the residual where there is one. Rows of one output neuron stay together, so a block of P that cuts through a large
matrix keeps neurons whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace

from ._activation import activation

__all__ = ["LayerShape", "NetworkShape", "Tape"]


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Form of one layer, y = act(x W^T + b) [* dt] [+ x].

    The residual is there when `resnet` and the width stays or doubles; a doubled width adds (x, x).
    """

    n_in: int
    n_out: int
    activation: str
    resnet: bool = False
    time_step: bool = False

    @property
    def copies(self) -> int:
        """How many copies of the input the residual adds; zero means no residual."""
        return self.n_out // self.n_in if self.resnet and self.n_out in (self.n_in, 2 * self.n_in) else 0

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Sizes of matrix, bias and time step."""
        parts = (self.n_in * self.n_out, self.n_out)
        return (*parts, self.n_out) if self.time_step and self.copies else parts


@dataclass(slots=True, eq=False)
class Tape:
    """What the reverse pass needs of one layer's forward pass."""

    W: Array
    time_step: Array | None
    x: Array
    a: Array
    slope: Array
    curvature: Array
    xdot: Array | None = None
    zdot: Array | None = None
    ybar: Array | None = None
    zbar: Array | None = None


@dataclass(frozen=True)
class NetworkShape:
    """A chain of layers; evaluates and differentiates networks of this form."""

    layers: tuple[LayerShape, ...]

    @classmethod
    def hidden(cls, widths: Sequence[int], activation: str, *, time_step: bool = False) -> "NetworkShape":
        """Return residual hidden layers of these widths, the first of which is the input's."""
        return cls(tuple(LayerShape(i, o, activation, True, time_step) for i, o in pairwise(widths)))

    def with_output(self) -> "NetworkShape":
        """Return the same network with a linear layer of width one behind it."""
        return NetworkShape((*self.layers, LayerShape(self.layers[-1].n_out, 1, "linear")))

    @property
    def part_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts in order."""
        return tuple(size for layer in self.layers for size in layer.part_sizes)

    @cached_property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(self.part_sizes)

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Draw initial weights as DeePMD-kit does, shape (n_params,).

        Matrices are normal with variance 1 / (n_in + n_out), biases normal with variance 1, time steps normal around
        0.1 with standard deviation 0.001.
        """
        parts = []
        for layer in self.layers:
            parts.append(rng.normal(0.0, (layer.n_in + layer.n_out) ** -0.5, layer.n_in * layer.n_out))
            parts.append(rng.normal(0.0, 1.0, layer.n_out))
            if len(layer.part_sizes) == 3:
                parts.append(rng.normal(0.1, 0.001, layer.n_out))
        return np.concatenate(parts)

    def forward(self, xp: Namespace, w: Array, x: Array) -> tuple[Array, list[Tape]]:
        """Return y, shape (rows, n_out), for the input `x`, shape (rows, n_in), and the tape."""
        tapes, start = [], 0
        for layer in self.layers:
            # (n_out, n_in), transposed against DeePMD-kit's: the weights of one neuron stand together in w.
            W = xp.reshape(w[start : start + layer.n_in * layer.n_out], (layer.n_out, layer.n_in))
            start += layer.n_in * layer.n_out
            b = w[start : start + layer.n_out]
            start += layer.n_out
            time_step = None
            if len(layer.part_sizes) == 3:
                time_step = w[start : start + layer.n_out]
                start += layer.n_out
            a, slope, curvature = activation(layer.activation)(xp, x @ W.T + b)
            tapes.append(Tape(W, time_step, x, a, slope, curvature))
            y = a if time_step is None else a * time_step
            x = _add_residual(xp, layer, y, x)
        return x, tapes

    def tangent(self, xp: Namespace, tapes: list[Tape], xdot: Array, *, zdot: Array | None = None) -> Array:
        """Return the change of y, shape (..., rows, n_out), for the change `xdot` of x, and note it on the tape.

        A caller that knows ``zdot = xdot W^T`` of the first layer may pass it and spare the product.
        """
        for layer, tape in zip(self.layers, tapes, strict=True):
            tape.xdot, tape.zdot = xdot, xdot @ tape.W.T if zdot is None else zdot
            zdot = None
            ydot = tape.slope * tape.zdot  # (act(z))' = act'(z) zdot; the bias has no tangent
            if tape.time_step is not None:
                ydot = ydot * tape.time_step
            xdot = _add_residual(xp, layer, ydot, xdot)
        return xdot

    def reverse_input(self, xp: Namespace, tapes: list[Tape], ybar: Array) -> Array:
        """Return the gradient with respect to x, shape (rows, n_in), of the sum of `ybar` times y, and note it."""
        for layer, tape in zip(reversed(self.layers), reversed(tapes), strict=True):
            tape.ybar = ybar
            tape.zbar = tape.slope * (ybar if tape.time_step is None else ybar * tape.time_step)
            # From z = x W^T + b: xbar = zbar W, and the residual adds ybar itself.
            ybar = _reverse_residual(layer, tape.zbar @ tape.W, ybar)
        return ybar

    def reverse_noted(self, xp: Namespace, tapes: list[Tape]) -> Array:
        """Return the weight gradient, shape (n_params,), of what `reverse_input` has differentiated."""
        parts: list[Array] = []
        for tape in tapes:
            assert tape.zbar is not None  # reverse_input came first
            time_step = None if tape.time_step is None else xp.sum(tape.ybar * tape.a, axis=-2)
            # Wbar = zbar^T x and bbar = the sum of zbar, over the rows.
            parts += _layer_parts(xp, tape.zbar.mT @ tape.x, xp.sum(tape.zbar, axis=-2), time_step)
        return xp.concat(parts, axis=-1)

    def reverse(self, xp: Namespace, tapes: list[Tape], ybar: Array) -> Array:
        """Return the weight gradient, shape (..., n_params), of the sum of `ybar`, (..., rows, n_out), times y."""
        parts: list[Array] = []
        for index in reversed(range(len(self.layers))):
            layer, tape = self.layers[index], tapes[index]
            abar = ybar if tape.time_step is None else ybar * tape.time_step
            zbar = tape.slope * abar
            time_step = None if tape.time_step is None else xp.sum(ybar * tape.a, axis=-2)
            parts = [*_layer_parts(xp, zbar.mT @ tape.x, xp.sum(zbar, axis=-2), time_step), *parts]
            if index:  # nobody asks for the gradient with respect to the input
                ybar = _reverse_residual(layer, zbar @ tape.W, ybar)
        return xp.concat(parts, axis=-1)

    def reverse_tangent_noted(
        self, xp: Namespace, tapes: list[Tape], *, through_first: bool = True
    ) -> tuple[Array, Array]:
        """Return gradients of the change of what `reverse_input` has differentiated, after a tangent pass.

        Parameters
        ----------
        xp : namespace
            Array library.
        tapes : list of Tape
            Tapes of a forward pass, `reverse_input` and a tangent pass.
        through_first : bool
            Go on to the input; if not, the second result is ``zbar`` of the first layer, and ``xbar = zbar W`` is left
            to the caller, unless that layer has a residual.

        Returns
        -------
        weights : array, shape (..., n_params)
            Gradient with respect to the weights.
        xbar : array, shape (..., rows, n_in)
            Gradient with respect to the input x, the tangent xdot held fixed.
        """
        # As `reverse_tangent` with ybar = 0 at the output and ydotbar what ybar was for `reverse_input`: tangents go
        # back by the same recursion as values, so that zdotbar is the zbar on the tape and is not computed again.
        parts: list[Array] = []
        xbar: Array | None = None  # None is zero: the value of the output has no weight
        for layer, tape in zip(reversed(self.layers), reversed(tapes), strict=True):
            assert tape.zbar is not None  # reverse_input came first
            dt = tape.time_step
            adotbar = tape.ybar if dt is None else tape.ybar * dt
            zbar = tape.curvature * adotbar * tape.zdot
            if xbar is not None:
                zbar = zbar + tape.slope * (xbar if dt is None else xbar * dt)
            time_step = None
            if dt is not None:
                time_step = xp.sum(tape.ybar * tape.slope * tape.zdot, axis=-2)
                if xbar is not None:
                    time_step = time_step + xp.sum(xbar * tape.a, axis=-2)
            matrix = zbar.mT @ tape.x + tape.zbar.mT @ tape.xdot
            parts = [*_layer_parts(xp, matrix, xp.sum(zbar, axis=-2), time_step), *parts]
            if tape is tapes[0] and not through_first:
                return xp.concat(parts, axis=-1), zbar
            below = zbar @ tape.W
            xbar = below if xbar is None else _reverse_residual(layer, below, xbar)
        assert xbar is not None
        return xp.concat(parts, axis=-1), xbar

    def reverse_tangent(
        self, xp: Namespace, tapes: list[Tape], ybar: Array | None, ydotbar: Array
    ) -> tuple[Array, Array | None]:
        """Return gradients of the sum of ybar times y plus ydotbar times ydot.

        Parameters
        ----------
        xp : namespace
            Array library.
        tapes : list of Tape
            Tapes of a forward pass followed by a tangent pass.
        ybar : array, shape (..., rows, n_out), or None
            Weight of the value; None is zero.
        ydotbar : array, shape (..., rows, n_out)
            Weight of the tangent.

        Returns
        -------
        weights : array, shape (..., n_params)
            Gradient with respect to the weights.
        xbar : array, shape (..., rows, n_in)
            Gradient with respect to the input x, the tangent xdot held fixed.
        """
        parts: list[Array] = []
        for layer, tape in zip(reversed(self.layers), reversed(tapes), strict=True):
            dt = tape.time_step
            adotbar = ydotbar if dt is None else ydotbar * dt
            # From ydot = act'(z) zdot: zdotbar = act' adotbar, and z itself gets act'' zdot adotbar.
            zdotbar = tape.slope * adotbar
            zbar = tape.curvature * tape.zdot * adotbar
            if ybar is not None:
                zbar = zbar + tape.slope * (ybar if dt is None else ybar * dt)
            time_step = None
            if dt is not None:
                time_step = xp.sum(ydotbar * tape.slope * tape.zdot, axis=-2)
                if ybar is not None:
                    time_step = time_step + xp.sum(ybar * tape.a, axis=-2)
            matrix = zbar.mT @ tape.x + zdotbar.mT @ tape.xdot  # W stands in z = x W^T + b and in zdot = xdot W^T
            parts = [*_layer_parts(xp, matrix, xp.sum(zbar, axis=-2), time_step), *parts]
            xbar = zbar @ tape.W
            ybar = xbar if ybar is None else _reverse_residual(layer, xbar, ybar)
            ydotbar = _reverse_residual(layer, zdotbar @ tape.W, ydotbar)
        return xp.concat(parts, axis=-1), ybar


def _add_residual(xp: Namespace, layer: LayerShape, y: Array, x: Array) -> Array:
    if layer.copies == 2:
        return y + xp.concat([x, x], axis=-1)
    return y + x if layer.copies else y


def _reverse_residual(layer: LayerShape, xbar: Array, ybar: Array) -> Array:
    if layer.copies == 2:  # x was added twice, so both halves of ybar come back to it
        return xbar + ybar[..., : layer.n_in] + ybar[..., layer.n_in :]
    return xbar + ybar if layer.copies else xbar


def _layer_parts(xp: Namespace, matrix: Array, bias: Array, time_step: Array | None) -> list[Array]:
    flat = xp.reshape(matrix, (*matrix.shape[:-2], matrix.shape[-2] * matrix.shape[-1]))
    return [flat, bias] if time_step is None else [flat, bias, time_step]
