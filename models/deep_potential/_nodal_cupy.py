"""CuPy kernels of the nodal embedding: CUDA C, without atomic operations and, once a frame is known, without a wait."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import cupy
import numpy as np

from ekfcore._typing import Array
from ekfcore.compiling.cuda import Launcher

from .nodal_environment import NodalGroup
from .stencil import COEFFICIENTS, ORDER

__all__ = ["CupyKernels", "kernels"]

# As in nodal.cu
_WIDTH = 64
# As in descriptor.cu
_DESCRIPTOR_WIDTH = 128

_MOST_BLOCKS = 1024
"""Blocks that share the pairs: enough to fill a GPU, and few enough to add up their parts of the virial at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Tables:
    """What the kernels need to know of a group besides; integers are int32."""

    coefficients: Array  # of the polynomials, (ORDER, ORDER)
    starts: Array  # first pair of each centre, (n + 1,)
    ends: Array  # 2 P ends of pairs, sorted by the atom that is there: p is the centre of pair p, P + p the neighbour
    firsts: Array  # where those of each atom begin, (N + 1,)


class CupyKernels:
    """See `NodalKernels`; on an NVIDIA GPU."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[NodalGroup, _Tables] = WeakKeyDictionary()

    def forces(self, group: NodalGroup, C: Array, spacing: float, n_atoms: int) -> tuple[Array, Array]:
        """Return the group's part of the forces and of the virial."""
        real, n_pairs = group.B.dtype, len(group.index)
        n_blocks = min(-(-n_pairs // _WIDTH), _MOST_BLOCKS)
        with cupy.cuda.Device(C.device):
            tables, C = self._tables(group, n_atoms), cupy.ascontiguousarray(C, dtype=real)
            pulls, forces = cupy.empty((n_pairs, 3), dtype=real), cupy.empty((n_atoms, 3), dtype=real)
            stresses, virial = cupy.empty((n_blocks, 3, 3), dtype=real), cupy.empty((3, 3), dtype=real)
            launch = _launcher("nodal.cu", real)
            launch(
                "pull_pairs",
                (n_blocks,),
                (_WIDTH,),
                (*_geometry(group, tables, spacing), C, n_pairs, C.shape[2], pulls, stresses),
            )
            launch("sum_stresses", (1,), (_WIDTH,), (stresses, n_blocks, virial))
            launch("collect_forces", (n_atoms,), (_WIDTH,), (pulls, tables.ends, tables.firsts, n_pairs, forces))
        return forces, virial

    def tangent(self, group: NodalGroup, moves: Array, strains: Array, spacing: float) -> Array:
        """Return the change of B."""
        real, (m, n_atoms, _), (n, _, width) = group.B.dtype, moves.shape, group.B.shape
        with cupy.cuda.Device(moves.device):
            tables = self._tables(group, n_atoms)
            moves, strains = (cupy.ascontiguousarray(a, dtype=real) for a in (moves, strains))
            changes = cupy.empty((m, n, 4, width), dtype=real)
            _launcher("nodal.cu", real)(
                "change_matrices",
                (n, m),
                (ORDER, 4),
                (*_geometry(group, tables, spacing), tables.starts, moves, strains, n_atoms, width, changes),
            )
        return changes

    def descriptor(self, A: Array, axis: int) -> Array:
        """Return the descriptors."""
        return _describe("describe", (A,), axis, (len(A), A.shape[-1], axis))

    def descriptor_tangent(self, A: Array, Adot: Array, axis: int) -> Array:
        """Return their changes."""
        return _describe("describe_tangent", (A, Adot), axis, (*Adot.shape[:2], A.shape[-1], axis))

    def descriptor_reverse(self, Dbar: Array, A: Array) -> Array:
        """Return the gradient with respect to A."""
        return _describe("describe_reverse", (Dbar, A), Dbar.shape[-1], A.shape)

    def descriptor_reverse_tangent(self, Dbar: Array, A: Array, Dbars: Array, Adot: Array) -> Array:
        """Return the gradients with respect to A of both."""
        return _describe("describe_reverse_tangent", (Dbar, A, Dbars, Adot), Dbar.shape[-1], Adot.shape)

    def _tables(self, group: NodalGroup, n_atoms: int) -> _Tables:
        """Return the tables of a group, which are made when they are first asked for."""
        if group not in self._known:
            self._known[group] = _make_tables(group, n_atoms)
        return self._known[group]


kernels = CupyKernels()


def _make_tables(group: NodalGroup, n_atoms: int) -> _Tables:
    atoms = cupy.concatenate([group.index[:, 1], group.index[:, 2]])
    ends = cupy.argsort(atoms) if len(atoms) else atoms  # stable in CuPy, which does not say that it can sort nothing
    return _Tables(
        coefficients=cupy.asarray(COEFFICIENTS, dtype=group.B.dtype),
        starts=_firsts(group.index[:, 0], len(group.B)),
        ends=ends.astype(np.int32),
        firsts=_firsts(atoms, n_atoms, order=ends),
    )


def _firsts(numbers: Array, count: int, order: Array | None = None) -> Array:
    """Return where each of the numbers 0 to `count` begins when they are sorted, shape (count + 1,)."""
    whole = cupy.arange(count + 1, dtype=np.int32)
    return cupy.searchsorted(numbers, whole, sorter=order).astype(np.int32)


def _geometry(group: NodalGroup, tables: _Tables, spacing: float) -> tuple[Any, ...]:
    """Return the arguments with which both kernels on pairs begin."""
    return group.index, group.geometry, group.mean, group.scale, tables.coefficients, 1 / spacing


def _describe(name: str, arrays: tuple[Array, ...], axis: int, shape: tuple[int, ...]) -> Array:
    """Launch a kernel of descriptor.cu for an array of this shape, (..., atoms, rows, columns)."""
    real, channels = arrays[0].dtype, arrays[-1].shape[-1]
    with cupy.cuda.Device(arrays[0].device):
        arrays = tuple(cupy.ascontiguousarray(a, dtype=real) for a in arrays)
        out = cupy.empty(shape, dtype=real)
        grid = shape[-3::-1]  # atoms first, then functionals
        _launcher("descriptor.cu", real)(name, grid, (_DESCRIPTOR_WIDTH,), (*arrays, channels, axis, out))
    return out


def _launcher(file: str, dtype: Any) -> Launcher:
    return Launcher(cupy, __package__, file, dtype)
