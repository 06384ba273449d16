"""The Deep Potential against autograd, finite differences and the symmetries of space."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.errors import InputError
from ekfcore.models.deep_potential import DeepPotential, EmbeddingKernels, build_environment, whole_arrays
from ekfcore.protocols import JacobianProvider

if TYPE_CHECKING:
    from conftest import AssertClose, Xp

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]

NAMES = ("energy", "forces", "virial")
TIGHT = 1e-10  # relative to the largest number of an array; what is compared agrees to 1e-14
DIFFERENCES = 1e-8  # the same for finite differences of fourth order
FLOAT32 = 2e-4  # a few hundred roundings of 6e-8 in sums whose terms cancel


@pytest.fixture(params=["fastest", "whole arrays"])
def kernels(request: pytest.FixtureRequest) -> EmbeddingKernels | None:
    """Return each way to evaluate the embedding nets; None is the default."""
    return None if request.param == "fastest" else whole_arrays(np)


@pytest.fixture
def case(case: Case, kernels: EmbeddingKernels | None) -> Case:
    """Return every variant with each of them."""
    model, frame, w = case
    return replace(model, kernels=kernels), frame, w


def _close(actual: Any, desired: Any, tolerance: float) -> None:
    """Compare arrays of NumPy relative to the largest number."""
    scale = max(float(np.max(np.abs(desired), initial=0.0)), 1e-3)  # below it, rounding of numbers around one is left
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale)


def _cotangents(frame: Frame) -> list[dict[str, Any]]:
    """Functionals of each quantity alone and mixed, in an order that does not sort them by kind."""
    rng = np.random.default_rng(5)
    n = frame.n_atoms

    def draw(*names: str) -> dict[str, Any]:
        weights = {
            "energy": np.asarray(rng.normal()),
            "forces": rng.normal(size=(n, 3)),
            "virial": rng.normal(size=(3, 3)),
        }
        return {name: weights[name] for name in names}

    return [
        draw(*names) for names in [("forces",), ("energy",), ("energy", "virial"), (), ("virial",), NAMES, ("forces",)]
    ]


def _predict(model: DeepPotential, w: Vector, frame: Frame) -> dict[str, Any]:
    return dict(model.predict(w, model.environment(frame, like=w)))


def _energy(model: DeepPotential, w: Vector, frame: Frame) -> float:
    return float(_predict(model, w, frame)["energy"])


def _derivative(f: Callable[[float], Any], h: float = 1e-3) -> Any:
    """Central difference of fourth order at zero."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def _strained(frame: Frame, strain: Vector) -> Frame:
    deform = np.eye(3) + strain
    return replace(frame, positions=frame.positions @ deform, cell=frame.cell @ deform)


class TestAgainstAutograd:
    """The same numbers as torch, from formulas written a second time."""

    def test_prediction(self, case: Case, reference: ModuleType) -> None:
        """Energy, forces and virial."""
        model, frame, w = case
        expected = reference.predict(model, reference.torch.tensor(w), frame)
        actual = _predict(model, w, frame)
        assert sorted(actual) == sorted(NAMES)
        for name in NAMES:
            _close(actual[name], expected[name].detach().numpy(), TIGHT)

    def test_jacobian(self, case: Case, reference: ModuleType) -> None:
        """Functionals of every kind, several at once."""
        model, frame, w = case
        cotangents = _cotangents(frame)
        values, H = model.jacobian(w, model.environment(frame, like=w), cotangents)
        expected_values, expected_H = reference.jacobian(model, w, frame, cotangents)
        _close(values, expected_values, TIGHT)
        assert H.shape == expected_H.shape
        for row, expected in zip(H, expected_H, strict=True):
            _close(row, expected, TIGHT)


class TestAgainstFiniteDifferences:
    """Derivatives are those of the model's own energy."""

    def test_jacobian(self, case: Case) -> None:
        """Along random directions in weight space."""
        model, frame, w = case
        environment, cotangents = model.environment(frame, like=w), _cotangents(frame)
        _, H = model.jacobian(w, environment, cotangents)
        rng = np.random.default_rng(1)
        for _ in range(3):
            direction = rng.normal(size=w.shape) / np.sqrt(len(w))

            def values(t: float, direction: Vector = direction) -> Vector:
                prediction = model.predict(w + t * direction, environment)
                return np.array([sum(np.sum(c * prediction[name]) for name, c in z.items()) for z in cotangents])

            _close(H @ direction, _derivative(values), DIFFERENCES)

    def test_forces(self, case: Case) -> None:
        """Minus the derivative with respect to each position."""
        model, frame, w = case
        expected = np.zeros((frame.n_atoms, 3))
        for index in np.ndindex(expected.shape):
            step = np.zeros_like(expected)
            step[index] = 1.0

            def energy(t: float, step: Vector = step) -> float:
                return _energy(model, w, replace(frame, positions=frame.positions + t * step))

            expected[index] = -_derivative(energy)
        _close(_predict(model, w, frame)["forces"], expected, DIFFERENCES)

    def test_virial(self, case: Case) -> None:
        """Minus the derivative with respect to each component of the strain."""
        model, frame, w = case
        expected = np.zeros((3, 3))
        for index in np.ndindex(3, 3):
            strain = np.zeros((3, 3))
            strain[index] = 1.0

            def energy(t: float, strain: Vector = strain) -> float:
                return _energy(model, w, _strained(frame, t * strain))

            expected[index] = -_derivative(energy, h=3e-4)
        _close(_predict(model, w, frame)["virial"], expected, DIFFERENCES)


