"""Models that a user might write: modules of PyTorch that know nothing of ekfcore, and one without PyTorch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ekfcore.atoms import Frame, neighbour_pairs


class Pairs(nn.Module):
    """A sum over pairs: a small network of the distance, which fades out at the cutoff."""

    def __init__(self, elements: tuple[str, ...], width: int = 6, cutoff: float = 4.0) -> None:
        super().__init__()
        self.cutoff, self.n = cutoff, len(elements)
        self.strength = nn.Embedding(self.n**2, 1)
        self.net = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1))
        self.register_buffer("scale", torch.rand(1))

    def forward(self, distances: Tensor, types: Tensor, i: Tensor, j: Tensor) -> Tensor:
        fade = (1 + torch.cos(torch.pi * distances / self.cutoff)) / 2
        pair = self.strength(types[i] * self.n + types[j])[:, 0]
        each = self.net(distances[:, None] / 2)[:, 0] * pair * fade * self.scale
        sums: Tensor = torch.zeros_like(types, dtype=each.dtype).index_add(0, i, each)
        return sums


class Cluster(nn.Module):
    """Springs between all atoms of a molecule, from positions alone."""

    def __init__(self, elements: tuple[str, ...]) -> None:
        super().__init__()
        self.stiffness, self.length = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(2.5))

    def forward(self, positions: Tensor) -> Tensor:
        i, j = torch.triu_indices(len(positions), len(positions), offset=1)
        distances = torch.linalg.vector_norm(positions[j] - positions[i], dim=-1)
        energy: Tensor = self.stiffness * (distances - self.length).square().sum()
        return energy


class Springs:
    """The same between neighbours in NumPy: a `JacobianProvider` that prepares frames itself."""

    layer_sizes = (2,)
    cutoff = 3.2

    def initial_weights(self, *, seed: int) -> Any:
        """Return stiffness and length."""
        return np.random.default_rng(seed).uniform(1.0, 2.0, 2)

    def environment(self, frame: Frame, *, like: Any) -> Any:
        """Return the pairs."""
        i, j, vectors = neighbour_pairs(frame, self.cutoff)
        return frame.n_atoms, i, j, vectors, np.linalg.norm(vectors, axis=1)

    def predict(self, w: Any, sample: Any) -> Mapping[str, Any]:
        """Return energy, forces and virial."""
        return {name: slopes @ self._features(w) for name, slopes in self._slopes(sample).items()}

    def jacobian(self, w: Any, sample: Any, cotangents: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
        """Return functionals and their gradients."""
        k, length = w
        inner = np.asarray([[length**2, -2 * length, 1.0], [2 * k * length, -2 * k, 0.0]])  # d features / d weights
        rows = [
            sum(np.tensordot(c[n], s, np.ndim(c[n])) for n, s in self._slopes(sample).items() if n in c)
            for c in cotangents
        ]
        H = np.stack(rows)
        return H @ self._features(w), H @ inner.T

    @staticmethod
    def _features(w: Any) -> Any:
        return w[0] * np.asarray([w[1] ** 2, -2 * w[1], 1.0])

    @staticmethod
    def _slopes(sample: Any) -> dict[str, Any]:
        """Return predictions for each feature of k (l^2 - 2 l r + r^2), summed over pairs; each is there twice."""
        n, i, _, vectors, r = sample
        pull = np.stack([np.zeros_like(r), np.ones_like(r), 2 * r], axis=1)  # d / dr
        along = (vectors / r[:, None])[:, :, None] * pull[:, None, :]
        forces = np.zeros((n, 3, 3))
        np.add.at(forces, i, along)
        return {
            "energy": np.asarray([len(r), r.sum(), (r**2).sum()]) / 2,
            "forces": forces,
            "virial": -np.einsum("pa,pbk->abk", vectors, along) / 2,
        }


def springs(elements: tuple[str, ...]) -> Springs:
    """Return a model without PyTorch."""
    return Springs()


def numbered(elements: tuple[str, ...], *, depth: int) -> nn.Module:
    """Need a key."""
    return Pairs(elements, width=depth)


def nothing(elements: tuple[str, ...]) -> str:
    """Return no model."""
    return "nothing"


def broken(elements: tuple[str, ...]) -> nn.Module:
    """Fail."""
    raise RuntimeError("no luck")


def foreign(path: str) -> None:
    """Stand for a function that was not written for this."""


class Strange(nn.Module):
    """Asks for what nobody knows."""

    def __init__(self, elements: tuple[str, ...]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1))

    def forward(self, positions: Tensor, charges: Tensor) -> Tensor:
        return (positions * charges).sum() * self.w


class Blind(Pairs):
    """Asks for pairs without a cutoff."""

    def __init__(self, elements: tuple[str, ...]) -> None:
        super().__init__(elements, cutoff=0.0)
