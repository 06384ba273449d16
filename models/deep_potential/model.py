"""The Deep Potential: a form, constants from the training data, and the way in which it is evaluated at present."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from ekfcore._typing import Array, Namespace
from ekfcore.atoms import Frame
from ekfcore.linearize import Pullback
from ekfcore.protocols import Cotangent, Prediction

from .architecture import Architecture
from .embedding_kernels import EmbeddingKernels
from .environment import Environment, Statistics
from .exact import ExactPotential
from .initial import fit_statistics
from .interpolation import fit_nodes, interpolation_error
from .nodal import NodalPotential
from .nodal_environment import NodalEnvironment
from .nodal_kernels import find_kernels
from .symmetry import last_layer, symmetric_weights

__all__ = ["DeepPotential"]

_Sample = Environment | NodalEnvironment

_COMPARED = 2  # frames that the error of the nodes is measured on


@dataclass(frozen=True, eq=False)
class DeepPotential:
    """A Deep Potential with the se_e2_a descriptor; a `Potential` whose samples are environments.

    Parameters
    ----------
    architecture : Architecture
        Elements, cutoffs and widths.
    statistics : Statistics
        Normalisation of the environment matrix and energy bias.
    kernels : EmbeddingKernels, optional
        How the embedding nets are evaluated, for the library of the weights; the default is the fastest way.
    spacing : float or None
        Distance of the nodes of the embedding nets, where they are interpolated between nodes [1/Å]; 0 for the exact
        nets, None if that is still to be chosen, which `refined` does.
    tolerance : float
        Largest relative error of the nodes, see `interpolation_error`; 0 asks for the exact nets.

    References
    ----------
    Hu et al., RLEKF, arXiv 2212.06989, "Problem Setup"; descriptor and conventions of DeePMD-kit's se_e2_a.
    """

    architecture: Architecture
    statistics: Statistics
    kernels: EmbeddingKernels | None = None
    spacing: float | None = 0.0
    tolerance: float = field(default=0.0, kw_only=True)

    @property
    def elements(self) -> tuple[str, ...]:
        """Chemical symbols in the order of types."""
        return self.architecture.elements

    @property
    def unknown(self) -> tuple[str, ...]:
        """Elements that the training has seen no atom of."""
        return self.statistics.unknown

    @property
    def energy_bias(self) -> NDArray[np.float64]:
        """Energy of an atom of each element, shape (n_types,) [eV]."""
        return self.statistics.energy_bias

    @property
    def cutoff(self) -> float:
        """How far an atom sees [Å]."""
        return self.architecture.cutoff

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts in order."""
        return self.architecture.layer_sizes

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(self.layer_sizes)

    @property
    def library(self) -> str:
        """Nothing: every array library will do."""
        return ""

    @property
    def exact(self) -> ExactPotential:
        """The same function with its exact embedding nets."""
        return ExactPotential(self.architecture, self.statistics, self.kernels)

    def environment(self, frame: Frame, *, like: Array) -> _Sample:
        """Prepare a frame; `like` gives library, dtype and device.

        Raises
        ------
        InputError
            If the frame does not fit the model.
        """
        return self._way(array_namespace(like)).environment(frame, like=like)

    def predict(self, w: Array, sample: _Sample) -> Prediction:
        """Return energy, forces and virial of a frame.

        Parameters
        ----------
        w : array, shape (n,)
            Weights.
        sample : Environment or NodalEnvironment
            The prepared frame of N atoms.

        Returns
        -------
        dict
            ``energy``, 0-d [eV]; ``forces``, shape (N, 3) [eV/Å]; ``virial``, shape (3, 3), W = -dE/dstrain [eV].
        """
        return self._way(array_namespace(w)).predict(w, sample)

    def atomic_energies(self, w: Array, sample: _Sample) -> Array:
        """Return the energies of the atoms, shape (N,) [eV], the energy bias of their elements included."""
        return self._way(array_namespace(w)).atomic_energies(w, sample)

    def jacobian(self, w: Array, sample: _Sample, cotangents: Sequence[Cotangent]) -> tuple[Array, Array]:
        """Return m linear functionals of a prediction and their gradients.

        Parameters
        ----------
        w : array, shape (n,)
            Weights.
        sample : Environment or NodalEnvironment
            The prepared frame of N atoms.
        cotangents : sequence of m mappings
            Weights of ``energy`` (0-d), ``forces`` (N, 3) and ``virial`` (3, 3) in each functional; absent means zero.

        Returns
        -------
        values : array, shape (m,)
            The functionals.
        H : array, shape (m, n)
            Their gradients with respect to the weights.

        Raises
        ------
        InputError
            If a functional names something else.
        """
        return self._way(array_namespace(w)).jacobian(w, sample, cotangents)

    def linearize(self, w: Array, sample: _Sample) -> tuple[Prediction, Pullback]:
        """Return the prediction, and `jacobian` at these weights without another evaluation."""
        return self._way(array_namespace(w)).linearize(w, sample)

    def _way(self, xp: Namespace) -> ExactPotential | NodalPotential:
        """Return what evaluates the model for arrays of this library."""
        kernels = find_kernels(xp) if self.spacing else None
        return NodalPotential(self.exact, self.spacing, kernels) if self.spacing and kernels else self.exact

    def refined(self, w: Array, frames: Sequence[Frame]) -> Self:
        """Return the model with nodes that keep the tolerance at these weights; itself if they do so already.

        Parameters
        ----------
        w : array, shape (n,)
            Weights.
        frames : sequence of Frame
            Frames of the training, of which two are compared with the exact nets.
        """
        if self.spacing == 0:
            return self
        frames = [frame for frame in frames if frame.n_atoms > 1] or frames  # a single atom has nothing to compare
        some = [frames[k * len(frames) // _COMPARED] for k in range(min(_COMPARED, len(frames)))]
        way = self._way(array_namespace(w))
        if self.spacing is None:
            found = fit_nodes(self.exact, w, some, self.tolerance) if self.tolerance else None
        elif not isinstance(way, NodalPotential) or interpolation_error(way, w, some) <= self.tolerance:
            return self
        else:
            found = fit_nodes(self.exact, w, some, self.tolerance, spacing=self.spacing / 2)
        return replace(self, spacing=found.spacing if found else 0.0)

    def learned(self, frames: Sequence[Frame], energy_bias: NDArray[np.float64]) -> Self:
        """Return the model with the normalisation of elements that it had not seen before these frames.

        Parameters
        ----------
        frames : sequence of Frame
            Frames to train on.
        energy_bias : array, shape (n_types,)
            Energies of the atoms from now on [eV].
        """
        present = {symbol for frame in frames for symbol in frame.symbols}
        new = np.asarray([element in self.unknown and element in present for element in self.elements])
        old, measured = self.statistics, fit_statistics(frames, self.architecture)
        statistics = replace(
            old,
            mean=np.where(new[:, None], measured.mean, old.mean),
            std=np.where(new[:, None], measured.std, old.std),
            energy_bias=energy_bias,
            unknown=tuple(element for element in old.unknown if element not in present),
        )
        return replace(self, statistics=statistics)

    def with_bias(self, energy_bias: NDArray[np.float64]) -> Self:
        """Return the model with other energies of the atoms, shape (n_types,) [eV]."""
        return replace(self, statistics=replace(self.statistics, energy_bias=energy_bias))

    def tied_weights(self) -> NDArray[np.int64]:
        """Return a number for each weight, see `symmetric_weights`."""
        return symmetric_weights(self.architecture)

    def last_layer(self) -> NDArray[np.int64]:
        """Return the numbers of the weights in the last layers of the fitting nets, see `last_layer`."""
        return last_layer(self.architecture)

    def header(self) -> dict[str, Any]:
        """Return what a file needs beside `constants`."""
        return {
            "type": "deep_potential",
            "architecture": self.architecture.as_json(),
            "unknown": list(self.unknown),
            "spacing": self.spacing,
        }

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a file needs."""
        return {name: getattr(self.statistics, name) for name in ("mean", "std", "energy_bias")}

    def __str__(self) -> str:
        if self.spacing:
            return f"embedding nets on nodes {self.spacing:.3g}/Å apart, true to {self.tolerance:g}"
        if self.tolerance == 0:
            return "exact embedding nets, as asked for"
        return f"exact embedding nets: no nodes carry them to {self.tolerance:g} here"