class TestSymmetries:
    """What does not change the physics does not change the energy."""

    def test_translation(self, case: Case) -> None:
        """Atoms may leave the cell, together or one by one by whole lattice vectors."""
        model, frame, w = case
        shifts = np.random.default_rng(2).integers(-2, 3, (frame.n_atoms, 3)) * frame.pbc
        moved = replace(frame, positions=frame.positions + [1.7, -8.2, 3.1] + shifts @ frame.cell)
        expected, actual = _predict(model, w, frame), _predict(model, w, moved)
        for name in NAMES:
            _close(actual[name], expected[name], TIGHT)

    @pytest.mark.parametrize("handedness", [1, -1], ids=["rotation", "reflection"])
    def test_rotation(self, case: Case, handedness: int) -> None:
        """Forces turn with the atoms and the cell, the virial on both sides."""
        model, frame, w = case
        Q, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))
        Q *= handedness * np.linalg.det(Q)
        turned = replace(frame, positions=frame.positions @ Q, cell=frame.cell @ Q)
        expected, actual = _predict(model, w, frame), _predict(model, w, turned)
        _close(actual["energy"], expected["energy"], TIGHT)
        _close(actual["forces"], expected["forces"] @ Q, TIGHT)
        _close(actual["virial"], Q.T @ expected["virial"] @ Q, TIGHT)

    def test_permutation(self, case: Case) -> None:
        """The order of atoms is a matter of names."""
        model, frame, w = case
        order = np.random.default_rng(4).permutation(frame.n_atoms)
        renamed = replace(frame, numbers=frame.numbers[order], positions=frame.positions[order])
        expected, actual = _predict(model, w, frame), _predict(model, w, renamed)
        _close(actual["energy"], expected["energy"], TIGHT)
        _close(actual["forces"], expected["forces"][order], TIGHT)
        _close(actual["virial"], expected["virial"], TIGHT)

    def test_repeated_cell(self, make_case: MakeCase) -> None:
        """Two cells side by side have twice the energy and virial, and the same forces."""
        model, frame, w = make_case("Cu O O")
        double = replace(
            frame,
            numbers=np.tile(frame.numbers, 2),
            positions=np.concatenate([frame.positions, frame.positions + frame.cell[0]]),
            cell=frame.cell * [[2], [1], [1]],
        )
        one, two = _predict(model, w, frame), _predict(model, w, double)
        _close(two["energy"], 2 * one["energy"], TIGHT)
        _close(two["virial"], 2 * one["virial"], TIGHT)
        _close(two["forces"], np.tile(one["forces"], (2, 1)), TIGHT)


def test_forces_and_torques_balance(make_case: MakeCase) -> None:
    """No net force, and a symmetric virial: the stress exerts no torque."""
    model, frame, w = make_case("Cu O O Cu")
    prediction = _predict(model, w, frame)
    _close(prediction["forces"].sum(axis=0), np.zeros(3), TIGHT)
    _close(prediction["virial"], prediction["virial"].T, TIGHT)


@pytest.mark.parametrize("edge", [4.0, 1.0], ids=["cutoff", "cutoff_smooth"])
def test_smooth_where_an_atom_crosses(make_case: MakeCase, edge: float) -> None:
    """Neither energy nor forces jump where the switching function begins and ends."""
    model, frame, w = make_case("O H H", pbc=(False, False, False), capacity=(4, 4))
    axis = np.array([0.6, 0.0, 0.8])

    def at(distance: float) -> dict[str, Any]:
        # The other atom stands aside, so that the crossing changes an environment that is not empty.
        positions = [np.zeros(3), np.array([0.0, 1.1, 0.0]), distance * axis]
        return _predict(model, w, replace(frame, positions=np.stack(positions)))

    step = 1e-5
    before, after = at(edge - step), at(edge + step)
    assert before["forces"].any()
    # The energy changes by force times distance, the force by its own slope, at most a few eV/Å^2 here.
    drop = float(after["energy"] - before["energy"])
    slope = float(np.sum(before["forces"][2] * axis))
    assert abs(drop + 2 * step * slope) < 1e-8
    np.testing.assert_allclose(after["forces"], before["forces"], rtol=0, atol=1e-3)
    if edge == model.architecture.cutoff:
        assert abs(drop) < 1e-12
        np.testing.assert_allclose(after["forces"], before["forces"], rtol=0, atol=1e-7)


