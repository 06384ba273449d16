"""Any torch.nn.Module as a model that the filter can train."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ekfcore.errors import InputError
from ekfcore.linearize import Linearizable, Pullback
from ekfcore.protocols import Cotangent, Prediction

__all__ = ["TorchModule"]


class TorchModule(Linearizable[Any]):
    """Makes a JacobianProvider of a module; gradients come from automatic differentiation.

    The parameters that require a gradient are the weights, in the order of ``module.named_parameters()``; to freeze or
    thaw one, make a new TorchModule. The module itself is not changed, unless `store` writes weights into it: buffers,
    such as the running averages of a BatchNorm, stay what they are, and move when the module itself is called. Samples
    are what its forward method takes: a tensor, a sequence of arguments, or a mapping of keywords.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that gives a tensor or a mapping of names to tensors.
    forces : str, optional
        Keyword of the positions, for modules that predict an energy: the output, summed up, is then called ``energy``
        and its negative derivative with respect to the positions ``forces``. A mapping must have an ``energy``; forces
        that it has already are left alone.

    Raises
    ------
    InputError
        If no parameter requires a gradient, or they are not all on one device and of one floating-point type.

    Examples
    --------
    >>> import ekfcore as ek
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    >>> model = TorchModule(net)
    >>> model.layer_sizes
    (8, 8, 8, 1)
    >>> state = ek.init(model.weights, ek.partition(model.layer_sizes))
    >>> values, H = model.jacobian(state.weights, torch.ones(1, 1).double(), [{"output": torch.ones(1, 1)}])
    >>> H.shape
    torch.Size([1, 25])
    """

    def __init__(self, module: nn.Module, *, forces: str | None = None) -> None:
        self.module, self.forces = module, forces
        self._places = _trained(module)
        named = dict(module.named_parameters())
        if not self._places:
            raise InputError("`module` must have parameters that require a gradient, got none")
        kinds = {(named[name].dtype, named[name].device) for name in self._places}
        if len(kinds) > 1 or not next(iter(kinds))[0].is_floating_point:
            raise InputError(
                "the parameters of `module` must be of one floating-point type on one device, got "
                f"{', '.join(sorted(f'{dtype} on {device}' for dtype, device in kinds))}; use module.to(...)"
            )
        self._shapes = {name: named[name].shape for name in self._places}

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(shape.numel() for shape in self._shapes.values())

    @property
    def weights(self) -> Tensor:
        """A copy of the parameters, shape (n,)."""
        self._check()
        named = dict(self.module.named_parameters())
        return torch.cat([named[name].detach().reshape(-1) for name in self._shapes])

    def store(self, w: Tensor) -> None:
        """Write weights into the module, shape (n,)."""
        self._check()
        named = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, part in self._split(w).items():
                named[name].copy_(part)

    def constants(self) -> dict[str, NDArray[Any]]:
        """Return buffers and frozen parameters of the module, which it needs beside the weights, as NumPy arrays."""
        trained = {place for places in self._places.values() for place in places}
        return {
            name: tensor.detach().cpu().numpy().copy()
            for name, tensor in self.module.state_dict().items()
            if isinstance(tensor, Tensor) and name not in trained
        }

    def restore(self, constants: Mapping[str, NDArray[Any]]) -> None:
        """Put `constants` back.

        Raises
        ------
        InputError
            If the module has others than it had.
        """
        state = {name: torch.as_tensor(np.asarray(array)) for name, array in constants.items()}
        if gone := sorted(state.keys() ^ self.constants().keys()):
            raise InputError(f"the module is not what it was in the training: {', '.join(gone)} are new or gone")
        self.module.load_state_dict(state, strict=False)

    def predict(self, w: Tensor, sample: Any) -> Prediction:
        """Return what the module predicts: ``output`` for a tensor, else its names; `energy` and `forces` if asked for.

        Raises
        ------
        InputError
            If the sample has no positions to differentiate by, or the output is neither a tensor nor a mapping.
        """
        with torch.enable_grad() if self.forces else torch.no_grad():
            prediction = self._evaluate(w.detach(), sample)
        return {name: tensor.detach() for name, tensor in prediction.items()}

    def linearize(self, w: Tensor, sample: Any) -> tuple[Prediction, Pullback]:
        """Return the prediction and the pullback of functionals, from one evaluation; see `ekfcore.linearize`."""
        leaf = w.detach().clone().requires_grad_()
        with torch.enable_grad():
            prediction = self._evaluate(leaf, sample)
        return {name: tensor.detach() for name, tensor in prediction.items()}, partial(_pull, leaf, prediction)

    def _check(self) -> None:
        """Refuse a module of which other parameters require a gradient than did when this was made."""
        if changed := sorted(_trained(self.module).keys() ^ self._places.keys()):
            raise InputError(
                f"{', '.join(changed)} of `module` was frozen or thawed since TorchModule was made; make a new one"
            )

    def _evaluate(self, w: Tensor, sample: Any) -> dict[str, Tensor]:
        self._check()
        args, kwargs = _arguments(sample)
        positions = None
        if self.forces is not None:
            if self.forces not in kwargs:
                raise InputError(
                    f"the sample must be a mapping with {self.forces!r}, got {sorted(kwargs) or type(sample)}"
                )
            positions = kwargs[self.forces].detach().clone().requires_grad_()
            kwargs = {**kwargs, self.forces: positions}
        tensors = {place: part for name, part in self._split(w).items() for place in self._places[name]}
        for buffer, places in _places(self.module, "_buffers").items():
            tensors |= dict.fromkeys(places, buffer.clone())
        output = functional_call(self.module, tensors, args, kwargs, tie_weights=False)
        if isinstance(output, Tensor):
            output = {"output" if positions is None else "energy": output if positions is None else output.sum()}
        if not isinstance(output, Mapping):
            raise InputError(f"`module` must return a tensor or a mapping of tensors, got {type(output).__name__}")
        named = {name: tensor for name, tensor in output.items() if isinstance(tensor, Tensor)}
        if positions is not None and "forces" not in named:
            named["forces"] = -torch.autograd.grad(named["energy"].sum(), positions, create_graph=w.requires_grad)[0]
        return named

    def _split(self, w: Tensor) -> dict[str, Tensor]:
        if w.shape != (sum(self.layer_sizes),):
            raise InputError(f"`w` must have shape ({sum(self.layer_sizes)},), got {tuple(w.shape)}")
        parts = torch.split(w, list(self.layer_sizes))
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}


def _trained(module: nn.Module) -> dict[str, list[str]]:
    """Return the places of each parameter that requires a gradient and is not empty, by the first of them."""
    places = _places(module, "_parameters")
    return {names[0]: names for tensor, names in places.items() if tensor.requires_grad and tensor.numel()}


def _places(module: nn.Module, kind: Literal["_parameters", "_buffers"]) -> dict[Tensor, list[str]]:
    """Return the names of all places where each parameter or each buffer stands.

    A module under several names has its tensors in one place. PyTorch's own search counts several places, and puts the
    wrong tensors back after a functional call.
    """
    places: dict[Tensor, list[str]] = {}
    for path, part in module.named_modules():
        for name, tensor in getattr(part, kind).items():
            if tensor is not None:
                places.setdefault(tensor, []).append(f"{path}.{name}" if path else name)
    return places


def _arguments(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(sample, Mapping):
        return (), dict(sample)
    return (tuple(sample), {}) if isinstance(sample, list | tuple) else ((sample,), {})


def _pull(leaf: Tensor, prediction: Mapping[str, Tensor], cotangents: Sequence[Cotangent]) -> tuple[Tensor, Tensor]:
    """Differentiate each functional backwards."""
    values, rows = [], []
    for cotangent in cotangents:
        if unknown := set(cotangent) - set(prediction):
            raise InputError(f"`cotangents` may name {', '.join(prediction)}, got {sorted(unknown)}")
        with torch.enable_grad():
            parts = [(prediction[name] * weight.to(prediction[name].dtype)).sum() for name, weight in cotangent.items()]
            value = torch.stack(parts).sum() if parts else leaf.sum() * 0
        (row,) = torch.autograd.grad(value, leaf, retain_graph=True, materialize_grads=True)
        values.append(value.detach())
        rows.append(row)
    return torch.stack(values), torch.stack(rows)
