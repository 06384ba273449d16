"""Neighbour pairs against a double loop over atoms and images."""

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.errors import InputError

MakeFrame = Callable[..., Frame]

pytest.importorskip("vesin", reason="needs the extra atoms")
TRICLINIC = np.array([[2.6, 0.0, 0.0], [1.1, 2.4, 0.0], [-0.9, 0.7, 3.1]])
ALL, NONE, SLAB, WIRE = [True] * 3, [False] * 3, [True, True, False], [False, False, True]


def _all_pairs(frame: Frame, cutoff: float) -> tuple[list[int], list[int], Any]:
    """Return i, j and vectors by trying every image in turn."""
    # Enough images for atoms up to three cells outside, whatever the angles.
    reach = [0, 0, 0]
    if frame.pbc.any():
        widths = 1 / np.linalg.norm(np.linalg.inv(frame.cell), axis=0)
        reach = [int(np.ceil(cutoff / width)) + 6 if on else 0 for width, on in zip(widths, frame.pbc, strict=True)]
    shifts = np.array(list(itertools.product(*(range(-n, n + 1) for n in reach))))
    centres, neighbours, vectors = [], [], []
    for i, j in itertools.product(range(frame.n_atoms), repeat=2):
        images = frame.positions[j] - frame.positions[i] + shifts @ frame.cell
        near = np.linalg.norm(images, axis=1) < cutoff
        near &= (i != j) | shifts.any(axis=1)
        centres += [i] * near.sum()
        neighbours += [j] * near.sum()
        vectors.append(images[near])
    return centres, neighbours, np.concatenate(vectors)


@pytest.mark.parametrize("pbc", [ALL, NONE, SLAB, WIRE])
@pytest.mark.parametrize("cell", [np.diag([9.0, 11.0, 10.0]), TRICLINIC, TRICLINIC[::-1]])
@pytest.mark.parametrize("outside", [0.0, 1.0], ids=["inside", "outside"])
def test_agrees_with_a_double_loop(make_frame: MakeFrame, cell: Any, pbc: list[bool], outside: float) -> None:
    """Same pairs in the same order: wide cells, cells narrower than the cutoff, left-handed cells, atoms outside."""
    rng = np.random.default_rng(7)
    sites = np.array(list(itertools.product([0.05, 0.55], repeat=3)))[[0, 3, 5, 6]] + 0.1 * rng.random((4, 3))
    positions = (sites + outside * rng.integers(-3, 4, sites.shape)) @ cell
    frame = make_frame(numbers=np.full(4, 29), positions=positions, cell=cell, pbc=np.array(pbc))
    i, j, vectors = neighbour_pairs(frame, 5.3)
    expected_i, expected_j, expected_vectors = _all_pairs(frame, 5.3)
    np.testing.assert_array_equal(i, expected_i)
    np.testing.assert_array_equal(j, expected_j)
    np.testing.assert_allclose(vectors, expected_vectors, rtol=0, atol=1e-12)


def test_agrees_with_ase(make_frame: MakeFrame) -> None:
    """The same multiset of pairs as an independent library finds in a larger frame."""
    rng = np.random.default_rng(3)
    cell = np.array([[12.0, 0.0, 0.0], [3.0, 11.0, 0.0], [-2.0, 4.0, 13.0]])
    sites = np.array(list(itertools.product(range(5), repeat=3))) / 5 + 0.05 * rng.random((125, 3))
    frame = make_frame(numbers=np.full(125, 29), positions=sites @ cell, cell=cell)
    i, j, vectors = neighbour_pairs(frame, 6.0)
    library = pytest.importorskip("ase.neighborlist", reason="needs the extra atoms")
    ase_i, ase_j, ase_vectors = library.primitive_neighbor_list("ijD", frame.pbc, cell, frame.positions, 6.0)
    rows = np.column_stack([i, j, vectors.round(9)])
    ase_rows = np.column_stack([ase_i, ase_j, ase_vectors.round(9)])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T[::-1])], ase_rows[np.lexsort(ase_rows.T[::-1])])


def test_an_atom_meets_its_own_images(make_frame: MakeFrame) -> None:
    """One atom in a cube of 3 Å has six images at 3 Å, in the order of their shifts."""
    frame = make_frame(numbers=np.array([29]), positions=np.ones((1, 3)), cell=3.0 * np.eye(3))
    i, j, vectors = neighbour_pairs(frame, 4.0)
    assert i.tolist() == j.tolist() == [0] * 6
    assert vectors.tolist() == [[-3, 0, 0], [0, -3, 0], [0, 0, -3], [0, 0, 3], [0, 3, 0], [3, 0, 0]]


