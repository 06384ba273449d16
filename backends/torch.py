"""The filter in the shape of a torch.optim.Optimizer."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ekfcore.checkpoint import restore_state, state_arrays, state_header
from ekfcore.config import EKFConfig
from ekfcore.errors import CheckpointError, InputError
from ekfcore.filter import EKFState, UpdateInfo, init, update
from ekfcore.measurement import signed_mean
from ekfcore.partition import Strategy, partition

__all__ = ["EKF"]

_Closure = Callable[[], Any]


class EKF(Optimizer):
    r"""Train any module with the filter, in a loop as for other optimizers of PyTorch.

    A Kalman filter needs the gradient of what was predicted rather than of a loss, so the closure returns the
    prediction and its label, or several such pairs, which are absorbed together in one update.

    Parameters
    ----------
    params : iterable of tensors or of groups
        Parameters, or groups of them with names as in ``param_groups`` of other optimizers; all belong to one filter.
    config : EKFConfig, optional
        Settings of the filter.
    block_size : int
        Largest block of P.
    strategy : str
        Rule that cuts the weights into blocks, see `partition`.
    measure : {"signed_mean", "each"}
        What is measured of a pair: the mean of all its numbers, signed so that their errors point the same way, or
        each number by itself, for few of them.
    noise : float or sequence of float, optional
        Variance of each measurement; that of the settings if not given.

    Raises
    ------
    InputError
        If a setting breaks its rule, or the parameters differ in type or device.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    >>> optimizer = EKF(net.parameters())
    >>> x = torch.linspace(-3, 3, 20)[:, None]
    >>> for epoch in range(10):
    ...     for point in x:
    ...         loss = optimizer.step(lambda: (net(point), torch.sin(point)))
    >>> bool(((net(x) - torch.sin(x)) ** 2).mean().sqrt() < 0.1)
    True
    """

    def __init__(
        self,
        params: Iterable[Any],
        config: EKFConfig | None = None,
        *,
        block_size: int = 5120,
        strategy: Strategy = "rlekf",
        measure: Literal["signed_mean", "each"] = "signed_mean",
        noise: float | tuple[float, ...] | None = None,
    ) -> None:
        if measure not in ("signed_mean", "each"):
            raise InputError(f"`measure` must be signed_mean or each, got {measure!r}")
        super().__init__(params, {})
        self.config, self.measure, self.noise = config or EKFConfig(), measure, noise
        tensors = self._tensors()
        kinds = {(p.dtype, p.device) for p in tensors}
        if len(kinds) > 1:
            raise InputError(
                "the parameters must be of one type on one device, got "
                f"{', '.join(sorted(f'{dtype} on {device}' for dtype, device in kinds))}; use module.to(...)"
            )
        layout = partition([p.numel() for p in tensors], block_size=block_size, strategy=strategy)
        self.filter: EKFState = init(self._weights(), layout, self.config)
        self.info: UpdateInfo | None = None

    def step(self, closure: _Closure) -> Tensor:  # type: ignore[override]
        """Absorb what the closure predicts.

        Parameters
        ----------
        closure : callable
            Returns a pair of prediction and label, or a sequence of pairs.

        Returns
        -------
        tensor, 0-d
            Mean squared error of all numbers before the update.

        Raises
        ------
        InputError
            If the closure returns something else, or its predictions do not depend on the parameters.
        FilterError
            If the update breaks down; parameters and filter are then as they were.
        """
        with torch.enable_grad():
            pairs = _pairs(closure())
            values, innovations = self._measurements(pairs)
            H = torch.stack([self._gradient(value) for value in values])
        e = torch.stack(innovations).to(H.dtype)
        # The parameters are the user's: whatever was done to them since the last step holds.
        state = replace(self.filter, weights=self._weights())
        noise = None if self.noise is None else np.broadcast_to(self.noise, len(values)).tolist()
        self.filter, self.info = update(state, H, e, config=self.config, noise=noise, throw=True, donate=True)
        self._write(self.filter.weights)
        errors = torch.cat([(label - prediction).detach().reshape(-1) for prediction, label in pairs])
        return (errors**2).mean()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a restart needs beside the parameters: P, lambda, the count; for ``torch.save``."""
        arrays = {name: torch.from_numpy(np.array(array)) for name, array in state_arrays(self.filter)}
        groups = [{**group, "params": [len(group["params"])]} for group in self.param_groups]
        return {"filter": {"header": state_header(self.filter), "arrays": arrays}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; the parameters come from ``module.load_state_dict``, as with other optimizers.

        Raises
        ------
        CheckpointError
            If the state is not one of this optimizer, or belongs to other parameters.
        """
        try:
            header, tensors = state_dict["filter"]["header"], state_dict["filter"]["arrays"]
            sizes, arrays = tuple(header["sizes"]), {name: tensor.cpu().numpy() for name, tensor in tensors.items()}
        except (KeyError, TypeError, AttributeError):
            raise CheckpointError(
                "this is no state of the optimizer EKF; load one that EKF.state_dict returned"
            ) from None
        own = self.filter.covariance.layout.sizes
        if sizes != own:
            raise CheckpointError(
                f"the state has blocks of {list(sizes)} weights, the optimizer of {list(own)}; "
                "make the optimizer for the same module with the same block_size and strategy"
            )
        like = torch.zeros(1, dtype=getattr(torch, self.config.dtype), device=self._tensors()[0].device)
        self.filter = restore_state(header, arrays, like=like)

    def _tensors(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"] if p.requires_grad]

    def _weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self._tensors()])

    def _write(self, weights: Tensor) -> None:
        tensors = self._tensors()
        with torch.no_grad():
            for p, part in zip(tensors, torch.split(weights, [p.numel() for p in tensors]), strict=True):
                p.copy_(part.view_as(p))

    def _measurements(self, pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what is measured, with its graph, and the innovations."""
        values, innovations = [], []
        for prediction, label in pairs:
            if self.measure == "each":
                values += list(prediction.reshape(-1))
                innovations += list((label - prediction).detach().reshape(-1))
            else:
                cotangent, innovation = signed_mean(prediction.detach(), label)
                values.append((cotangent * prediction).sum())
                innovations.append(innovation)
        return values, innovations

    def _gradient(self, value: Tensor) -> Tensor:
        tensors = self._tensors()
        if not value.requires_grad:
            raise InputError("the prediction must depend on the parameters, got one without a graph; see torch.no_grad")
        parts = torch.autograd.grad(value, tensors, retain_graph=True, allow_unused=True, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])


def _pairs(returned: Any) -> list[tuple[Tensor, Tensor]]:
    pairs = [returned] if isinstance(returned, tuple) and len(returned) == 2 and _is_pair(returned) else returned
    if not isinstance(pairs, list | tuple) or not pairs or not all(_is_pair(pair) for pair in pairs):
        raise InputError(f"the closure must return prediction and label, or a list of such pairs, got {type(returned)}")
    for prediction, label in pairs:
        if prediction.shape != label.shape:
            raise InputError(
                f"a label must have the shape of its prediction {tuple(prediction.shape)}, got {tuple(label.shape)}"
            )
    return [(prediction, label.detach()) for prediction, label in pairs]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)
