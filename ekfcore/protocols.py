"""The two plug-in points: kernels on the covariance, and models that give gradients."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout

__all__ = ["Backend", "Cotangent", "JacobianProvider", "Prediction"]

_Sample = TypeVar("_Sample", contravariant=True)

Prediction = Mapping[str, Array]
"""Named arrays that a model predicts, e.g. ``energy`` [eV], ``forces`` [eV/Å]."""

Cotangent = Mapping[str, Array]
"""A linear functional of a prediction: an array of the same shape for each name it uses; absent names count as zero."""


class Backend(Protocol):
    """Kernels on the whole of a block-diagonal symmetric matrix Q = diag(Q_1, ..., Q_L).

    The store of Q is opaque to everyone else: square matrices, one triangle of each, tiles. It knows its layout, so
    that a kernel can handle all blocks at once. Rows are vectors throughout: ``H`` is (m, n), one measurement a row,
    and so is ``H Q``. Arrays of shape (L,) hold one number for each block.
    """

    @property
    def name(self) -> str:
        """Name under which the backend is chosen."""

    def store_size(self, layout: BlockLayout, *, like: Array) -> int:
        """Return how many numbers a store holds, for arrays of the library and device of `like`."""

    def identity(self, layout: BlockLayout, value: float, *, like: Array) -> Any:
        """Return the store of ``value`` times the identity, with the dtype and device of `like`."""

    def multiply(self, store: Any, H: Array, V: Array, scale: Array, shift: Array) -> Array:
        """Return ``H P``, shape (m, n), for ``P_l = scale_l (Q_l + shift_l I - V_l^T V_l)`` and `V` of shape (k, n)."""

    def correlate(self, H: Array, V: Array) -> Array:
        """Return ``(H V^T) V``, shape (m, n), for `V` of shape (k, n): what rows that join all blocks take off H P."""

    def fold(self, store: Any, V: Array, scale: Array, shift: Array, *, donate: bool) -> Any:
        """Return the store of that P; overwrite `store` only if `donate`."""

    def traces(self, store: Any) -> Array:
        """Return the trace of each block of Q, shape (L,)."""

    def block_sums(self, store: Any, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""

    def spread(self, store: Any, values: Array) -> Array:
        """Return a vector, shape (n,), that has in each block the number that `values`, shape (L,), has for it."""

    def lower(self, store: Any, index: int) -> Array:
        """Return an (n_l, n_l) array whose lower triangle is that of Q_l; what stands above it has no meaning."""

    def from_lower(self, layout: BlockLayout, matrices: Iterable[Array]) -> Any:
        """Return the store of the blocks whose lower triangles are those of `matrices`, each of shape (n_l, n_l)."""


class JacobianProvider(Protocol[_Sample]):
    """A model that the filter can train; nothing else is needed to plug one in."""

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts, in the order in which they stand in the weights."""

    def predict(self, w: Array, sample: _Sample) -> Prediction:
        """Return the prediction for one sample with the weights `w`, shape (n,)."""

    def jacobian(self, w: Array, sample: _Sample, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return m linear functionals of the prediction, shape (m,), and their gradients, shape (m, n)."""
