"""Nodes are chosen, kept true as the nets change, and chosen again."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame

deep_potential = pytest.importorskip("ekfcore.models.deep_potential", reason="a Deep Potential needs ekfcore[atoms]")
pytest.importorskip("ase", reason="frames need ekfcore[atoms]")
dataset = pytest.importorskip("ekfcore.potentials.dataset", reason="training needs ekfcore[atoms]")

TOLERANCE = 1e-9


@pytest.fixture
def frames() -> list[Frame]:
    """Three frames of four atoms in a box."""
    rng = np.random.default_rng(0)
    grid = np.asarray([[0, 0, 0], [2, 2, 0], [2, 0, 2], [0, 2, 2]], dtype=float)
    return [
        Frame(
            numbers=np.full(4, 29),
            positions=grid + rng.normal(scale=0.15, size=(4, 3)),
            cell=4.0 * np.eye(3),
            pbc=np.full(3, True),
            energy=float(rng.normal()),
            forces=rng.normal(size=(4, 3)),
            source=f"frame {k}",
        )
        for k in range(3)
    ]


def _model(frames: list[Frame], tolerance: float = TOLERANCE, **changes: Any) -> tuple[Any, NDArray[np.float64]]:
    form: dict[str, Any] = {"cutoff": 4.0, "embedding": (4, 8), "axis": 3, "fitting": (6, 6), **changes}
    capacity = tuple(deep_potential.neighbour_capacity(frames, ["Cu"], 4.0))
    architecture = deep_potential.Architecture(elements=("Cu",), capacity=capacity, **form)
    statistics = deep_potential.fit_statistics(frames, architecture)
    model = deep_potential.DeepPotential(architecture, statistics, spacing=None, tolerance=tolerance)
    return model, deep_potential.initial_weights(architecture, seed=1)


def _error(model: Any, w: NDArray[np.float64], frames: list[Frame]) -> float:
    nodal = deep_potential.NodalPotential(model.exact, model.spacing, deep_potential.find_kernels(np))
    error: float = deep_potential.interpolation_error(nodal, w, frames)
    return error


def test_nodes_by_default(frames: list[Frame]) -> None:
    """A smooth net goes onto nodes, and the text says how true they are."""
    model, w = _model(frames)
    chosen = model.refined(w, frames)
    assert _error(chosen, w, frames) < TOLERANCE
    assert "nodes" in str(chosen)
    assert "1e-09" in str(chosen)


@pytest.mark.parametrize(
    ("changes", "tolerance", "told"),
    [({}, 0.0, "as asked for"), ({"activation": "relu"}, TOLERANCE, "no nodes"), ({}, 1e-16, "no nodes")],
    ids=["not wanted", "kinks", "beyond rounding"],
)
def test_exact_nets_where_nodes_do_not_do(
    frames: list[Frame], changes: dict[str, Any], tolerance: float, told: str
) -> None:
    """And the text says why."""
    model, w = _model(frames, tolerance, **changes)
    chosen = model.refined(w, frames)
    assert chosen.spacing == 0
    assert told in str(chosen)
    assert chosen.refined(w, frames) is chosen


def test_refined_when_the_net_grows_steeper(frames: list[Frame]) -> None:
    """The tolerance holds again afterwards, and nothing happens while it holds."""
    model, w = _model(frames)
    chosen = model.refined(w, frames)
    assert chosen.refined(w, frames) is chosen
    w[:4] *= 4  # the first matrix
    assert _error(chosen, w, frames) > TOLERANCE
    finer = chosen.refined(w, frames)
    assert finer.spacing < chosen.spacing
    assert _error(finer, w, frames) < TOLERANCE


def test_goes_on_with_the_nodes_of_before(frames: list[Frame]) -> None:
    """A restart takes the spacing of the file, not the one it would choose now."""
    model, w = _model(frames)
    for spacing in (0.0, 1 / 1024):
        assert replace(model, spacing=spacing).refined(w, frames).spacing == spacing


def test_a_data_set_belongs_to_its_model(frames: list[Frame]) -> None:
    """Errors on nodes are those of the exact nets."""
    model, w = _model(frames)
    near, exact = (dataset.Dataset(m, frames, like=w).errors(w) for m in (model.refined(w, frames), model.exact))
    assert near.force_rmse == pytest.approx(exact.force_rmse, rel=1e-8)
    assert near.energy_rmse == pytest.approx(exact.energy_rmse, rel=1e-8)


def test_linearize(frames: list[Frame]) -> None:
    """On nodes and with the exact nets."""
    model, w = _model(frames)
    chosen = model.refined(w, frames)
    cotangents = [{"energy": np.asarray(1.0)}, {"forces": np.ones((4, 3)) * [1.0, -1.0, 0.5]}]
    results = []
    for m in (model.exact, chosen):
        prediction, pull = m.linearize(w, m.environment(frames[0], like=w))
        results.append((prediction["forces"], *pull(cotangents)))
    for exact, near in zip(*results, strict=True):
        np.testing.assert_allclose(near, exact, rtol=0, atol=1e-8 * np.max(np.abs(exact)))


def test_weights_that_have_diverged_are_not_true_to_any_tolerance(frames: list[Frame]) -> None:
    """NaN is an error above every tolerance, not one of zero."""
    model, w = _model(frames)
    chosen = model.refined(w, frames)
    w[0] = np.nan
    assert not _error(chosen, w, frames) <= TOLERANCE
    assert chosen.refined(w, frames).spacing == 0
