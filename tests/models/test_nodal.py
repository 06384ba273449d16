"""The nodal embedding against the exact nets, and its derivatives against its own energy."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.errors import InputError
from ekfcore.models.deep_potential import (
    DeepPotential,
    NodalPotential,
    find_kernels,
    fit_nodes,
    interpolation_error,
)
from ekfcore.models.deep_potential._nodal_generic import kernels as generic
from ekfcore.models.deep_potential.nodal_kernels import NodalKernels
from ekfcore.models.deep_potential.stencil import FIRST, ORDER, stencil_weights
from ekfcore.protocols import JacobianProvider

if TYPE_CHECKING:
    from conftest import Xp

Vector: TypeAlias = NDArray[np.float64]
Case: TypeAlias = tuple[DeepPotential, Frame, Vector]
MakeCase: TypeAlias = Callable[..., Case]

FINE = 1 / 256  # [1/Å] where smooth nets are interpolated to about 1e-12
COARSE = 1 / 4  # [1/Å] where they are not: what holds here holds for the nodal model itself
NAMES = ("energy", "forces", "virial")


@pytest.fixture(params=["numba", "generic", "cupy, emulated"])
def kernels(request: pytest.FixtureRequest) -> NodalKernels:
    """Return each set of kernels for NumPy arrays."""
    if request.param == "generic":
        return generic
    if request.param == "cupy, emulated":
        emulated: NodalKernels = request.getfixturevalue("emulated_nodal").kernels
        return emulated
    pytest.importorskip("numba", reason="numba is not installed")
    from ekfcore.models.deep_potential import _nodal_numba

    return _nodal_numba.kernels


def _close(actual: Any, desired: Any, tolerance: float) -> None:
    """Compare relative to the largest number."""
    scale = max(float(np.max(np.abs(desired), initial=0.0)), 1e-3)
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance * scale)


def _cotangents(frame: Frame) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    forces = [rng.normal(size=(frame.n_atoms, 3)) for _ in range(2)]
    virial = rng.normal(size=(3, 3))
    return [
        {"forces": forces[0]},
        {"energy": np.asarray(1.3)},
        {"energy": np.asarray(-0.4), "virial": virial},
        {},
        {"virial": virial},
        {"energy": np.asarray(0.2), "forces": forces[1], "virial": virial},
    ]


def _derivative(f: Callable[[float], Any], h: float = 1e-4) -> Any:
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def test_the_stencil_reproduces_polynomials() -> None:
    """Eight nodes carry every polynomial of degree seven, and each node itself."""
    t = np.linspace(0, 1, 11)
    nodes = np.arange(FIRST, FIRST + ORDER)
    for degree in range(ORDER):
        np.testing.assert_allclose(stencil_weights(t) @ nodes**degree, t**degree, rtol=0, atol=1e-11)
    assert np.max(np.abs(stencil_weights(np.asarray([0.0]))[0] - (nodes == 0))) < 1e-14


class TestAgainstTheExactNets:
    """The interpolated model is the model."""

    def test_prediction_and_jacobian(self, case: Case, kernels: NodalKernels) -> None:
        """Every variant of the model, functionals of every kind, several at once."""
        model, frame, w = case
        if model.architecture.activation == "relu6":
            assert fit_nodes(model, w, [frame], 1e-9) is None
            return
        nodal = NodalPotential(model, FINE, kernels)
        exact_sample, sample = model.environment(frame, like=w), nodal.environment(frame, like=w)
        expected, actual = model.predict(w, exact_sample), nodal.predict(w, sample)
        assert sorted(actual) == sorted(NAMES)
        for name in NAMES:
            _close(actual[name], expected[name], 1e-9)
        cotangents = _cotangents(frame)
        values, H = nodal.jacobian(w, sample, cotangents)
        expected_values, expected_H = model.jacobian(w, exact_sample, cotangents)
        _close(values, expected_values, 1e-9)
        assert H.shape == expected_H.shape
        for row, exact in zip(H, expected_H, strict=True):
            _close(row, exact, 1e-9)

    def test_many_functionals_at_once(self, case: Case, kernels: NodalKernels) -> None:
        """Enough of them to go past the descriptor: the same as one at a time, and again with other ones."""
        model, frame, w = case
        nodal = NodalPotential(model, FINE, kernels)
        sample, rng = nodal.environment(frame, like=w), np.random.default_rng(7)
        _, pull = nodal.linearize(w, sample)
        for _ in range(2):
            cotangents = [{"forces": rng.normal(size=(frame.n_atoms, 3))} for _ in range(9)]
            cotangents.append({"energy": np.asarray(0.3), "virial": rng.normal(size=(3, 3))})
            values, H = pull(cotangents)
            for cotangent, value, row in zip(cotangents, values, H, strict=True):
                expected, gradient = nodal.jacobian(w, sample, [cotangent])
                _close(value, expected[0], 1e-12)
                _close(row, gradient[0], 1e-12)

    @pytest.mark.parametrize("distance", [0.5, 0.2], ids="{} Å".format)
    def test_collision(self, make_case: MakeCase, kernels: NodalKernels, distance: float) -> None:
        """Atoms closer than any in training get nodes of their own, and few of them."""
        model, frame, w = make_case("Cu O O Cu")
        nodal = fit_nodes(model, w, [frame], 1e-9)
        assert nodal is not None
        nodal = replace(nodal, kernels=kernels)
        positions = frame.positions.copy()
        positions[1] = positions[0] + [0.0, 0.0, distance]
        crash = replace(frame, positions=positions)
        before, after = (
            sum(len(n) for g in nodal.environment(f, like=w).groups for n in g.nodes) for f in (frame, crash)
        )
        assert after < before + 8 * ORDER
        expected = model.predict(w, model.environment(crash, like=w))
        actual = nodal.predict(w, nodal.environment(crash, like=w))
        for name in NAMES:
            _close(actual[name], expected[name], 1e-9)


class TestOwnDerivatives:
    """On nodes far too coarse, derivatives are still those of the nodal energy: nothing is inconsistent."""

    def test_the_nodes_are_too_coarse(self, make_case: MakeCase, kernels: NodalKernels) -> None:
        """Else this class would test the exact model."""
        model, frame, w = make_case("Cu O O Cu")
        assert interpolation_error(NodalPotential(model, COARSE, kernels), w, [frame]) > 1e-6

    def test_forces_and_virial(self, make_case: MakeCase, kernels: NodalKernels) -> None:
        """Against finite differences of the energy in positions and strain."""
        model, frame, w = make_case("Cu O O Cu")
        nodal = NodalPotential(model, COARSE, kernels)

        def energy(moved: Frame) -> float:
            return float(nodal.predict(w, nodal.environment(moved, like=w))["energy"])

        actual = nodal.predict(w, nodal.environment(frame, like=w))
        for index in np.ndindex(frame.n_atoms, 3):
            step = np.zeros((frame.n_atoms, 3))
            step[index] = 1.0

            def moved(t: float, step: Vector = step) -> float:
                return energy(replace(frame, positions=frame.positions + t * step))

            slope = _derivative(moved)
            assert abs(actual["forces"][index] + slope) < 1e-8 * max(1.0, np.max(np.abs(actual["forces"])))
        for index in np.ndindex(3, 3):
            strain = np.zeros((3, 3))
            strain[index] = 1.0

            def strained(t: float, strain: Vector = strain) -> float:
                deform = np.eye(3) + t * strain
                return energy(replace(frame, positions=frame.positions @ deform, cell=frame.cell @ deform))

            slope = _derivative(strained)
            assert abs(actual["virial"][index] + slope) < 1e-8 * max(1.0, np.max(np.abs(actual["virial"])))

    def test_weight_gradients(self, make_case: MakeCase, kernels: NodalKernels) -> None:
        """Against finite differences of the functionals along random directions."""
        model, frame, w = make_case("Cu O O Cu", resnet_dt=True)
        nodal = NodalPotential(model, COARSE, kernels)
        sample, cotangents = nodal.environment(frame, like=w), _cotangents(frame)
        values, H = nodal.jacobian(w, sample, cotangents)

        def functionals(weights: Vector) -> Vector:
            prediction = nodal.predict(weights, sample)
            return np.array([sum(np.sum(c * prediction[name]) for name, c in z.items()) for z in cotangents])

        _close(values, functionals(w), 1e-10)
        rng = np.random.default_rng(1)
        for _ in range(3):
            direction = rng.normal(size=w.shape) / np.sqrt(len(w))

            def along(t: float, direction: Vector = direction) -> Vector:
                return functionals(w + t * direction)

            _close(H @ direction, _derivative(along, h=1e-3), 1e-8)


class TestKernels:
    """What the fast kernels must share with the ones on whole arrays."""

    def test_numba_agrees_with_whole_arrays(self, case: Case) -> None:
        """Same sums in another order."""
        pytest.importorskip("numba", reason="numba is not installed")
        from ekfcore.models.deep_potential._nodal_numba import kernels as compiled

        model, frame, w = case
        rng = np.random.default_rng(0)
        for group in NodalPotential(model, FINE, generic).environment(frame, like=w).groups:
            C = rng.normal(size=group.B.shape)
            moves, strains = rng.normal(size=(3, frame.n_atoms, 3)), rng.normal(size=(3, 3, 3))
            moves[1], strains[2] = 0.0, 0.0
            strains[1] = 0.0
            for one, two in zip(
                generic.forces(group, C, FINE, frame.n_atoms),
                compiled.forces(group, C, FINE, frame.n_atoms),
                strict=True,
            ):
                # Relative to the terms of the sums, which cancel: C / spacing.
                np.testing.assert_allclose(two, one, rtol=0, atol=1e-14 / FINE)
            expected = generic.tangent(group, moves, strains, FINE)
            actual = compiled.tangent(group, moves, strains, FINE)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-14 / FINE)
            assert not np.any(actual[1])

    def test_libraries(self, make_case: MakeCase, xp: "Xp") -> None:
        """Every library that can add to repeated places gives the same numbers; the others say so."""
        model, frame, w = make_case("Cu O O Cu")
        kernels = find_kernels(xp.namespace)
        if kernels is None:
            assert xp.library.name == "STRICT"
            return
        weights = xp.asarray(w)
        nodal = NodalPotential(model, FINE, kernels)
        cotangents = [{name: xp.asarray(a) for name, a in z.items()} for z in _cotangents(frame)]
        values, H = nodal.jacobian(weights, nodal.environment(frame, like=weights), cotangents)
        expected_values, expected_H = model.jacobian(w, model.environment(frame, like=w), _cotangents(frame))
        _close(xp.to_numpy(values), expected_values, 1e-9)
        _close(xp.to_numpy(H), expected_H, 1e-9)

    def test_float32(self, make_case: MakeCase, kernels: NodalKernels) -> None:
        """Single precision in, single precision out."""
        model, frame, w = make_case("Cu O O Cu")
        nodal = NodalPotential(model, 1 / 32, kernels)
        single = w.astype(np.float32)
        sample = nodal.environment(frame, like=single)
        cotangents = [{n: a.astype(np.float32) for n, a in z.items()} for z in _cotangents(frame)]
        prediction, (_, H) = nodal.predict(single, sample), nodal.jacobian(single, sample, cotangents)
        expected = model.predict(w, model.environment(frame, like=w))
        assert {a.dtype for a in (*prediction.values(), H)} == {np.dtype(np.float32)}
        _close(prediction["forces"], expected["forces"], 1e-3)

    def test_is_a_jacobian_provider(self, make_case: MakeCase, kernels: NodalKernels) -> None:
        """The protocol holds, and one evaluation serves prediction and gradients."""
        model, frame, w = make_case("Cu O")
        nodal = NodalPotential(model, FINE, kernels)
        provider: JacobianProvider[Any] = nodal
        assert provider.layer_sizes == model.layer_sizes
        sample, cotangents = nodal.environment(frame, like=w), _cotangents(frame)
        prediction, pull = nodal.linearize(w, sample)
        assert np.array_equal(prediction["forces"], nodal.predict(w, sample)["forces"])
        assert np.array_equal(pull(cotangents)[1], nodal.jacobian(w, sample, cotangents)[1])
        with pytest.raises(InputError, match="charge"):
            pull([{"charge": np.asarray(1.0)}])


class TestSpacing:
    """The distance of the nodes follows from a tolerance."""

    def test_fitted(self, make_case: MakeCase) -> None:
        """The nodes chosen keep the tolerance with room to spare, and a coarser one needs fewer."""
        model, frame, w = make_case("Cu O O Cu")
        fine, coarse = fit_nodes(model, w, [frame], 1e-9), fit_nodes(model, w, [frame], 1e-4)
        assert fine is not None
        assert coarse is not None
        assert interpolation_error(fine, w, [frame]) <= 1e-9 / 16
        assert interpolation_error(coarse, w, [frame]) <= 1e-4 / 16
        assert coarse.spacing > fine.spacing

    def test_steeper_nets_need_more_nodes(self, make_case: MakeCase) -> None:
        """What a training may come to."""
        model, frame, w = make_case("Cu O O Cu")
        steep = w.copy()
        for k in range(model.architecture.n_embeddings):
            start = k * model.architecture.embedding_net.n_params
            steep[start : start + model.architecture.embedding[0]] *= 4  # the first matrix of each net
        gentle, fine = fit_nodes(model, w, [frame], 1e-8), fit_nodes(model, steep, [frame], 1e-8)
        assert gentle is not None
        assert fine is not None
        assert fine.spacing < gentle.spacing

    def test_kinks_are_refused(self, make_case: MakeCase) -> None:
        """A net with kinks, or a tolerance below rounding, has no nodes."""
        model, frame, w = make_case("Cu O O", activation="relu6")
        assert fit_nodes(model, w, [frame], 1e-9) is None
        model, frame, w = make_case("Cu O O")
        assert fit_nodes(model, w, [frame], 1e-16) is None

    def test_nothing_to_compare_on(self, make_case: MakeCase) -> None:
        """An error without frames would always be zero."""
        model, _, w = make_case("Cu O")
        kernels = find_kernels(np)
        assert kernels is not None
        with pytest.raises(InputError, match="frame"):
            interpolation_error(NodalPotential(model, FINE, kernels), w, [])
