"""Signed means, groups of atoms and the reduction of a batch."""

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ekfcore import InputError
from ekfcore.measurement import atom_groups, reduce_batch, signed_mean

if TYPE_CHECKING:
    from conftest import AssertClose, Xp


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3)])
def test_signed_mean_is_algorithm_1(xp: "Xp", assert_close: "AssertClose", shape: tuple[int, ...]) -> None:
    """Lines 1 to 7 of the paper, number by number."""
    rng = np.random.default_rng(0)
    prediction, label = rng.standard_normal((2, *shape))
    signs = [-1 if p > y else 1 for p, y in zip(prediction.flat, label.flat, strict=True)]
    errors = [abs(y - p) for p, y in zip(prediction.flat, label.flat, strict=True)]
    cotangent, innovation = signed_mean(xp.asarray(prediction), xp.asarray(label))
    assert_close(cotangent, xp.asarray(np.reshape(signs, shape) / len(signs)), rtol=1e-15)
    assert_close(innovation, xp.asarray(math.fsum(errors) / len(errors)), rtol=1e-14)


def test_innovation_is_label_minus_prediction_of_the_measured_quantity(xp: "Xp", assert_close: "AssertClose") -> None:
    """Whatever the weights, the innovation is that of the linear functional that the cotangent stands for."""
    rng = np.random.default_rng(1)
    prediction, label = rng.standard_normal((2, 5, 3))
    weight = rng.random((5, 1))
    cotangent, innovation = signed_mean(xp.asarray(prediction), xp.asarray(label), xp.asarray(weight))
    measured = xp.to_numpy(cotangent)
    assert_close(innovation, xp.asarray(np.sum(measured * label) - np.sum(measured * prediction)), rtol=1e-13)
    np.testing.assert_array_equal(np.abs(measured), np.broadcast_to(weight, (5, 3)))


def test_signed_mean_keeps_the_precision(xp: "Xp") -> None:
    """A model in float32 is not lifted to float64."""
    cotangent, innovation = signed_mean(xp.asarray([1.0, 2.0], "float32"), xp.asarray([2.0, 2.0], "float32"))
    assert cotangent.dtype == innovation.dtype == xp.namespace.float32


def test_signed_mean_wants_equal_shapes(xp: "Xp") -> None:
    """Broadcasting would hide a mistake."""
    with pytest.raises(InputError, match=r"`label` must have the shape of the prediction \(3,\), got \(1,\)"):
        signed_mean(xp.asarray([1.0, 2.0, 3.0]), xp.asarray([1.0]))


def test_signed_mean_wants_a_number(xp: "Xp") -> None:
    """The mean of nothing is not a measurement."""
    with pytest.raises(InputError, match=r"`prediction` must hold at least one number, got shape \(0, 3\)"):
        signed_mean(xp.asarray(np.zeros((0, 3))), xp.asarray(np.zeros((0, 3))))


@pytest.mark.parametrize(("n_atoms", "lengths"), [(72, [6, 6, 6, 6]), (24, [6, 6, 6, 6]), (15, [6, 6, 3]), (2, [2])])
def test_groups_are_disjoint(n_atoms: int, lengths: list[int]) -> None:
    """Four groups of six where there are enough atoms, and no atom twice."""
    groups = atom_groups(np.random.default_rng(0), n_atoms, size=6, count=4)
    drawn = [atom for group in groups for atom in group]
    assert [len(group) for group in groups] == lengths
    assert len(set(drawn)) == len(drawn)
    assert set(drawn) <= set(range(n_atoms))


def test_every_atom_can_be_drawn() -> None:
    """No atom is favoured: each is in half of the groups, within five standard deviations."""
    rng = np.random.default_rng(0)
    counts = np.zeros(12)
    for _ in range(2000):
        counts[[atom for group in atom_groups(rng, 12, size=3, count=2) for atom in group]] += 1
    assert np.abs(counts - 1000).max() < 5 * math.sqrt(2000 / 4)


def test_the_draw_follows_the_seed() -> None:
    """A training can be repeated."""
    first, second = (atom_groups(np.random.default_rng(5), 72, size=6, count=4) for _ in range(2))
    assert first == second


def test_batch_is_reduced_as_in_the_fast_ekf(xp: "Xp", assert_close: "AssertClose") -> None:
    """Sum of the gradients, mean error times the root of the batch."""
    rng = np.random.default_rng(2)
    rows, errors = rng.standard_normal((4, 9)), rng.random(4)
    H, innovation = reduce_batch([xp.asarray(row) for row in rows], [xp.asarray(e) for e in errors])
    assert_close(H, xp.asarray(rows.sum(axis=0)), rtol=1e-14)
    assert_close(innovation, xp.asarray(errors.mean() * 2), rtol=1e-14)


def test_batch_of_one_is_itself(xp: "Xp", assert_close: "AssertClose") -> None:
    """Nothing is scaled."""
    H, innovation = reduce_batch([xp.asarray([1.0, 2.0])], [xp.asarray(0.5)])
    assert_close(H, xp.asarray([1.0, 2.0]), rtol=0)
    assert_close(innovation, xp.asarray(0.5), rtol=0)


@pytest.mark.parametrize(("n_atoms", "sizes"), [(72, [18] * 4), (5, [2, 2, 1]), (2, [1, 1]), (1, [1])])
def test_groups_that_share_all_atoms(n_atoms: int, sizes: list[int]) -> None:
    """Each atom once, in groups as equal as they can be."""
    groups = atom_groups(np.random.default_rng(0), n_atoms, size=None, count=4)
    assert [len(group) for group in groups] == sizes
    assert sorted(atom for group in groups for atom in group) == list(range(n_atoms))