def test_isolated_molecule_needs_no_cell(make_frame: MakeFrame) -> None:
    """A molecule with a cell of zeros, and a single atom without neighbours."""
    frame = make_frame(cell=np.zeros((3, 3)), pbc=np.array(NONE))
    i, j, vectors = neighbour_pairs(frame, 1.2)
    assert list(zip(i.tolist(), j.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0), (2, 0)]
    np.testing.assert_array_equal(vectors, frame.positions[j] - frame.positions[i])
    alone = make_frame(numbers=np.array([2]), positions=np.zeros((1, 3)), cell=np.zeros((3, 3)), pbc=np.array(NONE))
    assert [part.shape for part in neighbour_pairs(alone, 6.0)] == [(0,), (0,), (0, 3)]


def test_same_answer_every_time(make_frame: MakeFrame) -> None:
    """Two calls agree in every bit."""
    first, second = (neighbour_pairs(make_frame(), 6.0) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.tobytes() == other.tobytes()


def test_overlapping_atoms(make_frame: MakeFrame) -> None:
    """Both atoms, their distance and the frame are named; also across a face of the cell."""
    positions = np.array([[0.0, 0.0, 0.01], [2.0, 2.0, 2.0], [0.0, 0.0, 6.97]])
    message = r"^water.xyz, frame 3: atom 0 \(O\) lies 0.04 Å from atom 2 \(H\), .* leave this frame out"
    with pytest.raises(InputError, match=message):
        neighbour_pairs(make_frame(positions=positions), 6.0)


@pytest.mark.parametrize("pbc", [ALL, NONE])
def test_two_atoms_in_one_place(make_frame: MakeFrame, pbc: list[bool]) -> None:
    """Distance 0 is the commonest overlap."""
    with pytest.raises(InputError, match=r"atom 0 \(O\) lies 0 Å from atom 1 \(H\)"):
        neighbour_pairs(make_frame(positions=np.zeros((3, 3)), pbc=np.array(pbc)), 6.0)


def test_atom_on_its_own_image(make_frame: MakeFrame) -> None:
    """A skewed cell can be wide between faces and still repeat an atom almost in place."""
    cell = np.array([[5.0, 0.0, 0.0], [0.0, 0.11, 0.0], [0.0, 0.0, 5.0]])
    frame = make_frame(numbers=np.array([29]), positions=np.zeros((1, 3)), cell=cell)
    assert len(neighbour_pairs(frame, 0.2)[0]) == 2
    with pytest.raises(InputError, match="a periodic cell must span a volume"):
        neighbour_pairs(make_frame(numbers=np.array([29]), positions=np.zeros((1, 3)), cell=cell * 0.9), 0.2)


def test_periodic_cell_without_volume(make_frame: MakeFrame) -> None:
    """Images of such a cell fall on one another."""
    with pytest.raises(InputError, match="frame 3: a periodic cell must span a volume, got 0 Å"):
        neighbour_pairs(make_frame(cell=np.zeros((3, 3))), 6.0)


@pytest.mark.parametrize("position", [np.nan, np.inf, 1e7])
def test_atoms_that_flew_away(make_frame: MakeFrame, position: float) -> None:
    """A run that exploded ends in one line, not in a crash of the library."""
    positions = np.diag([0.0, position, 2.0])
    with pytest.raises(InputError, match=r"frame 3: positions must be finite and at most 1e\+04 cutoffs apart"):
        neighbour_pairs(make_frame(positions=positions, cell=np.zeros((3, 3)), pbc=np.array(NONE)), 6.0)


def test_periodic_atoms_may_drift_far(make_frame: MakeFrame) -> None:
    """Unwrapped positions of a long run are no error."""
    frame = make_frame()
    drifted = make_frame(positions=frame.positions + np.diag([5e5, 0.0, 0.0]))  # 10^5 cells along a
    np.testing.assert_allclose(neighbour_pairs(drifted, 6.0)[2], neighbour_pairs(frame, 6.0)[2], atol=1e-9)


@pytest.mark.parametrize("cutoff", [0.0, -6.0, np.nan, np.inf])
def test_impossible_cutoff(make_frame: MakeFrame, cutoff: float) -> None:
    """A cutoff is a length."""
    with pytest.raises(InputError, match="cutoff must be a positive length in Å, got"):
        neighbour_pairs(make_frame(), cutoff)


def test_missing_vesin_names_the_command(make_frame: MakeFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever installed the core only learns what to install."""
    monkeypatch.setitem(sys.modules, "vesin", None)
    with pytest.raises(InputError, match=r'vesin is not installed; run: pip install "ekfcore\[atoms\]"'):
        neighbour_pairs(make_frame(), 6.0)
