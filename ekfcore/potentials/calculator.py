"""A trained model as a calculator of ASE."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties
from ase.stress import full_3x3_to_voigt_6_stress

from ekfcore.arrays import to_numpy
from ekfcore.atoms.frame import Frame, validate_frame
from ekfcore.atoms.potential import HasAtomicEnergies
from ekfcore.errors import InputError
from ekfcore.protocols import Prediction

from .model_file import LoadedModel, load_model
from .placing import place_weights

__all__ = ["EKFCalculator", "ForceUncertainty"]


class ForceUncertainty(Protocol):
    """Uncertainty of a frame, as the calculator needs it."""

    @property
    def force_mean(self) -> float:
        """Mean over the atoms of the variance of the force [(eV/Å)^2]."""


class EKFCalculator(Calculator):
    """Energy, energies of the atoms, forces and stress of a trained model.

    It computes as the training did, with a nodal embedding if the training used one.

    Parameters
    ----------
    model : LoadedModel or path
        The model, its file, or the folder of its run.
    uncertainty : callable, optional
        Takes a frame and returns its uncertainty, as `KalmanUncertainty`. With it, ``get_property("kpu", atoms)`` gives
        the mean over the atoms of the variance of the force [(eV/Å)^2], computed on request only.
    backend, device : str
        Where to compute, see `place`.

    Raises
    ------
    InputError
        If there is no such model, or nothing can be computed there. Later, if atoms do not fit the model: an element
        that it does not know, atoms that overlap.

    Notes
    -----
    Energies of the atoms include the energy bias of their elements, and are computed on request. Stress [eV/Å^3] exists
    for cells that span a volume.
    """

    def __init__(
        self,
        model: LoadedModel | str | Path,
        *,
        uncertainty: Callable[[Frame], ForceUncertainty] | None = None,
        backend: str = "auto",
        device: str = "cpu",
    ) -> None:
        super().__init__()
        loaded = model if isinstance(model, LoadedModel) else load_model(model, whole=False)
        self._model = loaded.model
        self._weights = place_weights(self._model, loaded.weights, backend=backend, device=device)
        self._uncertainty = uncertainty
        self._trained_with = loaded.optimizer.get("type")
        self.implemented_properties = ["energy", "free_energy", "forces", "stress"]
        if isinstance(self._model, HasAtomicEnergies):
            self.implemented_properties.append("energies")
        if uncertainty is not None:
            self.implemented_properties.append("kpu")

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return a property, see `ase.calculators.calculator.Calculator.get_property`.

        Raises
        ------
        InputError
            If it is ``kpu`` and the calculator has no uncertainty.
        """
        if name == "kpu" and self._uncertainty is None:
            advice = (
                "a model trained with adam has no covariance to take it from; train it with a filter"
                if self._trained_with == "adam"
                else "make it with EKFCalculator(model, uncertainty=KalmanUncertainty.load(model))"
            )
            raise InputError(f"this calculator knows no kpu: {advice}")
        return super().get_property(name, atoms, allow_calculation)

    def export_properties(self) -> Properties:
        """Return the results that ASE has a name for."""
        return Properties({name: value for name, value in self.results.items() if name != "kpu"})

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute `properties`, and others that come at no extra cost."""
        super().calculate(atoms, properties, system_changes)
        frame, wanted = _frame(self.atoms), set(properties)  # the copy that ASE keeps
        if "kpu" in wanted and self._uncertainty is not None:
            self.results["kpu"] = float(self._uncertainty(frame).force_mean)
        if not wanted - {"kpu"}:
            return
        model = self._model
        sample = model.environment(frame, like=self._weights)
        if "energies" in wanted and isinstance(model, HasAtomicEnergies):
            self.results["energies"] = to_numpy(model.atomic_energies(self._weights, sample))
        if wanted - {"energies", "kpu"}:
            self._take(model.predict(self._weights, sample), volume=abs(np.linalg.det(frame.cell)))

    def _take(self, prediction: Prediction, *, volume: float) -> None:
        energy = float(prediction["energy"])
        self.results |= {"energy": energy, "free_energy": energy, "forces": to_numpy(prediction["forces"])}
        if volume > 0:
            self.results["stress"] = full_3x3_to_voigt_6_stress(-to_numpy(prediction["virial"]) / volume)


def _frame(atoms: Any) -> Frame:
    """Return the configuration without the labels of the atoms, which a calculator ignores."""
    frame = Frame(
        numbers=np.asarray(atoms.numbers, dtype=np.int64),
        positions=np.asarray(atoms.positions, dtype=np.float64),
        cell=np.asarray(atoms.cell, dtype=np.float64),
        pbc=np.asarray(atoms.pbc, dtype=np.bool_),
        source=f"atoms {atoms.get_chemical_formula()}",
    )
    validate_frame(frame, require=())
    return frame
