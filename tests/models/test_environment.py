"""The prepared geometry against plain loops over atoms and images."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.errors import InputError
from ekfcore.models.deep_potential import DeepPotential, NodalPotential, find_kernels, neighbour_capacity
from ekfcore.models.deep_potential.environment import switch

if TYPE_CHECKING:
    from conftest import Xp

Case: TypeAlias = tuple[DeepPotential, Frame, NDArray[np.float64]]
MakeCase: TypeAlias = Callable[..., Case]
Neighbours: TypeAlias = Callable[[Frame, int, float], Iterator[tuple[int, NDArray[np.float64]]]]


class TestSwitch:
    """1/r with a smooth end."""

    R = np.array([0.3, 0.99, 1.0, 1.01, 2.0, 3.3, 3.99, 4.0, 4.5])

    def test_value(self) -> None:
        """The formula, piece by piece."""
        for r, s in zip(self.R, switch(self.R, 4.0, 1.0)[0], strict=True):
            u = (r - 1.0) / 3.0
            sw = 1.0 if r <= 1.0 else 0.0 if r >= 4.0 else 1 - 10 * u**3 + 15 * u**4 - 6 * u**5
            assert s == pytest.approx(sw / r, rel=1e-13, abs=1e-15)

    def test_slope(self) -> None:
        """By central differences of second order: the third derivative jumps at both ends."""
        h = 1e-5
        expected = (switch(self.R + h, 4.0, 1.0)[0] - switch(self.R - h, 4.0, 1.0)[0]) / (2 * h)
        np.testing.assert_allclose(switch(self.R, 4.0, 1.0)[1], expected, rtol=1e-7, atol=1e-9)


def test_rows_of_each_slot(case: Case, neighbours: Neighbours) -> None:
    """Every slot holds one neighbour, each neighbour has one slot, and the empty ones stand at the end."""
    model, frame, w = case
    arch, statistics = model.architecture, model.statistics
    environment = model.exact.environment(frame, like=w)
    seen = []
    for group in environment.groups:
        mean, std = statistics.mean[group.type], statistics.std[group.type]
        for kind, block in enumerate(group.pairs):
            count = arch.capacity[kind] + block.surplus
            for slot, (atom, other) in enumerate(zip(block.centre, block.neighbour, strict=True)):
                at = divmod(slot, count)
                r, unit = block.distance[at], block.unit[at]
                assert frame.symbols[atom] == arch.elements[group.type]
                if r == 0:
                    assert other == atom
                    assert not np.any([*unit, block.slope[at], block.ratio[at]])
                    np.testing.assert_allclose(block.rows[at], -mean / std, rtol=1e-14)
                    continue
                assert frame.symbols[other] == arch.elements[kind]
                assert at[1] == 0 or block.distance[at[0], at[1] - 1] > 0
                s, ds = switch(r, arch.cutoff, arch.cutoff_smooth)
                row = (np.array([s, *(s * unit)]) - mean) / std
                np.testing.assert_allclose(block.rows[at], row, rtol=1e-13)
                assert block.slope[at] == pytest.approx(ds, rel=1e-13)
                assert block.ratio[at] == pytest.approx(s / r, rel=1e-13)
                seen.append((int(atom), int(other), *(r * unit)))
            np.testing.assert_allclose(block.scale, 1 / std)
    expected = [(i, j, *v) for i in range(frame.n_atoms) for j, v in neighbours(frame, i, arch.cutoff)]
    np.testing.assert_allclose(_sorted(seen), _sorted(expected), rtol=0, atol=1e-12)


def _sorted(pairs: list[Any]) -> NDArray[np.float64]:
    table = np.array(pairs, dtype=float).reshape(-1, 5)
    return table[np.lexsort(table.round(9).T[::-1])]


def test_gather_tables(case: Case) -> None:
    """For each atom the slots in which it is the centre, and those in which it is the neighbour."""
    model, frame, w = case
    environment = model.exact.environment(frame, like=w)
    blocks = [block for group in environment.groups for block in group.pairs]
    owners = {
        "outgoing": np.concatenate([block.centre for block in blocks]),
        "incoming": np.concatenate([block.neighbour for block in blocks]),
    }
    used = np.concatenate([block.distance.ravel() for block in blocks]) > 0
    for name, owner in owners.items():
        table = getattr(environment, name)
        assert table.shape[0] == frame.n_atoms
        for atom, slots in enumerate(table):
            real = slots[slots < len(owner)]
            assert sorted(real) == np.flatnonzero(used & (owner == atom)).tolist()
            assert (slots[len(real) :] == len(owner)).all()


def test_groups_and_constants(case: Case) -> None:
    """Each group holds atoms of one type, with a block for each element; the bias is summed over the atoms."""
    model, frame, w = case
    environment = model.exact.environment(frame, like=w)
    elements = model.architecture.elements
    atoms = [int(a) for group in environment.groups for a in dict.fromkeys(group.pairs[-1].centre.tolist())]
    assert sorted(atoms) == list(range(frame.n_atoms))
    assert all(len(group.pairs) == len(elements) for group in environment.groups)
    assert environment.n_atoms == frame.n_atoms
    bias = sum(model.statistics.energy_bias[elements.index(symbol)] for symbol in frame.symbols)
    assert environment.energy_bias == pytest.approx(bias, rel=1e-14)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arrays_are_like_the_weights(make_case: MakeCase, xp: "Xp", dtype: str) -> None:
    """Library and precision are those of the weights; off NumPy there is one group for each element."""
    model, frame, w = make_case("Cu O O Cu")
    like = xp.asarray(w, dtype)
    environment = model.exact.environment(frame, like=like)
    block = environment.groups[0].pairs[0]
    for name in ("rows", "unit", "distance", "slope", "ratio", "scale"):
        assert type(getattr(block, name)) is type(like)
        assert getattr(block, name).dtype == like.dtype
    for array in (block.centre, block.neighbour, environment.incoming, environment.outgoing):
        assert type(array) is type(like)
        assert array.dtype == xp.namespace.int64
    assert [group.type for group in environment.groups] == [0, 1]


class TestCapacity:
    """The number of slots."""

    def test_from_data(self, make_case: MakeCase, neighbours: Neighbours) -> None:
        """The largest count over all atoms of all frames, element by element."""
        frames = [make_case("Cu O O Cu", seed=seed)[1] for seed in range(3)]
        frames.append(make_case("Cu O", cell=frames[0].cell / 2)[1])
        counts = [
            [[frame.symbols[j] for j, _ in neighbours(frame, i, 3.5)].count(element) for element in ("O", "H", "Cu")]
            for frame in frames
            for i in range(frame.n_atoms)
        ]
        assert neighbour_capacity(frames, ("O", "H", "Cu"), 3.5) == tuple(np.max(counts, axis=0))
        assert neighbour_capacity(frames[:3], ("O", "Cu"), 3.5) != neighbour_capacity(frames, ("O", "Cu"), 3.5)

    def test_is_enough(self, make_case: MakeCase) -> None:
        """A model with that capacity takes its frames; no slot is empty around the busiest atom."""
        _, frame, _ = make_case("Cu O O Cu")
        model, frame, w = make_case("Cu O O Cu", capacity=neighbour_capacity([frame], ("Cu", "O"), 4.0))
        blocks = [group.pairs for group in model.exact.environment(frame, like=w).groups]
        for kind in range(2):
            assert max((pairs[kind].distance > 0).all(axis=1).any() for pairs in blocks)

    @pytest.mark.parametrize("nodal", [False, True])
    def test_is_no_wall(self, make_case: MakeCase, nodal: bool) -> None:
        """Beyond it, a neighbour comes in at the cutoff without a step, and far atoms change nothing."""
        model, frame, w = make_case("Cu O", pbc=(False, False, False), capacity=(1, 1))
        kernels = find_kernels(np)
        assert kernels is not None
        potential: Any = NodalPotential(model, 0.01, kernels) if nodal else model

        def energy(numbers: list[int], positions: list[list[float]]) -> float:
            made = replace(frame, numbers=np.array(numbers), positions=np.array(positions))
            return float(potential.predict(w, potential.environment(made, like=w))["energy"])

        crowd, pair = [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0], [0.0, 2.3, 0.0]], [[90.0, 0.0, 0.0], [90.0, 0.0, 2.0]]
        apart = energy([29] * 3, crowd) + energy([29, 8], pair)
        assert energy([29, 29, 29, 29, 8], crowd + pair) == pytest.approx(apart, rel=1e-12)
        outside, inside = (energy([29] * 4, [*crowd, [x, x, 0.0]]) for x in (-(8**0.5) - 1e-4, -(8**0.5) + 1e-4))
        assert outside == pytest.approx(energy([29] * 3, crowd) + energy([29], [[0.0, 0.0, 0.0]]), rel=1e-12)
        assert inside == pytest.approx(outside, rel=0, abs=1e-9)


def test_unknown_element(make_case: MakeCase) -> None:
    """The message names frame, element and what the model knows."""
    model, frame, w = make_case("Cu O")
    other = replace(frame, numbers=np.array([29, 79]), source="gold.xyz, frame 7")
    with pytest.raises(InputError, match=r"^gold.xyz, frame 7 holds Au, .* its elements are Cu, O"):
        model.exact.environment(other, like=w)
