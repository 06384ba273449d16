"""The two plug-in points: kernels on one block of P, and models that give gradients."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ekfcore._typing import Array

__all__ = ["Backend", "Cotangent", "JacobianProvider", "Prediction"]

_Sample = TypeVar("_Sample", contravariant=True)

Prediction = Mapping[str, Array]
"""Named arrays that a model predicts, e.g. ``energy`` [eV], ``forces`` [eV/Å]."""

Cotangent = Mapping[str, Array]
"""A linear functional of a prediction: an array of the same shape for each name it uses; absent names count as zero."""


class Backend(Protocol):
    """Kernels on one symmetric block Q of the covariance.

    The store of a block is opaque to everyone else: a square matrix, one triangle, tiles.
    Rows are vectors throughout: ``H`` is (m, n), one measurement a row, and so is ``H Q``.
    """

    @property
    def name(self) -> str:
        """Name under which the backend is chosen."""

    def identity(self, n: int, value: float, *, like: Array) -> Any:
        """Return the store of ``value`` times the identity, shape (n, n), dtype and device of `like`."""

    def multiply(self, store: Any, H: Array) -> Array:
        """Return ``H Q``, shape (m, n)."""

    def fold(self, store: Any, V: Array, scale: Array, shift: Array, *, donate: bool) -> Any:
        """Return the store of ``scale (Q + shift I - V^T V)``; overwrite `store` only if `donate`."""

    def trace(self, store: Any) -> Array:
        """Return the trace of Q, a 0-d array."""

    def lower(self, store: Any) -> Array:
        """Return an (n, n) array whose lower triangle is that of Q; what stands above it has no meaning."""

    def from_lower(self, matrix: Array) -> Any:
        """Return the store of the symmetric matrix whose lower triangle is that of `matrix`, shape (n, n)."""


class JacobianProvider(Protocol[_Sample]):
    """A model that the filter can train; nothing else is needed to plug one in."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts, in the order in which they stand in the weights."""

    def predict(self, w: Array, sample: _Sample) -> Prediction:
        """Return the prediction for one sample with the weights `w`, shape (n,)."""

    def jacobian(self, w: Array, sample: _Sample, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return m linear functionals of the prediction, shape (m,), and their gradients, shape (m, n)."""
