"""The parameters that an optimizer of PyTorch trains, as the vector of weights that a filter knows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ekfcore.errors import InputError

__all__ = ["FlatParameters", "ParameterGroup", "check_groups"]

_KNOWN = {"params", "param_names", "name"}
_NO_RATE = "P and the noise set the length of its steps; see EKFConfig.noise and Anneal for one that changes with time"
_ANEW = "make a new optimizer, for P belongs to those that it was made for"


class ParameterGroup(dict[str, Any]):
    """A group of parameters that says why it has no learning rate when a scheduler asks for one."""

    def __missing__(self, key: str) -> Any:
        raise InputError(f"a filter has no {key!r} in its groups of parameters: {_NO_RATE}")


def check_groups(groups: Iterable[Mapping[str, Any]]) -> None:
    """Refuse what other optimizers read from a group and a filter does not.

    Raises
    ------
    InputError
        With the name of the option.
    """
    for group in groups:
        if unknown := [key for key in group if key not in _KNOWN]:
            raise InputError(f"a group of parameters has {unknown[0]!r}, which a filter has no use for: {_NO_RATE}")


class FlatParameters:
    """Remembers which parameters are trained, and brings them into a vector and back.

    Those that require a gradient now, and hold a number, are trained, in the order of their groups.

    Parameters
    ----------
    groups : sequence of mappings
        As ``param_groups`` of an optimizer.

    Raises
    ------
    InputError
        If there are none, one stands twice, or they are not dense and of one floating-point type on one device.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]]) -> None:
        self._all = tuple(_members(groups))
        self._shapes = tuple(p.shape for p in self._all)
        self._trained = tuple(p for p in self._all if p.requires_grad and p.numel())
        self._required = tuple(p.requires_grad for p in self._all)
        _check_whole(p for p in self._all if p.requires_grad)
        _check_kinds(self._trained)
        self.device = self._trained[0].device

    @property
    def sizes(self) -> list[int]:
        """Number of elements of each trained parameter."""
        return [p.numel() for p in self._trained]

    @property
    def weights(self) -> Tensor:
        """A copy of the trained parameters, shape (n,)."""
        return torch.cat([p.detach().reshape(-1) for p in self._trained])

    def store(self, weights: Tensor) -> None:
        """Write weights into the parameters, shape (n,)."""
        with torch.no_grad():
            for p, part in zip(self._trained, torch.split(weights, self.sizes), strict=True):
                p.copy_(part.view_as(p))

    def gradient(self, value: Tensor) -> Tensor:
        """Return the gradient of a number, shape (n,); zero for parameters that it does not depend on.

        Raises
        ------
        InputError
            If it depends on none of them.
        """
        rule = "the prediction must depend on the parameters of the optimizer, got one"
        if not value.requires_grad:
            raise InputError(f"{rule} without a graph; see torch.no_grad")
        parts = torch.autograd.grad(value, self._trained, retain_graph=True, allow_unused=True)
        if all(part is None for part in parts):
            raise InputError(f"{rule} that does not: the optimizer was made for the parameters of another module")
        return torch.cat([_row(part, p) for part, p in zip(parts, self._trained, strict=True)])

    def check(self, groups: Sequence[Mapping[str, Any]]) -> None:
        """Refuse groups that no longer hold these parameters as they were: H would not fit P, or another P.

        Raises
        ------
        InputError
            With what has changed.
        """
        check_groups(groups)
        found = tuple(_members(groups))
        if len(found) != len(self._all) or any(p is not q for p, q in zip(found, self._all, strict=True)):
            raise InputError(f"the parameters of the optimizer EKF are others than those that it was made for; {_ANEW}")
        for index, (p, shape, required) in enumerate(zip(found, self._shapes, self._required, strict=True)):
            if p.shape != shape:
                raise InputError(f"parameter {index} has shape {tuple(p.shape)}, but had {tuple(shape)}; {_ANEW}")
            if p.requires_grad != required:
                change = "no longer requires a gradient" if required else "requires a gradient now"
                raise InputError(f"parameter {index} of shape {tuple(shape)} {change}; {_ANEW}")
            if p.device != self.device and p.requires_grad:
                raise InputError(
                    f"the parameters are on {p.device}, but P is on {self.device}; call module.to(...) before making "
                    "the optimizer, and load the state of the old one to keep P"
                )


def _members(groups: Iterable[Mapping[str, Any]]) -> Iterator[Tensor]:
    return (p for group in groups for p in group["params"])


def _check_whole(parameters: Iterable[Tensor]) -> None:
    """Refuse parameters of which each process has a part, which may hold no number at all."""
    for p in parameters:
        if hasattr(p, "full_tensor"):  # by fully_shard or for parallel layers
            found, cause = "a DTensor", "fully_shard"
        elif hasattr(p, "_fsdp_flattened"):  # nothing public tells it
            found, cause = "one that was flattened", "FullyShardedDataParallel"
        else:
            continue
        raise InputError(
            f"the parameters must be whole in every process, got {found}: a filter needs their gradients side by "
            f"side; leave out {cause}, and let the processes share P with EKF(..., shard=True)"
        )


def _check_kinds(trained: Sequence[Tensor]) -> None:
    if not trained:
        raise InputError("the parameters must hold at least one number that requires a gradient, got none")
    for p in trained:
        if p.layout is not torch.strided:
            raise InputError(f"the parameters must be dense, got {p.layout}; use .to_dense()")
        if p.is_meta:
            raise InputError("the parameters must hold numbers, got device meta; use module.to_empty(...)")
        if not p.is_floating_point():
            raise InputError(f"the parameters must be of a floating-point type, got {p.dtype}")
    # Two names of one memory are one parameter: its gradient would count twice, and one of two steps be lost.
    if len({p.data_ptr() or id(p) for p in trained}) < len(trained):
        raise InputError("a parameter must not be listed twice, got one that is; leave out the second")
    kinds = {(p.dtype, p.device) for p in trained}
    if len(kinds) > 1:
        raise InputError(
            "the parameters must be of one type on one device, got "
            f"{', '.join(sorted(f'{dtype} on {device}' for dtype, device in kinds))}; use module.to(...)"
        )


def _row(part: Tensor | None, p: Tensor) -> Tensor:
    if part is None:
        part = torch.zeros_like(p)
    return (part if part.layout is torch.strided else part.to_dense()).reshape(-1)
