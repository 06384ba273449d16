"""Uncertainty of frames, against finite differences and a dense P."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import ekfcore as ek
from ekfcore.atoms import Frame
from ekfcore.checkpoint import state_arrays, state_header
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)
from ekfcore.threads import limited_threads, thread_count
from ekfcore.uncertainty import CovarianceRoot

kpu_module = pytest.importorskip("ekfcore.potentials.kpu", reason="active learning needs ekfcore[active]")
from ekfcore.potentials.model_file import load_model, save_model  # noqa: E402 (needs pydantic, as the above)
from ekfcore.potentials.position import Position  # noqa: E402

KalmanUncertainty = kpu_module.KalmanUncertainty

Vector = NDArray[np.float64]


def _frames(count: int) -> list[Frame]:
    """Return small cells of copper and silver, displaced at random."""
    build = pytest.importorskip("ase.build", reason="frames need ekfcore[atoms]")
    rng, frames = np.random.default_rng(0), []
    for index in range(count):
        atoms = build.bulk("Cu", cubic=True)
        atoms.symbols[1 + index % 2] = "Ag"
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)
        frame = Frame.from_ase(atoms, f"frame {index}")
        frames.append(replace(frame, energy=float(rng.normal()), forces=rng.normal(size=(4, 3))))
    return frames


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """Return three frames of four atoms."""
    return _frames(3)


@pytest.fixture(scope="module")
def model(frames: list[Frame]) -> DeepPotential:
    """Return a small model of two elements."""
    elements = ("Ag", "Cu")
    architecture = Architecture(
        elements=elements,
        capacity=neighbour_capacity(frames, elements, 4.0),
        cutoff=4.0,
        embedding=(3, 4),
        axis=2,
        fitting=(5, 5),
    )
    return DeepPotential(architecture, fit_statistics(frames, architecture))


@pytest.fixture(scope="module")
def state(model: DeepPotential, frames: list[Frame]) -> ek.EKFState:
    """Return a filter that has measured the energy of each frame and some sum of forces."""
    config = ek.EKFConfig(noise=0.1, pending=4)
    layout = ek.partition(model.layer_sizes, block_size=60)
    state = ek.init(initial_weights(model.architecture, seed=1), layout, config)
    for frame in frames:
        functionals = [{"energy": np.asarray(0.25)}, {"forces": np.ones((4, 3)) * [[1.0], [0.0], [0.0], [-1.0]]}]
        _, H = model.jacobian(state.weights, model.environment(frame, like=state.weights), functionals)
        state, _ = ek.update(state, H, np.asarray([0.01, 0.02]), config=config)
    return state


def _differences(model: DeepPotential, w: Vector, frame: Frame) -> tuple[Vector, Vector]:
    """Return gradients of the energy, (n,), and the forces, (N, 3, n), by central differences."""
    sample, step = model.environment(frame, like=w), 1e-5
    energy, forces = [], []
    for k in range(len(w)):
        shift = np.zeros(len(w))
        shift[k] = step
        above, below = model.predict(w + shift, sample), model.predict(w - shift, sample)
        energy.append((above["energy"] - below["energy"]) / (2 * step))
        forces.append((above["forces"] - below["forces"]) / (2 * step))
    return np.asarray(energy), np.stack(forces, axis=-1)


def _dense(state: ek.EKFState) -> Vector:
    P = np.zeros((len(state.weights),) * 2)
    for index, part in enumerate(state.covariance.layout.slices):
        P[part, part] = state.covariance.dense(index)
    return P


def test_energy_and_forces_are_those_of_a_dense_p(
    model: DeepPotential, state: ek.EKFState, frames: list[Frame]
) -> None:
    """With all atoms, and gradients by finite differences."""
    found = KalmanUncertainty(model, state, fraction=1.0)(frames[0])
    energy, forces = _differences(model, state.weights, frames[0])
    P = _dense(state)
    assert found.energy == pytest.approx(energy @ P @ energy / 16, rel=1e-5)
    expected = np.einsum("aki,ij,akj->a", forces, P, forces)
    np.testing.assert_allclose(found.forces, expected, rtol=1e-5)
    np.testing.assert_array_equal(found.atoms, np.arange(4))
    assert found.force_mean == pytest.approx(np.mean(expected), rel=1e-5)
    assert found.force_max == pytest.approx(np.max(expected), rel=1e-5)


def test_a_share_of_the_atoms(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """The same atoms each time, others with another seed or frame, and the same numbers as with all atoms."""
    everything = KalmanUncertainty(model, state, fraction=1.0)(frames[1])
    half = KalmanUncertainty(model, state)
    found = half(frames[1])
    assert len(found.atoms) == 2
    np.testing.assert_allclose(found.forces, everything.forces[found.atoms], rtol=1e-12)
    np.testing.assert_array_equal(half(frames[1]).forces, found.forces)
    draws = {tuple(KalmanUncertainty(model, state, seed=seed)(frames[1]).atoms) for seed in range(12)}
    assert len(draws) > 2
    moved = [replace(frames[1], positions=frames[1].positions + shift) for shift in range(12)]
    assert len({tuple(half(frame).atoms) for frame in moved}) > 2
    assert len(KalmanUncertainty(model, state, fraction=0.01)(frames[1]).atoms) == 1


def test_the_scale_multiplies_variances(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """Each kind by its own factor; a file brings those of its last epoch."""
    scale = kpu_module.KpuScale(energy=3.0, force=5.0)
    plain, scaled = (KalmanUncertainty(model, state, scale=one)(frames[0]) for one in (None, scale))
    assert scaled.energy == pytest.approx(3 * plain.energy, rel=1e-14)
    np.testing.assert_allclose(scaled.forces, 5 * plain.forces, rtol=1e-14)


def test_many_frames_at_once(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """In threads, in the order of the frames, with the same bits."""
    uncertainty = KalmanUncertainty(model, state)
    found = uncertainty.many(frames * 5)
    for many, frame in zip(found, frames * 5, strict=True):
        one = uncertainty(frame)
        np.testing.assert_array_equal(many.forces, one.forces)
        assert many.energy == one.energy
    assert uncertainty.many([]) == []


def test_many_frames_share_the_threads(
    model: DeepPotential, state: ek.EKFState, frames: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is computed beside others has one thread for its kernels."""
    uncertainty = KalmanUncertainty(model, state)
    seen: list[int] = []

    def counted(root: CovarianceRoot, H: Any) -> Any:
        seen.append(thread_count())
        return products(root, H)

    products = CovarianceRoot.kpu
    monkeypatch.setattr(CovarianceRoot, "kpu", counted)
    with limited_threads(3):
        uncertainty.many(frames * 2)
        assert thread_count() == 3
    assert seen == [1] * (2 * len(frames))


