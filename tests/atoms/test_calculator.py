"""EKFCalculator against finite differences and the exact nets, and what it refuses."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ekfcore.errors import CheckpointError, InputError

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
training = pytest.importorskip("ekfcore.potentials.model_file", reason="a model file needs ekfcore[atoms]")

from ase import Atoms, units  # noqa: E402
from ase.calculators.calculator import PropertyNotImplementedError  # noqa: E402
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress  # noqa: E402
from ase.io import write  # noqa: E402
from ase.md.verlet import VelocityVerlet  # noqa: E402

from ekfcore.atoms import Frame, read_frames  # noqa: E402
from ekfcore.potentials import EKFCalculator  # noqa: E402


@pytest.mark.parametrize("spacing", [1 / 64, 0.0], ids=["nodes", "exact nets"])
def test_forces_and_stress_are_derivatives_of_the_energy(loaded: Any, alloy: Atoms, spacing: float) -> None:
    """ASE's own finite differences agree below 1e-6."""
    alloy.calc = EKFCalculator(replace(loaded, model=replace(loaded.model, spacing=spacing)))
    assert np.abs(alloy.get_forces()).max() > 0.01
    assert np.abs(alloy.get_stress()).max() > 1e-4
    assert np.abs(calculate_numerical_forces(alloy, eps=1e-4) - alloy.get_forces()).max() < 1e-6
    assert np.abs(calculate_numerical_stress(alloy, eps=1e-5) - alloy.get_stress()).max() < 1e-6


def test_agrees_with_the_model(loaded: Any, alloy: Atoms) -> None:
    """The nodes change nothing that could be seen, and no sign is lost on the way to ASE."""
    alloy.calc = EKFCalculator(replace(loaded, model=replace(loaded.model, spacing=1 / 128)))
    (exact,) = training.evaluate(
        replace(loaded.model, spacing=0.0), loaded.weights, [Frame.from_ase(alloy.copy(), "alloy")]
    )
    np.testing.assert_allclose(alloy.get_potential_energy(), exact["energy"], rtol=1e-9)
    np.testing.assert_allclose(alloy.get_forces(), exact["forces"], atol=1e-8)
    np.testing.assert_allclose(-alloy.get_stress(voigt=False) * alloy.get_volume(), exact["virial"], atol=1e-8)
    assert alloy.get_potential_energy(force_consistent=True) == alloy.get_potential_energy()
    virial = Frame.from_ase(alloy, "alloy").virial
    assert virial is not None
    np.testing.assert_allclose(virial, exact["virial"], atol=1e-8)


def test_reads_no_more_than_the_model(loaded: Any, alloy: Atoms, tmp_path: Path) -> None:
    """P, which is nearly all of a file, is neither read nor checked; the weights are."""
    path, P = tmp_path / "model.npz", np.full(2**17, 0.5)
    arrays = [("weights", loaded.weights), ("lower.0", P)]
    common = {"settings": {}, "position": loaded.position, "optimizer": loaded.optimizer, "arrays": arrays}
    training.save_model(path, loaded.model, **common)
    alloy.calc = EKFCalculator(loaded)
    energy, data = alloy.get_potential_energy(), path.read_bytes()
    for array, refused in ((P, False), (loaded.weights, True)):
        place = data.index(array.tobytes()[:64]) + 20
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(CheckpointError, match="was altered"):
            training.load_model(path)
        if refused:
            with pytest.raises(CheckpointError, match=r"array 'weights' cannot be read \(Bad CRC-32"):
                EKFCalculator(path)
        else:
            alloy.calc = EKFCalculator(path)
            assert alloy.get_potential_energy() == energy


def test_reads_a_file_or_the_folder_of_a_run(loaded: Any, alloy: Atoms, tmp_path: Path) -> None:
    """Both give the model that was saved."""
    alloy.calc = EKFCalculator(loaded)
    energy = alloy.get_potential_energy()
    training.save_model(
        tmp_path / "model.npz",
        loaded.model,
        settings={},
        position=loaded.position,
        optimizer=loaded.optimizer,
        arrays=[("weights", loaded.weights)],
    )
    for path in (tmp_path, str(tmp_path / "model.npz")):
        alloy.calc = EKFCalculator(path)
        assert alloy.get_potential_energy() == energy
    (tmp_path / "model.npz").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        EKFCalculator(tmp_path)
    with pytest.raises(InputError, match="elsewhere: No such file"):
        EKFCalculator(tmp_path / "elsewhere")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_computes_with_other_libraries(loaded: Any, alloy: Atoms, backend: str) -> None:
    """The arrays that ASE gets are those of NumPy."""
    library = pytest.importorskip(backend, reason=f"{backend} is not installed")
    if backend == "jax":
        library.config.update("jax_enable_x64", True)
    alloy.calc = EKFCalculator(loaded)
    forces = alloy.get_forces()
    alloy.calc = EKFCalculator(loaded, backend=backend)
    assert type(alloy.get_forces()) is np.ndarray
    np.testing.assert_allclose(alloy.get_forces(), forces, atol=1e-10)


