"""P computed afresh, against the information of every component of every force."""

import numpy as np
import pytest
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)

refresh = pytest.importorskip("ekfcore.potentials.refresh", reason="active learning needs ekfcore[active]")

Vector = NDArray[np.float64]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return two frames of four copper atoms."""
    build = pytest.importorskip("ase.build", reason="frames need ekfcore[atoms]")
    rng, frames = np.random.default_rng(0), []
    for index in range(2):
        atoms = build.bulk("Cu", cubic=True)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        frames.append(
            Frame(
                numbers=atoms.numbers,
                positions=atoms.positions,
                cell=np.asarray(atoms.cell),
                pbc=atoms.pbc,
                energy=float(index),
                forces=np.zeros((4, 3)),
                source=f"frame {index}",
            )
        )
    return frames


@pytest.fixture(scope="module")
def model(frames: list[Frame]) -> DeepPotential:
    """Return a model of a few dozen weights."""
    capacity = neighbour_capacity(frames, ["Cu"], 4.0)
    architecture = Architecture(
        elements=("Cu",), capacity=capacity, cutoff=4.0, embedding=(2, 3), axis=2, fitting=(4, 4)
    )
    return DeepPotential(architecture, fit_statistics(frames, architecture))


def _information(model: DeepPotential, w: Vector, frames: list[Frame]) -> Vector:
    """Return the sum over all energies per atom and all force components, with noise 0.5 and 2."""
    total = np.zeros((len(w), len(w)))
    for frame in frames:
        components = [{"forces": row.reshape(4, 3)} for row in np.eye(12)]
        functionals = [{"energy": np.asarray(0.25)}, *components]
        _, H = model.jacobian(w, model.environment(frame, like=w), functionals)
        H = H / np.asarray([0.5] + [2.0] * 12)[:, None]
        total += H.T @ H
    return total


def test_the_inverse_is_the_information(model: DeepPotential, frames: list[Frame]) -> None:
    """Averaged over the signs, of which there are many here: the error falls as the root of their number."""
    w, p0 = initial_weights(model.architecture, seed=1), 50.0
    layout = ek.partition(model.layer_sizes, block_size=20)
    errors = []
    for probes in (40, 4000):
        state = refresh.refreshed(
            model, w, frames, layout=layout, probes=probes, force_noise=2.0, energy_noise=0.5, p0=p0
        )
        expected, error = _information(model, w, frames), 0.0
        found = np.linalg.inv(state.covariance.multiply(np.eye(len(w)))) - np.eye(len(w)) / p0
        for part in layout.slices:
            error = max(error, np.max(np.abs(found[part, part] - expected[part, part])) / np.max(np.abs(expected)))
        errors.append(error)
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 3
    np.testing.assert_array_equal(state.weights, w)


def test_it_is_a_state_of_the_filter(model: DeepPotential, frames: list[Frame]) -> None:
    """Its traces are those of its blocks, and it absorbs a measurement."""
    w = initial_weights(model.architecture, seed=1)
    state = refresh.refreshed(model, w, frames)
    traces = [np.trace(state.covariance.dense(k)) for k in range(len(state.covariance.layout.sizes))]
    np.testing.assert_allclose(state.covariance.traces, traces, rtol=1e-12)
    _, info = ek.update(state, np.ones(len(w)), 0.1, config=ek.EKFConfig(rows=128))
    assert info.status == "ok"
    assert info.hph[0] == pytest.approx(float(ek.kpu(state, np.ones(len(w)))[0]))


def test_frames_of_the_training_are_certain(model: DeepPotential, frames: list[Frame]) -> None:
    """More so than a frame that is new, or than before they were seen."""
    w = initial_weights(model.architecture, seed=1)
    kpu = pytest.importorskip("ekfcore.potentials.kpu", reason="active learning needs ekfcore[active]")
    known, other = (kpu.KalmanUncertainty(model, refresh.refreshed(model, w, [f]), fraction=1.0) for f in frames)
    assert known(frames[0]).force_mean < 0.5 * other(frames[0]).force_mean


def test_mistakes(model: DeepPotential, frames: list[Frame]) -> None:
    """One line each."""
    w = initial_weights(model.architecture, seed=1)
    with pytest.raises(ek.InputError, match="`frames` must hold at least one frame"):
        refresh.refreshed(model, w, [])
    with pytest.raises(ek.InputError, match="`p0` must be a positive number, got -1"):
        refresh.refreshed(model, w, frames, p0=-1.0)
