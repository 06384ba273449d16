"""The filter in the shape of a torch.optim.Optimizer."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from ekfcore._numbers import number, variances
from ekfcore._types import check_type
from ekfcore.arrays import check_dense, check_real, to_numpy
from ekfcore.checkpoint import restore_state, state_arrays, state_header
from ekfcore.config import EKFConfig
from ekfcore.distributed.sharded import Sharded
from ekfcore.errors import CheckpointError, InputError
from ekfcore.filter import EKFState, UpdateInfo, init, update
from ekfcore.measurement import signed_mean
from ekfcore.partition import BlockLayout, Strategy, partition
from ekfcore.share import Share

from ._parameters import FlatParameters, ParameterGroup, check_groups
from ._processes import agree, default_ranks, pooled, tell_failure, world_size

__all__ = ["EKF"]

_Closure = Callable[[], Any]


class EKF(Optimizer):
    r"""Train any module with the filter, in a loop as for other optimizers of PyTorch.

    A Kalman filter needs the gradient of what was predicted rather than of a loss, so the closure returns the
    prediction and its label, or several such pairs, which are absorbed together in one update.

    Where PyTorch has a process group, all its processes train together, with the module itself or with one wrapped in
    DistributedDataParallel: each returns the pairs of its own share of the data, as many as it likes, and all make the
    one update that a single process would make of all pairs in the order of the ranks, to the same bits.

    Parameters
    ----------
    params : iterable of tensors or of groups
        Parameters, or groups of them as in ``param_groups`` of other optimizers; all belong to one filter. Those that
        require a gradient now are trained: to freeze or thaw one, to add or exchange some, or to move them to another
        device, make a new optimizer. Groups may have a ``name``, but no options: a filter has no learning rate.
    config : EKFConfig, optional
        Settings of the filter. With `averaging`, ``filter.average`` is the mean of the weights in the order of the
        parameters; ``torch.nn.utils.vector_to_parameters`` puts it in their place to predict with.
    block_size : int
        Largest block of P.
    strategy : str
        Rule that cuts the weights into blocks, see `partition`.
    measure : {"signed_mean", "each"}
        What is measured of a pair: the mean of all its numbers, signed so that their errors point the same way, or
        each number by itself, for few of them.
    noise : float or sequence of float, optional
        Variance of each measurement, those of all processes; that of the settings if not given.
    shard : bool
        Each process keeps its share of P alone. Their number changes no bit of the result, which differs by rounding
        from the one without; all of them must call `state_dict`. If not set, each keeps all of P, and any of them can.

    Raises
    ------
    InputError
        If a setting breaks its rule, if a parameter is missing, listed twice, sparse, complex or in parts as FSDP
        leaves it, if they differ in type or device, or if processes begin with other parameters or settings.
    RankError
        If another process has ended.

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
        noise: float | Sequence[float] | None = None,
        shard: bool = False,
    ) -> None:
        if not isinstance(measure, str) or measure not in ("signed_mean", "each"):  # type: ignore[redundant-expr]
            raise InputError(f"`measure` must be signed_mean or each, got {measure!r}")
        self.config, self.measure = EKFConfig() if config is None else config, measure
        check_type(self.config, EKFConfig, "config")
        check_type(shard, bool, "shard")
        self.shard = shard
        self.noise = None if noise is None else _plain(noise)
        self._parameters: FlatParameters | None = None
        try:
            super().__init__(params, {})
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(str(error)) from None
        check_groups(self.param_groups)
        self._parameters = FlatParameters(self.param_groups)
        weights, sizes = self._parameters.weights, self._parameters.sizes
        layout = partition(sizes, block_size=block_size, strategy=strategy)
        self._ranks = default_ranks(self._parameters.device)
        settings = {f"config.{field.name}": getattr(self.config, field.name) for field in fields(EKFConfig)}
        settings |= {"measure": measure, "noise": self.noise, "shard": shard}
        agree(self._ranks, settings | {"block_size": block_size, "strategy": strategy}, weights, sizes)
        self.filter: EKFState = init(weights, layout, self.config, share=self._share(layout))
        self.info: UpdateInfo | None = None

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Take a group, as the constructor does.

        Raises
        ------
        InputError
            Later, when there is a P.
        """
        if self._parameters is not None:
            raise InputError(
                "`add_param_group` is not possible: P belongs to the parameters that the optimizer was made for; make "
                "a new optimizer"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "optimizer contains a parameter group with duplicate")  # refused later
            super().add_param_group(ParameterGroup(param_group))

    def step(self, closure: _Closure | None = None) -> Tensor:  # type: ignore[override]
        """Absorb what the closure predicts.

        Parameters
        ----------
        closure : callable
            Returns a pair of prediction and label, or a sequence of pairs.

        Returns
        -------
        tensor, 0-d
            Mean squared error of all numbers, of all processes, before the update.

        Raises
        ------
        InputError
            If the closure returns something else, its predictions do not depend on the parameters, these are no longer
            those that the optimizer was made for, or another process could not measure or has other ones.
        FilterError
            If the update breaks down; parameters and filter are then as they were.
        RankError
            If another process has ended.
        """
        if not callable(closure):
            raise InputError(
                "step needs a closure that returns prediction and label; the gradient of a loss is not enough"
            )
        if world_size() != self._ranks.size:
            raise InputError(
                f"the optimizer EKF was made for {self._ranks.size} processes, got a process group of {world_size()}; "
                "make it after torch.distributed.init_process_group"
            )
        try:
            mine = self._measure(closure)
        except Exception:
            tell_failure(self._ranks)
            raise
        parameters = self._checked()
        # The parameters are the user's: numbers that were put into them since the last step count.
        state = replace(self.filter, weights=parameters.weights)
        H, e, loss = pooled(self._ranks, state.weights, *mine)
        self.filter, self.info = update(state, H, e, config=self.config, noise=self.noise, throw=True, donate=True)
        parameters.store(self.filter.weights)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a restart needs beside the parameters: P, lambda, the count; for ``torch.save``.

        It goes on with any number of processes. With `shard`, all of them must call this.
        """
        self._checked()
        return {**super().state_dict(), "filter": self._saved()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; the parameters come from ``module.load_state_dict``, as with other optimizers.

        P goes on in the precision of the settings, on the device of the parameters. All processes load the same state.

        Raises
        ------
        CheckpointError
            If the state is not one of this optimizer, or belongs to other parameters.
        """
        self._checked()
        try:
            sizes, _ = tuple(state_dict["filter"]["header"]["sizes"]), state_dict["filter"]["arrays"]
        except (KeyError, TypeError):
            raise CheckpointError(
                "this is no state of the optimizer EKF; load one that EKF.state_dict returned"
            ) from None
        own = self.filter.covariance.layout.sizes
        if sizes != own:
            raise CheckpointError(
                f"the state has blocks of {list(sizes)} weights, the optimizer of {list(own)}; "
                "make the optimizer for the same module with the same block_size and strategy"
            )
        restored = self._restored(state_dict["filter"])
        try:
            super().load_state_dict(state_dict)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{error}; make the optimizer for the same groups of parameters") from None
        self.filter = restored

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and `copy.deepcopy` need; a P that was saved is restored to the bit."""
        names = ("config", "measure", "noise", "shard", "info", "_parameters")
        mine = {name: getattr(self, name) for name in names}
        return {**super().__getstate__(), **mine, "filter": self._saved()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on as a copy, or with the groups of a loaded state."""
        super().__setstate__({name: value for name, value in state.items() if name != "filter"})
        self.param_groups = [ParameterGroup(group) for group in self.param_groups]
        if "filter" in state:
            self._ranks = default_ranks(self._checked().device)
            self.filter = self._restored(state["filter"])

    def _checked(self) -> FlatParameters:
        """Return the parameters, once they are found to be those that the optimizer was made for."""
        assert self._parameters is not None
        self._parameters.check(self.param_groups)
        return self._parameters

    def _saved(self) -> dict[str, Any]:
        arrays = {name: torch.from_numpy(np.array(array)) for name, array in state_arrays(self.filter)}
        return {"header": state_header(self.filter), "arrays": arrays}

    def _restored(self, saved: dict[str, Any]) -> EKFState:
        assert self._parameters is not None
        for name, tensor in saved["arrays"].items():
            if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_meta:
                raise CheckpointError(
                    f"{name!r} of a state must be a dense tensor; load one that EKF.state_dict returned"
                )
        arrays = {name: to_numpy(tensor) for name, tensor in saved["arrays"].items()}
        like = torch.zeros(1, device=self._parameters.device)
        share = self._share(BlockLayout(tuple(saved["header"]["sizes"])))
        return restore_state(saved["header"], arrays, like=like, dtype=self.config.dtype, share=share)

    def _share(self, layout: BlockLayout) -> Share | None:
        """Return which part of P this process keeps; None for all of it."""
        return Sharded(layout, self._ranks, rows=self.config.rows) if self.shard else None

    def _measure(self, closure: _Closure) -> tuple[Tensor, Tensor, Tensor]:
        """Return gradients, innovations, and the errors of all numbers."""
        parameters = self._checked()
        with torch.enable_grad():
            pairs = _pairs(closure())
            self._checked()  # the closure is the user's, too
            values, innovations = self._measurements(pairs)
            H = torch.stack([parameters.gradient(value) for value in values])
        errors = torch.cat([(label - prediction).detach().reshape(-1) for prediction, label in pairs])
        return H, torch.stack(innovations).to(H.dtype), errors

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


def _plain(noise: object) -> float | tuple[float, ...]:
    """Return a noise in numbers of Python: from an array on a GPU, every step would wait for it."""
    values = variances(noise)
    return tuple(values) if math.isnan(number(noise)) else values[0]


def _pairs(returned: Any) -> list[tuple[Tensor, Tensor]]:
    pairs = [returned] if isinstance(returned, tuple) and len(returned) == 2 and _is_pair(returned) else returned
    if not isinstance(pairs, list | tuple) or not pairs or not all(_is_pair(pair) for pair in pairs):
        got = "an empty one" if isinstance(pairs, list | tuple) and not pairs else type(returned)
        raise InputError(f"the closure must return prediction and label, or a list of such pairs, got {got}")
    for prediction, label in pairs:
        if prediction.shape != label.shape:
            raise InputError(
                f"a label must have the shape of its prediction {tuple(prediction.shape)}, got {tuple(label.shape)}"
            )
        if not prediction.numel():
            raise InputError(f"a prediction must hold at least one number, got shape {tuple(prediction.shape)}")
        if prediction.device != label.device:
            raise InputError(f"a label must be on {prediction.device} as its prediction is, got {label.device}")
        if complex_ := [part.dtype for part in (prediction, label) if part.is_complex()]:
            raise InputError(
                f"prediction and label must be real, got {complex_[0]}; give their parts, as torch.view_as_real"
            )
        for name, part in (("prediction", prediction), ("label", label)):
            check_dense(part, name)
            check_real(part, name)
    return [(prediction, label.detach()) for prediction, label in pairs]


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, Tensor) for part in pair)
