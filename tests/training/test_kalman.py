"""What each mode measures, against updates written out by hand."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.atoms.quantities import ENERGY, FORCE
from ekfcore.measurement import atom_groups
from ekfcore.presets import Recipe, preset

if TYPE_CHECKING:
    from training.conftest import Linear

kalman = pytest.importorskip("ekfcore.training.kalman", reason="training needs ekfcore[atoms]")
schedule = pytest.importorskip("ekfcore.training.schedule", reason="training needs ekfcore[atoms]")

Samples = Callable[[bool], list[Any]]
Row = tuple[NDArray[np.float64], float, float]
CONFIG = ek.EKFConfig(noise=0.7, pending=3)


def start(recipe: Recipe, model: "Linear") -> ek.EKFState:
    """Return the filter before the first batch."""
    layout = ek.partition(model.layer_sizes, block_size=recipe.block_size)
    return ek.init(np.linspace(-1, 1, layout.n_params), layout, recipe.config)


def by_hand(model: "Linear", w: NDArray[np.float64], sample: Any, kind: Any, group: list[int], recipe: Recipe) -> Row:
    """Measure one thing, number by number: gradient, innovation, variance."""
    prediction = model.predict(w, sample.environment)
    if kind == "force":
        picked: list[tuple[int, ...]] = [(atom, axis) for atom in group for axis in range(3)]
        factor = recipe.force_prefactor / len(picked) / (sample.n_atoms if recipe.force_per_atom else 1)
        maps, predicted, label = model.maps["forces"], prediction["forces"], sample.forces
        sigma = recipe.force_noise
    else:
        picked = [()] if kind == "energy" else list(product(range(3), repeat=2))
        prefactor = recipe.energy_prefactor if kind == "energy" else recipe.virial_prefactor
        factor = prefactor / len(picked) / sample.n_atoms
        maps, predicted, label = model.maps[kind], prediction[kind], getattr(sample, kind)
        sigma = recipe.energy_noise if kind == "energy" else recipe.virial_noise
    H, e = np.zeros(w.shape), 0.0
    for index in picked:
        sign = -1.0 if predicted[index] >= label[index] else 1.0
        H += sign * factor * maps[(sample.environment, *index)]
        e += factor * abs(float(label[index] - predicted[index]))
    return H, e, 0.7 if sigma is None else sigma**2


def expected(recipe: Recipe, model: "Linear", batch: list[Any], plan: list[list[tuple[str, int]]]) -> ek.EKFState:
    """Apply the updates of a plan one by one."""
    state = start(recipe, model)
    groups = draw(recipe, batch)
    for kinds in plan:
        rows = [
            by_hand(model, state.weights, sample, kind, groups[k][number] if kind == "force" else [], recipe)
            for k, sample in enumerate(batch)
            for kind, number in kinds
        ]
        H, e, R = (np.array(column) for column in zip(*rows, strict=True))
        if recipe.mode == "batch":
            H, e, R = H.sum(axis=0), np.array([e.mean() * len(batch) ** 0.5]), R[:1]
        state, _ = ek.update(state, H, e, config=recipe.config, noise=R.tolist())
    return state


def draw(recipe: Recipe, batch: list[Any]) -> list[list[list[int]]]:
    """Repeat the draw of the optimizer."""
    rng = np.random.default_rng(7)
    return [atom_groups(rng, sample.n_atoms, size=recipe.group_size, count=recipe.groups) for sample in batch]


E, V, F0, F1, F2 = ("energy", 0), ("virial", 0), ("force", 0), ("force", 1), ("force", 2)
FORMS = {"force_noise": 0.5, "energy_noise": 0.2, "force_per_atom": True, "energy_prefactor": 3.0}


@pytest.mark.parametrize(
    ("mode", "frames", "settings", "plan"),
    [
        ("sequential", 1, {}, [[E], [F0], [F1], [F2]]),
        ("pinned", 1, {}, [[E, F0], [E, F1], [E, F2]]),
        ("pinned", 1, {"groups_per_update": 2}, [[E, F0, F1], [E, F2]]),
        ("pinned", 2, {"virial_prefactor": 2.0, "virial_noise": 0.3}, [[E, V, F0], [E, V, F1], [E, V, F2]]),
        ("vector", 1, {}, [[E, F0, F1, F2]]),
        ("vector", 2, {"virial_prefactor": 2.0}, [[E, V, F0, F1, F2]]),
        ("batch", 1, {}, [[E], [F0], [F1], [F2]]),
        ("batch", 2, {}, [[E], [F0], [F1], [F2]]),
    ],
)
@pytest.mark.parametrize("form", [{}, FORMS])
def test_modes(
    linear: "Linear",
    samples: Samples,
    mode: Any,
    frames: int,
    settings: dict[str, Any],
    plan: list[list[tuple[str, int]]],
    form: dict[str, Any],
) -> None:
    """Each mode is its plan: what is measured together, linearised when, with which noise."""
    recipe = Recipe(config=CONFIG, block_size=7, mode=mode, groups=3, group_size=2, **settings, **form)
    batch = samples(True)[:frames]
    optimizer = kalman.KalmanOptimizer(linear, recipe, start(recipe, linear))
    optimizer.step(batch, np.random.default_rng(7))
    state = expected(recipe, linear, batch, plan)
    np.testing.assert_allclose(optimizer.weights, state.weights, rtol=1e-12)
    assert optimizer.state.count == state.count
    assert optimizer.rate == state.lam


def test_sequential_takes_one_frame_at_a_time(linear: "Linear", samples: Samples) -> None:
    """A batch of two is two batches of one that share the generator."""
    recipe = Recipe(config=CONFIG, block_size=7, groups=2, group_size=2)
    together, apart = (kalman.KalmanOptimizer(linear, recipe, start(recipe, linear)) for _ in range(2))
    together.step(samples(False), np.random.default_rng(1))
    rng = np.random.default_rng(1)
    for sample in samples(False):
        apart.step([sample], rng)
    np.testing.assert_array_equal(together.weights, apart.weights)


@pytest.mark.parametrize("mode", ["sequential", "pinned", "vector"])
def test_a_frame_of_weight_four_has_half_the_noise(linear: "Linear", samples: Samples, mode: Any) -> None:
    """Weights and covariance are those of a quarter of the variance, whatever is measured."""
    noises: dict[str, Any] = {"energy_noise": 0.3, "force_noise": 0.9, "virial_noise": 0.5}
    common: dict[str, Any] = {
        "config": CONFIG,
        "block_size": 7,
        "mode": mode,
        "groups": 2,
        "group_size": 2,
        "virial_prefactor": 1.5,
    }
    heavy, quiet = Recipe(**common, **noises), Recipe(**common, **{name: sd / 2 for name, sd in noises.items()})
    sample = samples(True)[0]
    optimizers = [kalman.KalmanOptimizer(linear, recipe, start(recipe, linear)) for recipe in (heavy, quiet)]
    for optimizer, weight in zip(optimizers, (4.0, 1.0), strict=True):
        optimizer.step([replace(sample, weight=weight)], np.random.default_rng(2))
    np.testing.assert_allclose(optimizers[0].weights, optimizers[1].weights, rtol=1e-12)
    heavy_trace, quiet_trace = (optimizer.state.covariance.traces for optimizer in optimizers)
    np.testing.assert_allclose(heavy_trace, quiet_trace, rtol=1e-12)


def test_missing_virials_are_left_out(linear: "Linear", samples: Samples) -> None:
    """A frame without a virial adds no measurement of one."""
    recipe = Recipe(config=CONFIG, block_size=7, mode="vector", groups=1, virial_prefactor=1.0)
    mixed = [samples(True)[0], samples(False)[1]]
    optimizer = kalman.KalmanOptimizer(linear, recipe, start(recipe, linear))
    optimizer.step(mixed, np.random.default_rng(0))
    assert optimizer.state.count == 5  # two energies, two groups, one virial


def test_all_quantities_of_atoms_are_measured_in_the_same_groups() -> None:
    """A quantity that the table of quantities gains takes its place in the plan."""
    charge = replace(FORCE, name="charge", label="charges")
    plan = schedule.plan("pinned", [ENERGY, FORCE, charge], 2)
    assert plan == [[(ENERGY, None), (FORCE, k), (charge, k)] for k in range(2)]


def test_paper_noise_counts_blocks(linear: "Linear", samples: Samples) -> None:
    """Without a noise of their own the measurements take the filter's, here the number of blocks."""
    recipe = preset("rlekf")
    batch = samples(False)[:1]
    optimizer = kalman.KalmanOptimizer(linear, recipe, start(recipe, linear))
    optimizer._update(batch, [[]], [schedule.Measured(ENERGY)])
    state = start(recipe, linear)
    H, e, _ = by_hand(linear, state.weights, batch[0], "energy", [], recipe)
    state, _ = ek.update(state, H, e, config=recipe.config, noise=1.0)  # one block of 12 weights
    np.testing.assert_allclose(optimizer.weights, state.weights, rtol=1e-12)