@pytest.mark.parametrize("rows", [1, 7, 10**9])
def test_groups_do_not_matter(case: Case, rows: int) -> None:
    """However the atoms are split for the sake of the cache, the sums are the same."""
    model, frame, w = case
    results = []
    for limit in (64, rows):
        environment = build_environment(frame, model.architecture, model.statistics, like=w, rows=limit)
        results.append((dict(model.predict(w, environment)), model.jacobian(w, environment, _cotangents(frame))))
    if rows != 7:
        assert len(environment.groups) == (frame.n_atoms if rows == 1 else len(set(frame.symbols)))
    (expected, (expected_values, expected_H)), (actual, (values, H)) = results
    for name in NAMES:
        _close(actual[name], expected[name], TIGHT)
    _close(values, expected_values, TIGHT)
    _close(H, expected_H, TIGHT)


class TestArrayLibraries:
    """Any library that follows the standard gives the numbers of NumPy, in its own arrays."""

    @pytest.fixture(params=["Cu O O Cu", "Cu Cu"], ids=["two elements", "absent element"])
    def small(self, request: pytest.FixtureRequest, make_case: MakeCase) -> Case:
        """Return two of the variants; what the others add does not depend on the library."""
        elements = ("O", "Cu")
        return make_case(request.param, elements=elements, resnet_dt=True, capacity=(9, 9))

    def test_prediction(self, small: Case, xp: "Xp", assert_close: "AssertClose") -> None:
        """Energy, forces and virial."""
        model, frame, w = small
        like = xp.asarray(w)
        expected = _predict(model, w, frame)
        actual = model.predict(like, model.environment(frame, like=like))
        for name in NAMES:
            scale = float(np.max(np.abs(expected[name])))
            assert_close(actual[name], xp.asarray(expected[name]), rtol=TIGHT, atol=TIGHT * scale)

    def test_jacobian(self, small: Case, xp: "Xp", assert_close: "AssertClose") -> None:
        """All functionals at once."""
        model, frame, w = small
        like, cotangents = xp.asarray(w), _cotangents(frame)
        expected = model.jacobian(w, model.environment(frame, like=w), cotangents)
        theirs = [{name: xp.asarray(c) for name, c in cotangent.items()} for cotangent in cotangents]
        actual = model.jacobian(like, model.environment(frame, like=like), theirs)
        for mine, numpys in zip(actual, expected, strict=True):
            assert_close(mine, xp.asarray(numpys), rtol=TIGHT, atol=TIGHT * float(np.max(np.abs(numpys))))

    def test_single_precision(self, small: Case, xp: "Xp", assert_close: "AssertClose") -> None:
        """Weights in float32 make everything float32, and lose the digits that this must cost."""
        model, frame, w = small
        like, cotangents = xp.asarray(w, "float32"), _cotangents(frame)
        environment = model.environment(frame, like=like)
        theirs = [{name: xp.asarray(c, "float32") for name, c in cotangent.items()} for cotangent in cotangents]
        actual = [*model.predict(like, environment).values(), *model.jacobian(like, environment, theirs)]
        double = model.environment(frame, like=w)
        expected = [*model.predict(w, double).values(), *model.jacobian(w, double, cotangents)]
        for mine, numpys in zip(actual, expected, strict=True):
            scale = float(np.max(np.abs(numpys)))
            assert_close(mine, xp.asarray(numpys, "float32"), rtol=0, atol=FLOAT32 * scale)


def test_is_a_jacobian_provider(case: Case) -> None:
    """The parts add up to the weights, and unused networks get no gradient."""
    model, frame, w = case
    provider: JacobianProvider[Any] = model
    assert sum(provider.layer_sizes) == model.n_params == len(w)
    _, H = model.jacobian(w, model.environment(frame, like=w), [{"energy": np.asarray(1.0)}])
    size = model.architecture.fitting_net.n_params
    fittings = H[0, len(w) - size * len(model.architecture.elements) :].reshape(-1, size)
    used = [element in frame.symbols for element in model.architecture.elements]
    assert (fittings.any(axis=1) == used).all()


def test_unknown_quantity(make_case: MakeCase) -> None:
    """A misspelt name is not taken for zero."""
    model, frame, w = make_case("Cu Cu")
    with pytest.raises(InputError, match=r"`cotangents` may name energy, forces and virial, got \['stress'\]"):
        model.jacobian(w, model.environment(frame, like=w), [{"stress": np.eye(3)}])
