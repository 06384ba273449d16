"""A prediction together with its gradients, from one evaluation."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ekfcore._typing import Array
from ekfcore.protocols import Cotangent, JacobianProvider, Prediction

__all__ = ["Linearizable", "Pullback"]

_Sample = TypeVar("_Sample", contravariant=True)

Pullback = Callable[[Sequence[Cotangent]], tuple[Array, Array]]
"""Maps m functionals to their values, shape (m,), and gradients, (m, n), as `JacobianProvider.jacobian` does."""


class Linearizable(JacobianProvider[_Sample], Protocol[_Sample]):
    """A model that is evaluated once for a prediction and its gradients; one that inherits this needs no `jacobian`.

    What to measure often depends on the prediction (the sign of an error), and most of a gradient has been computed
    by then.
    """

    @abstractmethod
    def linearize(self, w: Array, sample: _Sample) -> tuple[Prediction, Pullback]:
        """Return the prediction, and the pullback of functionals at the same weights.

        Parameters
        ----------
        w : array, shape (n,)
            Weights; they must not be changed before the pullback has been used.
        sample : object
            What the model takes.
        """

    def jacobian(self, w: Array, sample: _Sample, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return m linear functionals of the prediction, shape (m,), and their gradients, shape (m, n)."""
        return self.linearize(w, sample)[1](cotangents)
