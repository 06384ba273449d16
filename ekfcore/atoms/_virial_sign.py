"""Tests of sign and unit of virials by energies or forces of the same frames.

There are two tests. For cells that differ only by a strain, virials are compared with differences of energies,
dE = -W : dε. Otherwise a pair potential is fitted to the forces, and its virial is compared with the labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ._extra import load_extra
from ._same import scaled_frames
from .frame import Frame
from .inspection import alike, composition
from .neighbours import pairs_once

__all__ = ["Witness", "by_energies", "by_forces"]

_REACH = 5.0  # [Å] cutoff of the pair potential
_NODES = np.linspace(0.75, 4.75, 9)  # [Å] centres of its basis functions, which are 0.5 Å wide
_MOST = 40  # largest number of frames in the fit, which then takes about a second
_FEWEST = 8  # least number of frames; with fewer a correlation may be chance
_STRAIN = 1e-3  # least strain; differences of rounded energies are meaningless below it
_RIDGE = 1e-6  # of the mean diagonal: distances that no pair has must not make the fit singular

_Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Comparison of virials with those that energies or forces imply.

    Parameters
    ----------
    correlation : float
        Correlation of the labels with the implied virials; 0 if there are too few data.
    factor : float
        Ratio of the labels to the implied virials.
    """

    correlation: float = 0.0
    factor: float = 1.0


def by_energies(frames: Sequence[Frame]) -> Witness:
    """Compare differences of energies with those that the virials imply, for frames that differ only by a strain."""
    some = [frame for frame in frames if frame.virial is not None and frame.energy is not None]
    energies, virials = [float(frame.energy or 0.0) for frame in some], [np.asarray(frame.virial) for frame in some]
    asked, given = [], []
    for group in scaled_frames(some):
        ordered = sorted(group, key=lambda index: float(abs(np.linalg.det(some[index].cell))))
        for a, b in pairwise(ordered):
            strain = load_extra("scipy.linalg").logm(np.linalg.solve(some[a].cell, some[b].cell)).real
            if np.abs(strain).max() > _STRAIN:
                # The trapezoidal rule on dE = -W : dε, per atom.
                given.append(-float(np.sum((virials[a] + virials[b]) * strain)) / 2 / some[a].n_atoms)
                asked.append((energies[b] - energies[a]) / some[a].n_atoms)
    return _compare(np.array(asked), np.array(given)) if len(asked) >= _FEWEST // 2 else Witness()


def by_forces(frames: Sequence[Frame]) -> Witness:
    """Compare virials with those of a pair potential that is fitted to the forces."""
    some = [frame for frame in frames if frame.virial is not None and frame.forces is not None]
    some = some[:: -(-len(some) // _MOST)] if some else []
    if len(some) < _FEWEST:
        return Witness()
    kinds = sorted({number for frame in some for number in frame.numbers.tolist()})
    parts = [_pair_functions(frame, kinds) for frame in some]
    forces = [np.ravel(np.asarray(frame.forces)) for frame in some]
    normal = np.sum([A.T @ A for A, _ in parts], axis=0)
    normal += _RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal))
    if not np.trace(normal) > 0:
        return Witness()
    coefficients = np.linalg.solve(normal, np.sum([A.T @ f for (A, _), f in zip(parts, forces, strict=True)], axis=0))
    left = sum(float(np.sum((A @ coefficients - f) ** 2)) for (A, _), f in zip(parts, forces, strict=True))
    if left > 0.5 * sum(float(f @ f) for f in forces):
        return Witness()  # the forces are not pairwise, so the virial of the fit is unreliable
    asked, given = [], []
    for same in alike((frame.n_atoms, composition(frame)) for frame in some):
        mine = np.array([parts[k][1] @ coefficients / some[k].n_atoms for k in same])
        labels = np.array([np.ravel(np.asarray(some[k].virial)) / some[k].n_atoms for k in same])
        # Means are not compared: an energy that depends only on the volume exerts no force on atoms, but has a virial.
        asked.append(np.ravel(mine - mine.mean(axis=0)))
        given.append(np.ravel(labels - labels.mean(axis=0)))
    return _compare(np.concatenate(asked), np.concatenate(given))


def _pair_functions(frame: Frame, kinds: list[int]) -> tuple[_Array, _Array]:
    """Return forces, shape (3 N, p), and virials, shape (9, p), of p functions of the distances of pairs."""
    i, j, distances, vectors = pairs_once(frame, _REACH)
    n, bins = len(kinds), len(_NODES)
    of = np.searchsorted(kinds, frame.numbers)
    pair = np.minimum(of[i], of[j]) * n + np.maximum(of[i], of[j])
    values = np.exp(-(((distances[:, None] - _NODES) / 0.5) ** 2)) * ((1 - distances / _REACH) ** 2)[:, None]
    push = values[:, None, :] * (vectors / np.maximum(distances, 1e-9)[:, None])[:, :, None]  # on j, away from i
    forces, virial = np.zeros((frame.n_atoms, 3, n * n, bins)), np.zeros((3, 3, n * n, bins))
    axes, nodes = np.arange(3)[None, :, None], np.arange(bins)[None, None, :]
    np.add.at(forces, (j[:, None, None], axes, pair[:, None, None], nodes), push)
    np.add.at(forces, (i[:, None, None], axes, pair[:, None, None], nodes), -push)
    for kind in np.unique(pair):
        virial[:, :, kind] = np.einsum("pa,pbk->abk", vectors[pair == kind], push[pair == kind])
    return forces.reshape(3 * frame.n_atoms, -1), virial.reshape(9, -1)


def _compare(asked: _Array, given: _Array) -> Witness:
    norms = np.linalg.norm(asked), np.linalg.norm(given)
    if not min(norms) > 0:
        return Witness()
    return Witness(correlation=float(asked @ given / norms[0] / norms[1]), factor=float(norms[1] / norms[0]))
