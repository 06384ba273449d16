"""Put the gradients of the networks together in the order of the weights."""

from collections.abc import Sequence

from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError
from ekfcore.protocols import Cotangent

from .architecture import Architecture

__all__ = ["Gradient", "check_names", "combine", "is_moving"]


class Gradient:
    """Collects gradients of the networks, with `leading` dimensions in front.

    Parameters
    ----------
    xp : namespace
        Array library.
    architecture : Architecture
        Form of the networks.
    w : array
        Weights; gives dtype and device.
    leading : tuple of int
        Shape of a batch of gradients.
    """

    def __init__(self, xp: Namespace, architecture: Architecture, w: Array, leading: tuple[int, ...]) -> None:
        self.xp, self.architecture = xp, architecture
        self.embedding: dict[int, Array] = {}
        self.fitting: dict[int, Array] = {}
        self.nets = architecture.embedding_net, architecture.fitting_net
        self.zeros = [xp.zeros((*leading, net.n_params), dtype=w.dtype, device=w.device) for net in self.nets]

    def add_embedding(self, centre: int, neighbour: int, row: Array) -> None:
        """Add to the gradient of one embedding net."""
        index = self.architecture.embedding_index(centre, neighbour)
        self.embedding[index] = self.embedding[index] + row if index in self.embedding else row

    def add_fitting(self, centre: int, row: Array) -> None:
        """Add to the gradient of one fitting net."""
        self.fitting[centre] = self.fitting[centre] + row if centre in self.fitting else row

    def join(self) -> Array:
        """Return the whole gradient, shape (..., n); networks that no atom used have zeros."""
        rows = [self.embedding.get(k, self.zeros[0]) for k in range(self.architecture.n_embeddings)]
        rows += [self.fitting.get(k, self.zeros[1]) for k in range(len(self.architecture.elements))]
        return self.xp.concat(rows, axis=-1)


def check_names(cotangents: Sequence[Cotangent]) -> None:
    """Refuse functionals of what a Deep Potential does not predict.

    Raises
    ------
    InputError
        If a functional names something else than energy, forces and virial.
    """
    for cotangent in cotangents:
        if unknown := set(cotangent) - {"energy", "forces", "virial"}:
            raise InputError(f"`cotangents` may name energy, forces and virial, got {sorted(unknown)}")


def is_moving(cotangent: Cotangent) -> bool:
    """Whether a functional has a part that needs a displacement of the atoms."""
    return "forces" in cotangent or "virial" in cotangent


def combine(
    xp: Namespace, cotangents: Sequence[Cotangent], energy: Array, energy_row: Array, change: Array, change_rows: Array
) -> tuple[Array, Array]:
    """Return the functionals, shape (m,), and their gradients, (m, n), from their parts.

    Parameters
    ----------
    xp : namespace
        Array library.
    cotangents : sequence of m mappings
        The functionals.
    energy, energy_row : array, 0-d and shape (n,)
        Energy and its gradient.
    change, change_rows : array, shapes (k,) and (k, n)
        Forces and virial contracted with the k functionals that use them, and the gradients.
    """
    if all(is_moving(c) and "energy" not in c for c in cotangents):
        return change, change_rows
    values, rows, taken = [], [], 0
    for cotangent in cotangents:
        value, row = xp.zeros_like(energy), None
        if is_moving(cotangent):
            value, row, taken = change[taken], change_rows[taken, :], taken + 1
        if "energy" in cotangent:
            weight = xp.asarray(cotangent["energy"], dtype=energy.dtype, device=energy.device)
            part = weight * energy_row
            value, row = value + weight * energy, part if row is None else row + part
        values.append(value)
        rows.append(xp.zeros_like(energy_row) if row is None else row)
    return xp.stack(values), xp.stack(rows)
