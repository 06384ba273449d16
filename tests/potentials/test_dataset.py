"""Frames that are prepared when they are asked for."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ekfcore._typing import Array

atoms = pytest.importorskip("ekfcore.atoms", reason="frames need ekfcore[atoms]")
dataset = pytest.importorskip("ekfcore.potentials.dataset", reason="training needs ekfcore[atoms]")

N = 4
_LABELS = 8 * (1 + 3 * N)  # bytes of an energy and the forces
_BYTES = _LABELS + 800 + 160  # and of the environment below


@dataclass
class Model:
    """Notes which frames it has prepared."""

    prepared: list[str] = field(default_factory=list)

    def environment(self, frame: Any, *, like: Array) -> dict[str, Any]:
        """Return 120 numbers, some of them integers of half the size."""
        self.prepared.append(frame.source)
        return {"groups": (np.zeros((10, 10)),), "index": [np.zeros(20, np.int32)], "n_atoms": N}


def _frames(count: int) -> list[Any]:
    arrays = {"positions": np.zeros((N, 3)), "forces": np.ones((N, 3)), "cell": np.eye(3), "pbc": np.ones(3, bool)}
    return [
        atoms.Frame(numbers=np.full(N, 29), energy=float(k), weight=k + 1.0, source=str(k), **arrays)
        for k in range(count)
    ]


@pytest.mark.parametrize(("memory", "kept"), [(float("inf"), 6), (0.0, 0), (2.5 * _BYTES, 2), (3 * _BYTES, 3)])
def test_keeps_what_fits(memory: float, kept: int) -> None:
    """Samples that stay are prepared once, the others each time; their memory is counted."""
    model = Model()
    data = dataset.Dataset(model, _frames(6), like=np.zeros(1), memory=memory)
    assert (len(data), data.nbytes, model.prepared) == (6, 0, [])
    data.check()
    assert data.nbytes == kept * _BYTES
    assert model.prepared == list("012345")
    assert [float(data[k].energy) for k in (5, 0, 3)] == [5.0, 0.0, 3.0]
    assert len(model.prepared) == 6 + sum(k >= kept for k in (5, 0, 3))


def test_is_a_sequence() -> None:
    """Indices from the end, slices, NumPy's integers, and the end of a loop."""
    data = dataset.Dataset(Model(), _frames(3), like=np.zeros(1))
    assert data[-1].energy == 2.0
    assert [sample.energy for sample in data[1:]] == [1.0, 2.0]
    assert [data[k].weight for k in np.arange(3)] == [1.0, 2.0, 3.0]
    assert len(list(data)) == 3
    with pytest.raises(IndexError):
        data[3]
