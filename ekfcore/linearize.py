"""A prediction together with its gradients, from one evaluation where the model can do that."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from ekfcore._typing import Array
from ekfcore.protocols import Cotangent, JacobianProvider, Prediction

__all__ = ["Pullback", "linearize"]

Pullback = Callable[[Sequence[Cotangent]], tuple[Array, Array]]
"""Maps m functionals to their values, shape (m,), and gradients, (m, n), as `JacobianProvider.jacobian` does."""


def linearize(model: JacobianProvider[Any], w: Array, sample: Any) -> tuple[Prediction, Pullback]:
    """Return what a model predicts and the pullback of functionals at the same weights.

    What to measure often depends on the prediction (the sign of an error), and most of a gradient has been computed
    by then. A model that has a method ``linearize(w, sample)`` keeps it; any other is evaluated twice.

    Parameters
    ----------
    model : JacobianProvider
        The model.
    w : array, shape (n,)
        Weights; they must not be changed before the pullback has been used.
    sample : object
        What the model takes.
    """
    if hasattr(model, "linearize"):
        prediction, pull = model.linearize(w, sample)
        return prediction, pull
    return model.predict(w, sample), partial(model.jacobian, w, sample)
