"""Initial weights, and the constants that come from the data, against plain loops."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.atoms.energies import fit_bias
from ekfcore.errors import InputError
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    fit_statistics,
    initial_weights,
)
from ekfcore.models.deep_potential.environment import switch

Case: TypeAlias = tuple[DeepPotential, Frame, NDArray[np.float64]]
MakeCase: TypeAlias = Callable[..., Case]
Neighbours: TypeAlias = Callable[[Frame, int, float], Iterator[tuple[int, NDArray[np.float64]]]]

ELEMENTS = ("O", "H", "Cu")


@pytest.fixture
def architecture() -> Architecture:
    """Return a model of three elements, of which the frames hold two."""
    return Architecture(elements=ELEMENTS, capacity=(12, 3, 12), cutoff=4.0, cutoff_smooth=3.0)


@pytest.fixture
def frames(make_case: MakeCase) -> list[Frame]:
    """Return frames of different compositions with energies."""
    names = ["Cu O O Cu", "Cu O", "Cu Cu O", "O O O Cu"]
    return [replace(make_case(n, seed=seed)[1], energy=-3.0 - seed) for seed, n in enumerate(names)]


class TestInitialWeights:
    """One network after the other, each drawn by itself."""

    def test_seed(self, architecture: Architecture) -> None:
        """It fixes the weights."""
        w = initial_weights(architecture, seed=1)
        assert w.shape == (sum(architecture.layer_sizes),)
        assert (w == initial_weights(architecture, seed=1)).all()
        assert (w != initial_weights(architecture, seed=2)).all()

    def test_spread(self, architecture: Architecture) -> None:
        """Variance 1 / (n_in + n_out) in each matrix, 1 in the biases, to five standard errors; no two nets alike."""
        w = initial_weights(replace(architecture, resnet_dt=True), seed=0)
        net = replace(architecture, resnet_dt=True).fitting_net
        fittings = w[-3 * net.n_params :].reshape(3, -1)
        parts = np.split(fittings, np.cumsum(net.part_sizes)[:-1], axis=1)
        deviations = [450**-0.5, 1, 100**-0.5, 1, 0.001, 100**-0.5, 1, 0.001, 51**-0.5, 1]
        for part, deviation in zip(parts, deviations, strict=True):
            mean = 0.1 if deviation == 0.001 else 0.0
            measured = np.sqrt(np.mean((part - mean) ** 2))
            assert abs(measured / deviation - 1) < 5 / np.sqrt(2 * part.size)
        assert len(np.unique(w)) == len(w)

    def test_gain(self, architecture: Architecture) -> None:
        """It changes what leads from the descriptor into the fitting nets and nothing else."""
        plain, larger = (initial_weights(architecture, seed=1, fitting_gain=gain) for gain in (1.0, 8.0))
        factors = np.split(larger / plain, np.cumsum(architecture.layer_sizes)[:-1])
        parts = len(architecture.fitting_net.part_sizes)
        first = {len(factors) - parts * count for count in range(1, len(architecture.elements) + 1)}
        for index, part in enumerate(factors):
            assert part == pytest.approx(8.0 if index in first else 1.0, rel=1e-14), index


class TestStatistics:
    """Normalisation of the environment matrix and energy bias."""

    def test_against_a_loop(self, frames: list[Frame], architecture: Architecture, neighbours: Neighbours) -> None:
        """All slots of all atoms of a type, the empty ones as zeros."""
        rows: dict[str, list[Any]] = {"O": [], "Cu": []}
        for frame in frames:
            for atom, symbol in enumerate(frame.symbols):
                vectors = np.array([vector for _, vector in neighbours(frame, atom, 4.0)])
                r = np.linalg.norm(vectors, axis=1, keepdims=True)
                s = switch(r, 4.0, 3.0)[0]
                empty = np.zeros((sum(architecture.capacity) - len(r), 4))
                rows[symbol] += [np.hstack([s, s * vectors / r]), empty]
        statistics = fit_statistics(frames, architecture)
        for kind, symbol in ((0, "O"), (2, "Cu")):
            table = np.concatenate(rows[symbol])
            np.testing.assert_allclose(statistics.mean[kind], [table[:, 0].mean(), 0, 0, 0], rtol=1e-12)
            directions = np.sqrt(np.mean(table[:, 1:] ** 2))
            np.testing.assert_allclose(statistics.std[kind], [table[:, 0].std(), *[directions] * 3], rtol=1e-12)

    def test_absent_element(self, frames: list[Frame], architecture: Architecture) -> None:
        """An element that no frame holds gets finite numbers."""
        statistics = fit_statistics(frames, architecture)
        assert statistics.mean[1].tolist() == [0.0] * 4
        assert statistics.std[1].tolist() == [0.01] * 4
        assert statistics.energy_bias[1] == pytest.approx(0.0, abs=1e-12)

    def test_atoms_without_neighbours(self, make_case: MakeCase) -> None:
        """So does one whose atoms are alone."""
        model, frame, _ = make_case("Cu", pbc=(False, False, False), capacity=(3,))
        statistics = fit_statistics([replace(frame, energy=-1.5)], model.architecture)
        assert (statistics.std == 0.01).all()
        assert statistics.energy_bias == pytest.approx([-1.5])

    def test_energy_bias(self, frames: list[Frame], architecture: Architecture) -> None:
        """Energies that are sums over atoms give the terms; others the least squares."""
        oxygen, copper = -432.1, -51.3
        exact = [replace(f, energy=oxygen * f.symbols.count("O") + copper * f.symbols.count("Cu")) for f in frames]
        assert fit_statistics(exact, architecture).energy_bias == pytest.approx([oxygen, 0.0, copper], rel=1e-10)
        noisy = [replace(f, energy=f.energy + e) for f, e in zip(exact, [0.3, -0.1, 0.2, 0.4], strict=True) if f.energy]
        counts = np.array([[f.symbols.count("O"), f.symbols.count("Cu")] for f in noisy], dtype=float)
        expected = np.linalg.solve(counts.T @ counts, counts.T @ [f.energy for f in noisy])
        assert fit_statistics(noisy, architecture).energy_bias[[0, 2]] == pytest.approx(expected, rel=1e-10)

    def test_energy_bias_of_one_composition(self, make_case: MakeCase, architecture: Architecture) -> None:
        """Where the elements cannot be told apart, the smallest numbers that give the mean energy."""
        frames = [replace(make_case("Cu O O", seed=k)[1], energy=e) for k, e in enumerate([-9.0, -11.0])]
        # Along (2, 0, 1), the counts: -10 / 5 of it.
        assert fit_statistics(frames, architecture).energy_bias == pytest.approx([-4.0, 0.0, -2.0])

    def test_frames_without_energy(self, frames: list[Frame], architecture: Architecture) -> None:
        """They count for the environments and not for the energies; without any, those are zero."""
        bare = [replace(frame, energy=None) for frame in frames]
        np.testing.assert_array_equal(fit_bias([*bare, *frames], ("O", "Cu")), fit_bias(frames, ("O", "Cu")))
        assert fit_statistics(bare, architecture).energy_bias.tolist() == [0.0] * 3
        np.testing.assert_array_equal(fit_statistics(bare, architecture).std, fit_statistics(frames, architecture).std)

    def test_given_energies(self, make_case: MakeCase) -> None:
        """What is given is taken off before the others are fitted."""
        frames = [replace(make_case("Cu O O", seed=k)[1], energy=e) for k, e in enumerate([-9.0, -11.0])]
        # Of the mean energy of -10, -4 are given.
        assert fit_bias(frames, ("O", "Cu"), fixed={"Cu": -4.0}) == pytest.approx([-3.0, -4.0])
        assert fit_bias(frames, ("O", "Cu"), fixed={"Cu": -4.0, "O": -1.0}).tolist() == [-1.0, -4.0]

    def test_nothing_to_fit(self, frames: list[Frame], architecture: Architecture) -> None:
        """No frames, an unknown element: one line each."""
        with pytest.raises(InputError, match="need at least one training frame, got none"):
            fit_statistics([], architecture)
        with pytest.raises(InputError, match=r"holds O, which the model does not know; its elements are Cu"):
            fit_statistics(frames, replace(architecture, elements=("Cu",), capacity=(9,)))
