"""A model that is linear in its weights, so that every measurement can be written down by hand."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.linearize import Linearizable, Pullback
from ekfcore.protocols import Cotangent, Prediction

sample_module = pytest.importorskip("ekfcore.potentials.sample", reason="training needs ekfcore[atoms]")

N_ATOMS, N_PARAMS = 5, 12


@dataclass(frozen=True)
class Linear(Linearizable[int]):
    """Energy, forces and virial are matrices times the weights; a sample's environment is its index."""

    maps: dict[str, NDArray[np.float64]]  # (samples, *shape, n)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Two parts."""
        return (7, 5)

    def predict(self, w: Array, sample: int) -> dict[str, Array]:
        """Return the products."""
        return {name: maps[sample] @ w for name, maps in self.maps.items()}

    def linearize(self, w: Array, sample: int) -> tuple[Prediction, Pullback]:
        """Return the products, and what contracts the matrices."""

        def pull(cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
            H = np.stack([sum(np.tensordot(c[k], self.maps[k][sample], np.ndim(c[k])) for k in c) for c in cotangents])
            return H @ w, H

        return self.predict(w, sample), pull


@pytest.fixture
def linear() -> Linear:
    """Two samples."""
    rng = np.random.default_rng(3)
    shapes: dict[str, tuple[int, ...]] = {"energy": (), "forces": (N_ATOMS, 3), "virial": (3, 3)}
    return Linear({name: rng.normal(size=(2, *shape, N_PARAMS)) for name, shape in shapes.items()})


@pytest.fixture
def samples() -> Callable[[bool], list[Any]]:
    """Return two labelled samples, with or without virials."""

    def make(virial: bool) -> list[Any]:
        rng = np.random.default_rng(4)
        return [
            sample_module.Sample(
                environment=index,
                energy=np.asarray(rng.normal()),
                forces=rng.normal(size=(N_ATOMS, 3)),
                virial=rng.normal(size=(3, 3)) if virial else None,
                n_atoms=N_ATOMS,
            )
            for index in range(2)
        ]

    return make