def test_energy_is_conserved(loaded: Any, alloy: Atoms) -> None:
    """In NVE the drift is that of the integrator: it falls by 4 when the step is halved."""
    alloy.calc = EKFCalculator(loaded)
    rng = np.random.default_rng(2)
    alloy.set_momenta(rng.normal(size=(8, 3)) * np.sqrt(alloy.get_masses()[:, None] * units.kB * 600))
    drifts = []
    for step in (2.0, 1.0):
        atoms = alloy.copy()
        atoms.calc = alloy.calc
        energies = []
        dynamics = VelocityVerlet(atoms, step * units.fs)
        dynamics.attach(lambda: energies.append(atoms.get_total_energy()))  # noqa: B023
        dynamics.run(round(60 / step))
        drifts.append(np.ptp(energies))
    assert drifts[0] < 1e-3 * alloy.get_kinetic_energy()
    assert drifts[0] / drifts[1] == pytest.approx(4.0, rel=0.3)


def test_molecule_has_no_stress(random_model: Callable[..., Any]) -> None:
    """Without a volume there is nothing to divide by."""
    atoms = Atoms("Cu2", [[0.0, 0.0, 0.0], [2.2, 0.0, 0.0]], calculator=EKFCalculator(random_model()))
    assert atoms.get_forces().shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_stress()


def test_kpu_is_computed_on_request_only(loaded: Any, alloy: Atoms, tmp_path: Path) -> None:
    """It stands beside the other results, and moving an atom makes it stale."""
    calls: list[Frame] = []

    def uncertainty(frame: Frame) -> SimpleNamespace:
        calls.append(frame)
        return SimpleNamespace(force_mean=np.float64(frame.positions[0, 0]))

    alloy.calc = EKFCalculator(loaded, uncertainty=uncertainty)
    alloy.get_forces()
    alloy.get_stress()
    assert not calls
    for _ in range(2):
        assert alloy.calc.get_property("kpu", alloy) == alloy.positions[0, 0]
    assert len(calls) == 1
    assert set(alloy.calc.results) == {"energy", "free_energy", "forces", "stress", "kpu"}
    write(tmp_path / "alloy.xyz", alloy)  # a property that ASE does not know stops no writer
    (written,) = read_frames(tmp_path / "alloy.xyz")
    assert written.energy == pytest.approx(alloy.get_potential_energy())
    alloy.positions[0, 0] += 0.1
    assert alloy.calc.get_property("kpu", alloy) == alloy.positions[0, 0]
    assert "energy" not in alloy.calc.results


@pytest.mark.parametrize(("kind", "advice"), [("filter", "uncertainty="), ("adam", "train it with a filter")])
def test_kpu_needs_an_uncertainty(loaded: Any, alloy: Atoms, kind: str, advice: str) -> None:
    """The message says what to do."""
    alloy.calc = EKFCalculator(replace(loaded, optimizer={"type": kind}))
    with pytest.raises(InputError, match=advice):
        alloy.calc.get_property("kpu", alloy)


def test_refuses_atoms_that_do_not_fit(random_model: Callable[..., Any], alloy: Atoms) -> None:
    """One line tells the atoms, the value found and what to do."""
    calculator = EKFCalculator(random_model(elements=("Cu",), capacity=(20,)))
    with pytest.raises(InputError, match=r"Au3Cu5 holds Au, which the model does not know"):
        calculator.get_potential_energy(alloy)
    alloy.symbols[:] = "Cu"
    alloy.set_cell(0.8 * alloy.cell[:], scale_atoms=True)
    assert np.isfinite(calculator.get_potential_energy(alloy))  # with more neighbours than the capacity
    alloy.positions[0] = alloy.positions[1] + 0.01
    with pytest.raises(InputError, match=r"Cu8: atom 0 \(Cu\) lies"):
        calculator.get_potential_energy(alloy)
    alloy.positions[0, 0] = np.nan
    with pytest.raises(InputError, match="positions of atom 0 must be finite"):
        calculator.get_potential_energy(alloy)