def test_on_nodes(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """The nodal embedding gives the same uncertainty."""
    nodal = replace(model, spacing=1 / 256)
    exact = KalmanUncertainty(model, state)(frames[0])
    np.testing.assert_allclose(KalmanUncertainty(nodal, state)(frames[0]).forces, exact.forces, rtol=1e-8)


def test_in_single_precision(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """The product with the root in float32 is off by its rounding."""
    double, single = KalmanUncertainty(model, state), KalmanUncertainty(model, state, dtype="float32")
    np.testing.assert_allclose(single(frames[0]).forces, double(frames[0]).forces, rtol=1e-5)


def test_on_torch(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """Another library gives the same numbers, as arrays of NumPy."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    w = torch.asarray(state.weights)
    moved = ek.init(w, state.covariance.layout, ek.EKFConfig(p0=0.3))
    here = ek.init(state.weights, state.covariance.layout, ek.EKFConfig(p0=0.3))
    found, expected = (KalmanUncertainty(model, s).many(frames[:1])[0] for s in (moved, here))
    assert isinstance(found.forces, np.ndarray)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=1e-9)


def test_probes_estimate_the_mean(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """The mean of |y|^2 is that of all atoms within five standard errors; the last row is the energy's."""
    uncertainty = KalmanUncertainty(model, state, fraction=1.0)
    (Y,) = uncertainty.probes(frames[:1], 2000, np.random.default_rng(0))
    exact = uncertainty(frames[0])
    squares = np.sum(Y.astype(np.float64) ** 2, axis=1)
    assert Y.dtype == np.float32
    assert len(Y) == 2001
    assert abs(np.mean(squares[:-1]) - exact.force_mean) < 5 * np.std(squares[:-1]) / 2000**0.5
    assert squares[-1] == pytest.approx(exact.energy, rel=1e-5)


def test_last_layer(model: DeepPotential, state: ek.EKFState, frames: list[Frame]) -> None:
    """The weights of the linear layers at the end, of each element, and the uncertainty that they alone make."""
    chosen = model.last_layer()
    assert len(chosen) == 2 * 6
    w = state.weights.copy()
    w[chosen] = 0.0
    sample = model.environment(frames[0], like=w)
    assert model.predict(w, sample)["energy"] == pytest.approx(sample.energy_bias)
    found = KalmanUncertainty(model, state, fraction=1.0, parameters=chosen)(frames[0])
    _, forces = _differences(model, state.weights, frames[0])
    part = _dense(state)[np.ix_(chosen, chosen)]
    expected = np.einsum("aki,ij,akj->a", forces[..., chosen], part, forces[..., chosen])
    np.testing.assert_allclose(found.forces, expected, rtol=1e-5)


def test_from_the_folder_of_a_run(
    model: DeepPotential, state: ek.EKFState, frames: list[Frame], tmp_path: Path
) -> None:
    """Nodes and filter are those that the training left."""
    header = {"type": "filter", **state_header(state)}
    nodal, arrays = replace(model, spacing=1 / 256), state_arrays(state)
    save_model(tmp_path / "model.npz", nodal, settings={}, position=Position(), optimizer=header, arrays=arrays)
    expected = KalmanUncertainty(model, state, fraction=1.0)(frames[0])
    for trained in (tmp_path, load_model(tmp_path / "model.npz")):
        uncertainty = KalmanUncertainty.load(trained, fraction=1.0)
        assert uncertainty.model.spacing == 1 / 256
        np.testing.assert_allclose(uncertainty(frames[0]).forces, expected.forces, rtol=1e-8)


def test_a_model_without_covariance_is_refused(model: DeepPotential, state: ek.EKFState, tmp_path: Path) -> None:
    """Adam keeps none."""
    path, arrays = tmp_path / "model.npz", [("weights", state.weights)]
    save_model(path, model, settings={}, position=Position(), optimizer={"type": "adam"}, arrays=arrays)
    with pytest.raises(ek.InputError, match="trained with adam, which keeps no covariance"):
        KalmanUncertainty.load(tmp_path)


def test_symmetric_weights(model: DeepPotential, frames: list[Frame]) -> None:
    """Their gradients are the same, those of the energy and of the forces, in the nets of both elements."""
    ties = model.tied_weights()
    assert len(set(ties.tolist())) == len(ties) - 2 * 5  # one pair of elements for each neuron of the first layer
    w = initial_weights(model.architecture, seed=1)
    rng = np.random.default_rng(2)
    functionals = [{"energy": np.asarray(1.0)}, {"forces": rng.normal(size=(4, 3))}]
    _, H = model.jacobian(w, model.environment(frames[0], like=w), functionals)
    np.testing.assert_allclose(H, H[:, ties], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("settings", [{"fraction": 0.0}, {"fraction": 1.5}, {"seed": -1}])
def test_settings_are_checked(model: DeepPotential, state: ek.EKFState, settings: dict[str, Any]) -> None:
    """With the name of the setting."""
    with pytest.raises(ek.InputError, match=f"`{next(iter(settings))}` must"):
        KalmanUncertainty(model, state, **settings)
