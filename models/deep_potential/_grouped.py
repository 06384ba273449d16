"""What both ways to evaluate a Deep Potential share: one group of atoms of the same element after the other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from array_api_compat import array_namespace

from ekfcore._typing import Array, Namespace
from ekfcore.linearize import Pullback
from ekfcore.protocols import Cotangent, Prediction

from ._atomic_energies import join_energies
from .architecture import Architecture
from .environment import Statistics

__all__ = ["Grouped"]


class Grouped(ABC):
    """Predictions and gradients from the slopes of each group."""

    architecture: Architecture
    statistics: Statistics

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts in order."""
        return self.architecture.layer_sizes

    def predict(self, w: Array, sample: Any) -> Prediction:
        """See `DeepPotential.predict`."""
        xp = array_namespace(w)
        return self._predict(xp, w, sample, self._evaluate_all(xp, w, sample))

    def atomic_energies(self, w: Array, sample: Any) -> Array:
        """See `DeepPotential.atomic_energies`."""
        xp = array_namespace(w)
        energies = [at.energies for at in self._evaluate_all(xp, w, sample)]
        return join_energies(xp, self.statistics, sample.groups, energies)

    def jacobian(self, w: Array, sample: Any, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """See `DeepPotential.jacobian`."""
        xp = array_namespace(w)
        return self._gradients(xp, w, sample, self._evaluate_all(xp, w, sample), cotangents)

    def linearize(self, w: Array, sample: Any) -> tuple[Prediction, Pullback]:
        """See `DeepPotential.linearize`."""
        xp = array_namespace(w)
        slopes = list(self._evaluate_all(xp, w, sample))

        def pull(cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
            return self._gradients(xp, w, sample, slopes, cotangents)

        return self._predict(xp, w, sample, slopes), pull

    def _evaluate_all(self, xp: Namespace, w: Array, sample: Any) -> Iterable[Any]:
        """Evaluate each group when it is asked for: what is not kept is in the cache while it is used."""
        return (self._evaluate(xp, w, group) for group in sample.groups)

    @abstractmethod
    def _evaluate(self, xp: Namespace, w: Array, group: Any) -> Any:
        """Evaluate the atomic energies of a group and all slopes that forces and gradients need."""

    @abstractmethod
    def _predict(self, xp: Namespace, w: Array, sample: Any, slopes: Iterable[Any]) -> Prediction:
        """Return energy, forces and virial."""

    @abstractmethod
    def _gradients(
        self, xp: Namespace, w: Array, sample: Any, slopes: Iterable[Any], cotangents: Sequence[Cotangent]
    ) -> tuple[Array, Array]:
        """Return the functionals, shape (m,), and their gradients, shape (m, n)."""
