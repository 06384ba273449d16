"""A torch.nn.Module that knows positions and elements, as a model of energy, forces and virial."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ekfcore._typing import Array
from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame, neighbour_pairs
from ekfcore.atoms.types import atom_types
from ekfcore.errors import InputError
from ekfcore.linearize import Linearizable, Pullback
from ekfcore.models.torch_module import TorchModule
from ekfcore.protocols import Prediction

__all__ = ["FrameModule", "TorchFrames"]

_PAIRS = {"i", "j", "vectors", "distances"}
_KNOWN = ("positions", "cell", "pbc", "numbers", "types", "i", "j", "vectors", "distances")


class FrameModule(Linearizable[Mapping[str, Tensor]]):
    """Base of models of frames that are a `TorchModule`, which predicts energy, forces and virial.

    Parameters
    ----------
    provider : TorchModule
        Predicts them for the samples that the model prepares.
    """

    library = "torch"

    def __init__(self, provider: TorchModule) -> None:
        self._provider = provider

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return self._provider.layer_sizes

    @property
    def weights(self) -> Tensor:
        """A copy of the parameters, shape (n,)."""
        return self._provider.weights

    def initial_weights(self, *, seed: int) -> NDArray[Any]:
        """Return the weights that the module was made with, shape (n,)."""
        return to_numpy(self.weights)

    def store(self, w: Tensor) -> None:
        """Write weights into the module, shape (n,)."""
        self._provider.store(w)

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return what the module keeps beside its weights, see `TorchModule.constants`."""
        return self._provider.constants()

    def restore(self, constants: Mapping[str, NDArray[Any]]) -> None:
        """Put `constants` back."""
        self._provider.restore(constants)

    def predict(self, w: Tensor, sample: Mapping[str, Tensor]) -> Prediction:
        """Return energy, 0-d [eV], forces, (N, 3) [eV/Å], and virial, (3, 3), W = -dE/dstrain [eV]."""
        return self._provider.predict(w, sample)

    def linearize(self, w: Tensor, sample: Mapping[str, Tensor]) -> tuple[Prediction, Pullback]:
        """Return the prediction and the pullback of functionals, from one evaluation."""
        return self._provider.linearize(w, sample)


class TorchFrames(FrameModule):
    """Prepares frames for a module, and differentiates its energy by positions, strain and weights.

    Parameters
    ----------
    module : torch.nn.Module
        Its forward method takes any of these by name, and returns the energy, or one for each atom, whose sum counts
        [eV]: ``positions`` (N, 3) [Å], ``cell`` (3, 3) [Å], ``pbc`` (3,), atomic ``numbers`` (N,), ``types`` (N,), the
        numbers of the elements in `elements`; and for the P pairs of atoms within ``module.cutoff`` [Å] of each other,
        each in both directions, ``i`` (P,) and ``j`` (P,), the ``vectors`` from i to j (P, 3) and their ``distances``
        (P,) [Å]. It computes in double precision from now on.
    elements : sequence of str
        Chemical symbols in the order of types.

    Raises
    ------
    InputError
        If the method wants something else, or pairs and the module has no ``cutoff``; or as `TorchModule`.
    """

    def __init__(self, module: nn.Module, elements: tuple[str, ...]) -> None:
        name = type(module).__name__
        wanted = inspect.signature(module.forward).parameters.values()
        self._wanted = [p.name for p in wanted if p.name in _KNOWN]
        if unknown := [p.name for p in wanted if p.name not in _KNOWN and p.default is p.empty]:
            raise InputError(f"{name}.forward may ask for {', '.join(_KNOWN)}, got {', '.join(unknown)}")
        self.cutoff = float(getattr(module, "cutoff", 0.0))
        if _PAIRS & set(self._wanted) and not self.cutoff > 0:
            raise InputError(
                f"{name} asks for pairs of atoms, so it must have a positive `cutoff` [Å], got {self.cutoff:g}"
            )
        self.elements = elements
        self.module = module.double()
        super().__init__(TorchModule(_OneFrame(self.module, self._wanted), forces="moves"))

    def environment(self, frame: Frame, *, like: Array) -> dict[str, Tensor]:
        """Prepare a frame of N atoms; `like` are the weights.

        Raises
        ------
        InputError
            If the frame does not fit, or `like` is no tensor in double precision.
        """
        if not isinstance(like, Tensor) or like.dtype != torch.float64:
            raise InputError(f"`like` must be a tensor in double precision, got {type(like)}")
        self.module.to(like.device)
        arrays: dict[str, Any] = {
            "positions": frame.positions,
            "cell": frame.cell,
            "pbc": frame.pbc,
            "numbers": frame.numbers,
            "types": atom_types(frame, self.elements),
        }
        if _PAIRS & set(self._wanted):
            arrays["i"], arrays["j"], arrays["vectors"] = neighbour_pairs(frame, self.cutoff)
        moved = {"moves": np.zeros((frame.n_atoms, 3)), "strain": np.zeros((3, 3))}
        return {k: torch.as_tensor(np.ascontiguousarray(a), device=like.device) for k, a in (arrays | moved).items()}


class _OneFrame(nn.Module):
    """Energy of a frame whose atoms move by nothing in a cell that is not strained, and its derivatives by both."""

    def __init__(self, module: nn.Module, wanted: list[str]) -> None:
        super().__init__()
        self.module = module
        self._wanted = wanted

    def forward(self, moves: Tensor, strain: Tensor, **given: Tensor) -> dict[str, Tensor]:
        strain = strain.clone().requires_grad_()
        deformed = torch.eye(3, dtype=strain.dtype, device=strain.device) + strain
        seen = given | {"positions": (given["positions"] + moves) @ deformed, "cell": given["cell"] @ deformed}
        if "vectors" in given:
            seen["vectors"] = (given["vectors"] + moves[given["j"]] - moves[given["i"]]) @ deformed
            seen["distances"] = torch.linalg.vector_norm(seen["vectors"], dim=-1)
        energy = self.module(**{name: seen[name] for name in self._wanted})
        if not isinstance(energy, Tensor):
            raise InputError(
                f"{type(self.module).__name__} must return a tensor of energies, got {type(energy).__name__}"
            )
        energy = energy.sum()
        slopes = torch.autograd.grad(energy, (moves, strain), create_graph=True, materialize_grads=True)
        return {"energy": energy, "forces": -slopes[0], "virial": -slopes[1]}
