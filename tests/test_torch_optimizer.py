"""The optimizer facade: the same as the filter itself, and restarts to the bit."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason='torch is not installed: pip install "ekfcore[torch]"')
import torch
from torch import Tensor, nn

import ekfcore as ek
from ekfcore.measurement import signed_mean
from ekfcore.models import TorchModule
from ekfcore.torch.optimizer import EKF


def _net(dtype: str = "float64") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(getattr(torch, dtype))


def _data(dtype: str = "float64") -> tuple[Tensor, Tensor]:
    x = torch.rand(30, 3, 2, generator=torch.Generator().manual_seed(1), dtype=getattr(torch, dtype))
    return x, torch.sin(3 * x).sum(dim=2, keepdim=True)


def _pair(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return net(x), y


def _two_pairs(net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    x, y = _data()
    return [(net(x[0]), y[0]), (net(x[1]), y[1])]


def _train(net: nn.Module, optimizer: EKF, first: int = 0, last: int = 30, dtype: str = "float64") -> None:
    for x, y in list(zip(*_data(dtype), strict=True))[first:last]:
        optimizer.step(partial(_pair, net, x, y))


@pytest.mark.parametrize("block_size", [5120, 10])
def test_facade_and_core_give_the_same_weights(block_size: int) -> None:
    """One through the loop of PyTorch, one through `update`."""
    net, config = _net(), ek.EKFConfig(pending=7)
    _train(net, EKF(net.parameters(), config, block_size=block_size))

    model = TorchModule(_net())
    state = ek.init(model.weights, ek.partition(model.layer_sizes, block_size=block_size), config)
    for x, y in zip(*_data(), strict=True):
        prediction = model.predict(state.weights, x)["output"]
        cotangent, e = signed_mean(prediction, y)
        _, H = model.jacobian(state.weights, x, [{"output": cotangent}])
        state, _ = ek.update(state, H, e[None], config=config)
    np.testing.assert_allclose(TorchModule(net).weights, state.weights, rtol=1e-10, atol=1e-13)


_PROCESS = """
import sys
sys.path.insert(0, {folder!r})
from test_torch_optimizer import _net, _train
from ekfcore.torch.optimizer import EKF
import torch
saved = torch.load("saved.pt")
net = _net({dtype!r})
net.load_state_dict(saved["net"])
optimizer = EKF(net.parameters(), block_size=10)
optimizer.load_state_dict(saved["optimizer"])
_train(net, optimizer, 13, 30, {dtype!r})
torch.save(net.state_dict(), "parts.pt")
"""


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_restart_in_another_process_changes_no_bit(tmp_path: Path, dtype: str) -> None:
    """Save, load there, go on: as if it had never stopped. The file needs no trust: tensors, numbers and text."""
    whole, parts = _net(dtype), _net(dtype)
    _train(whole, EKF(whole.parameters(), block_size=10), dtype=dtype)
    optimizer = EKF(parts.parameters(), block_size=10)
    _train(parts, optimizer, 0, 13, dtype)
    torch.save({"net": parts.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "saved.pt")
    code = _PROCESS.format(folder=str(Path(__file__).parent), dtype=dtype)
    subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, check=True)
    found = torch.load(tmp_path / "parts.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(found[name], tensor), name


@pytest.mark.parametrize("stop", [3, 13])
def test_a_restart_keeps_rows_and_noise(stop: int) -> None:
    """Rows that join the blocks and the level of the noise, before and after rows are given up, to the last bit."""
    config = ek.EKFConfig(rows=8, noise="adaptive")
    whole, parts = _net(), _net()
    one, other = EKF(whole.parameters(), config, block_size=10), EKF(parts.parameters(), config, block_size=10)
    _train(whole, one)
    _train(parts, other, 0, stop)
    file = io.BytesIO()
    torch.save({"net": parts.state_dict(), "optimizer": other.state_dict()}, file)
    file.seek(0)
    saved, net = torch.load(file), _net()
    net.load_state_dict(saved["net"])
    optimizer = EKF(net.parameters(), config, block_size=10)
    optimizer.load_state_dict(saved["optimizer"])
    assert float(optimizer.filter.noise.weight) == stop
    assert optimizer.filter.covariance.count == min(stop, 4 + stop % 4)
    _train(net, optimizer, stop, 30)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(net.state_dict()[name], tensor), name
    assert torch.equal(optimizer.filter.noise.mean, one.filter.noise.mean)
    assert optimizer.info is not None
    assert one.info is not None
    assert torch.equal(optimizer.info.noise, one.info.noise)


def test_a_state_of_other_rows_is_refused() -> None:
    """At the first step, for the state itself does not know how many there shall be."""
    net = _net()
    x, y = _data()
    optimizer = EKF(net.parameters(), ek.EKFConfig(rows=8))
    optimizer.load_state_dict(EKF(net.parameters()).state_dict())
    with pytest.raises(ek.InputError, match=r"`config.rows` is 8, but the state keeps none"):
        optimizer.step(partial(_pair, net, x[0], y[0]))


def test_it_learns_in_single_precision() -> None:
    """Parameters in float32, P in float64."""
    net = _net("float32")
    optimizer = EKF(net.parameters())
    assert optimizer.filter.covariance.scale.dtype == torch.float64
    x, y = _data("float32")
    before = ((net(x) - y) ** 2).mean()
    for _ in range(5):
        _train(net, optimizer, dtype="float32")
    assert ((net(x) - y) ** 2).mean() < 0.01 * before


def test_each_number_is_a_measurement() -> None:
    """The exact update for every component of a pair, against the recursive least squares it is for a linear model."""
    torch.manual_seed(0)
    net = nn.Linear(2, 1).double()
    config = ek.EKFConfig(memory=ek.MemoryFactor(1.0, 1.0), noise=0.1, p0=2.0)
    x, y = torch.rand(5, 2, dtype=torch.float64), torch.rand(5, 1, dtype=torch.float64)
    w0 = TorchModule(net).weights.numpy()
    EKF(net.parameters(), config, measure="each").step(lambda: (net(x), y))
    H = np.c_[x.numpy(), np.ones(5)]
    P = np.linalg.inv(np.eye(3) / 2.0 + H.T @ H / 0.1)
    expected = w0 + P @ H.T @ (y.numpy()[:, 0] - H @ w0) / 0.1
    np.testing.assert_allclose(TorchModule(net).weights, expected, rtol=1e-10)


def test_several_pairs_are_one_update() -> None:
    """With a variance for each of them."""
    net = _net()
    optimizer = EKF(net.parameters(), noise=(0.1, 2.0))
    x, y = _data()
    loss = optimizer.step(lambda: [(net(x[0]), y[0]), (net(x[1]), y[1])])
    assert optimizer.filter.count == 2
    assert optimizer.info is not None
    assert optimizer.info.innovation.shape == (2,)
    assert loss > 0


def test_it_looks_like_an_optimizer() -> None:
    """Groups of parameters, zero_grad, weights that the user changes between steps."""
    net = _net()
    optimizer = EKF([{"params": net[0].parameters()}, {"params": net[2].parameters()}])
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 2]
    net(torch.ones(1, 2, dtype=torch.float64)).sum().backward()
    optimizer.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    bias = list(net.parameters())[-1]
    with torch.no_grad():
        bias.fill_(5.0)
    x, _ = _data()
    y0 = net(x[0]).detach()
    optimizer.step(lambda: (net(x[0]), y0 + 1e-9))
    assert abs(float(bias.detach()) - 5.0) < 1e-6


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda net: net(torch.ones(1, 2).double()), "must return prediction and label"),
        (lambda net: [], "must return prediction and label"),
        (lambda net: (net(torch.ones(1, 2).double()), torch.ones(2)), r"shape of its prediction \(1, 1\), got \(2,\)"),
        (
            lambda net: (torch.ones(1).double(), torch.ones(1).double()),
            "must depend on the parameters of the optimizer, got one without a graph",
        ),
    ],
)
def test_closures_that_cannot_be_learned_from(returned: object, message: str) -> None:
    """What was expected."""
    net = _net()
    assert callable(returned)
    with pytest.raises(ek.InputError, match=message):
        EKF(net.parameters()).step(lambda: returned(net))


def test_states_that_do_not_fit() -> None:
    """Of another optimizer, or of other blocks."""
    net = _net()
    optimizer = EKF(net.parameters())
    with pytest.raises(ek.CheckpointError, match="no state of the optimizer EKF"):
        optimizer.load_state_dict(torch.optim.Adam(net.parameters()).state_dict())
    with pytest.raises(ek.CheckpointError, match="blocks of"):
        optimizer.load_state_dict(EKF(net.parameters(), block_size=10).state_dict())
    with pytest.raises(ek.InputError, match="`measure` must be"):
        EKF(net.parameters(), measure="all")  # type: ignore[arg-type]
    with pytest.raises(ek.InputError, match="of one type on one device"):
        EKF([*net.parameters(), *nn.Linear(1, 1).parameters()])


def _freeze(net: nn.Sequential, optimizer: EKF) -> None:
    next(net.parameters()).requires_grad_(False)


def _swap(net: nn.Sequential, optimizer: EKF) -> None:
    parameters = optimizer.param_groups[0]["params"]
    parameters[0] = net[0].weight = nn.Parameter(parameters[0].detach().clone())


def _reorder(net: nn.Sequential, optimizer: EKF) -> None:
    optimizer.param_groups[0]["params"].reverse()


def _remove(net: nn.Sequential, optimizer: EKF) -> None:
    del optimizer.param_groups[0]["params"][0]


def _reshape(net: nn.Sequential, optimizer: EKF) -> None:
    net[0].weight.data = torch.zeros(8, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_freeze, r"parameter 0 of shape \(8, 2\) no longer requires a gradient"),
        (_swap, r"the parameters of the optimizer EKF are others than those that it was made for"),
        (_reorder, r"the parameters of the optimizer EKF are others than those that it was made for"),
        (_remove, r"the parameters of the optimizer EKF are others than those that it was made for"),
        (_reshape, r"parameter 0 has shape \(8, 3\), but had \(8, 2\)"),
    ],
)
def test_parameters_that_have_changed_are_refused(change: Callable[[nn.Sequential, EKF], None], message: str) -> None:
    """P belongs to the parameters that the optimizer was made for: those, in that order and of those shapes."""
    net = _net()
    optimizer = EKF(net.parameters())
    x, y = _data()
    optimizer.step(partial(_pair, net, x[0], y[0]))
    before = optimizer.filter
    change(net, optimizer)
    for action in (
        lambda: optimizer.step(partial(_pair, net, x[1], y[1])),
        optimizer.state_dict,
        lambda: optimizer.load_state_dict(EKF(_net().parameters()).state_dict()),
    ):
        with pytest.raises(ek.InputError, match=rf"{message}.*; make a new optimizer"):
            action()
    assert optimizer.filter is before


def test_freezing_in_the_closure_is_refused() -> None:
    """It is the user's code, too."""
    net = _net()
    optimizer = EKF(net.parameters())

    def closure() -> tuple[Tensor, Tensor]:
        _freeze(net, optimizer)
        x, y = _data()
        return net(x[0]), y[0]

    with pytest.raises(ek.InputError, match=r"parameter 0 of shape \(8, 2\) no longer requires a gradient"):
        optimizer.step(closure)


def test_unfreezing_is_refused_and_undone_goes_on() -> None:
    """A parameter that was frozen when the optimizer was made has no place in P."""
    net = _net()
    first = net[0].get_parameter("weight")
    first.requires_grad_(False)
    kept = first.detach().clone()
    optimizer = EKF(net.parameters())
    assert optimizer.filter.covariance.layout.n_params == 8 + 8 + 1
    x, y = _data()
    optimizer.step(partial(_pair, net, x[0], y[0]))
    first.requires_grad_(True)
    with pytest.raises(ek.InputError, match=r"parameter 0 of shape \(8, 2\) requires a gradient now; make a new"):
        optimizer.step(partial(_pair, net, x[0], y[0]))
    first.requires_grad_(False)
    optimizer.step(partial(_pair, net, x[1], y[1]))
    assert torch.equal(first, kept)


def test_moving_the_module_afterwards_is_refused() -> None:
    """P stays where it is; for "meta", PyTorch makes new parameters, of which the optimizer knows nothing."""
    net = _net()
    optimizer = EKF(net.parameters())
    x, y = _data()
    assert optimizer._parameters is not None
    optimizer._parameters.device = torch.device("cuda", 0)  # as if they had been there, and moved here
    with pytest.raises(ek.InputError, match=r"the parameters are on cpu, but P is on cuda:0; call module.to\(...\)"):
        optimizer.step(partial(_pair, net, x[0], y[0]))
    optimizer = EKF(net.parameters())
    net.to("meta")
    with pytest.raises(ek.InputError, match="must hold numbers, got a tensor on device meta"):
        optimizer.step(partial(_pair, net, x[0].to("meta"), y[0].to("meta")))


@pytest.mark.gpu
def test_moving_the_module_to_a_gpu() -> None:
    """Refused afterwards; an optimizer made there goes on with the state of the old one."""
    net = _net()
    optimizer = EKF(net.parameters())
    _train(net, optimizer, 0, 5)
    saved, x, y = optimizer.state_dict(), *(part.to("cuda") for part in _data())
    net.to("cuda")
    with pytest.raises(ek.InputError, match=r"the parameters are on cuda:0, but P is on cpu; call module.to\(...\)"):
        optimizer.step(partial(_pair, net, x[0], y[0]))
    optimizer = EKF(net.parameters())
    optimizer.load_state_dict(saved)
    assert optimizer.filter.covariance.scale.device.type == "cuda"
    assert optimizer.filter.count == 5
    for k in range(5, 30):
        optimizer.step(partial(_pair, net, x[k], y[k]))
    whole = _net()
    _train(whole, EKF(whole.parameters()))
    for one, other in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-9, atol=1e-11)


def test_another_precision_afterwards_is_honoured() -> None:
    """P is in double precision whatever that of the parameters."""
    net = _net("float32")
    optimizer = EKF(net.parameters())
    net.double()
    x, y = _data()
    optimizer.step(partial(_pair, net, x[0], y[0]))
    assert net[0].weight.dtype == torch.float64
    assert optimizer.filter.weights.dtype == torch.float64


def test_one_set_of_parameters_is_one_filter() -> None:
    """Groups that come later, and parameters that come twice, under one name or another."""
    net = _net()
    optimizer = EKF(net.parameters())
    with pytest.raises(
        ek.InputError, match=r"`add_param_group` is not possible: P belongs to .*; make a new optimizer"
    ):
        optimizer.add_param_group({"params": nn.Linear(1, 1).double().parameters()})
    assert len(optimizer.param_groups) == 1
    first = net[0].get_parameter("weight")
    twice, alias = [*net.parameters(), first], [*net.parameters(), nn.Parameter(first.data)]
    for parameters in (twice, alias, [{"params": net.parameters()}, {"params": [first]}]):
        with pytest.raises(ek.InputError, match=r"appear in more than one|must not be listed twice"):
            EKF(parameters)


@pytest.mark.parametrize("options", [{"lr": 1e-3}, {"weight_decay": 0.1}, {"lr": 1e-3, "betas": (0.9, 0.99)}])
def test_options_of_other_optimizers_are_refused(options: dict[str, Any]) -> None:
    """A filter finds the length of its steps itself; nothing is read and dropped."""
    net = _net()
    with pytest.raises(ek.InputError, match=rf"a group of parameters has {next(iter(options))!r}, which a filter"):
        EKF([{"params": net.parameters(), **options}])
    optimizer = EKF([{"params": net.parameters(), "name": "all"}])
    optimizer.param_groups[0].update(options)
    x, y = _data()
    with pytest.raises(ek.InputError, match=rf"a group of parameters has {next(iter(options))!r}, which a filter"):
        optimizer.step(partial(_pair, net, x[0], y[0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 10),
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=10, cycle_momentum=False),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: 1.0),
        lambda o: torch.optim.swa_utils.SWALR(o, 0.1),
    ],
)
def test_schedulers_of_a_learning_rate_are_refused(make: Callable[[EKF], object]) -> None:
    """There is none to schedule, and the line says what there is instead of it."""
    optimizer = EKF(_net().parameters())
    with pytest.raises(ek.InputError, match=r"a filter has no 'lr' .* Anneal"):
        make(optimizer)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (list, "optimizer got an empty parameter list"),
        (lambda: [nn.Parameter(torch.ones(2), requires_grad=False)], "at least one number that requires a gradient"),
        (lambda: [nn.Parameter(torch.ones(0, 3))], "at least one number that requires a gradient"),
        (lambda: [nn.Parameter(torch.eye(2).to_sparse())], "must be dense, got torch.sparse_coo"),
        (lambda: [nn.Parameter(torch.ones(2, dtype=torch.complex128))], "floating-point type, got torch.complex128"),
        (lambda: torch.ones(2), "iterable of Tensors or dicts"),
        (lambda: [torch.ones(2, requires_grad=True) * 1], "non-leaf Tensor"),
        (lambda: [1.0], "can only optimize Tensors"),
    ],
)
def test_parameters_that_no_filter_can_have(parameters: Callable[[], Any], message: str) -> None:
    """In PyTorch's words where it has some."""
    with pytest.raises(ek.InputError, match=message) as caught:
        EKF(parameters())
    assert "\n" not in str(caught.value)


def test_parameters_without_elements_stay_what_they_are() -> None:
    """A layer without inputs has such a matrix; the filter is the one without it."""
    nets = []
    for extra in (False, True):
        net = _net()
        if extra:
            net.empty = nn.Parameter(torch.zeros(0, 3, dtype=torch.float64))
        optimizer = EKF(net.parameters())
        for x, y in zip(*_data(), strict=True):
            optimizer.step(partial(_pair, net[:3], x, y))
        nets.append(net)
    for one, other in zip(nets[0][:3].parameters(), nets[1][:3].parameters(), strict=True):
        assert torch.equal(one, other)


def test_sparse_gradients_are_gradients() -> None:
    """Of an embedding, with and without `sparse`."""
    found = []
    for sparse in (False, True):
        torch.manual_seed(0)
        net = nn.Embedding(5, 2, sparse=sparse).double()
        optimizer = EKF(net.parameters())
        for k in range(5):
            optimizer.step(partial(_pair, net, torch.tensor([k, 2]), torch.ones(2, 2).double()))
        found.append(net.weight.detach())
    assert torch.equal(*found)
    torch.manual_seed(0)
    assert not torch.isclose(nn.Embedding(5, 2).double().weight, found[0]).any()  # every row has learned


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("config", [ek.EKFConfig(), ek.EKFConfig(rows=8, noise="adaptive")], ids=["blocks", "rows"])
def test_copies_go_on_alike(copied: Callable[[Any], Any], config: ek.EKFConfig) -> None:
    """A module and its optimizer, copied together: both go on to the same bits, and neither touches the other."""
    net = _net()
    optimizer = EKF(net.parameters(), config, block_size=10, noise=0.5)
    _train(net, optimizer, 0, 13)
    net2, optimizer2 = copied((net, optimizer))
    assert optimizer2.param_groups[0]["params"][0] is net2[0].weight
    assert (optimizer2.config, optimizer2.measure, optimizer2.noise) == (config, "signed_mean", 0.5)
    _train(net, optimizer, 13, 30)
    _train(net2, optimizer2, 13, 30)
    for one, other in zip(net.parameters(), net2.parameters(), strict=True):
        assert torch.equal(one, other)
    assert optimizer.filter.count == optimizer2.filter.count == 30
    with pytest.raises(ek.InputError, match="'lr'"):
        torch.optim.lr_scheduler.StepLR(optimizer2, 10)


def test_hooks_and_names_of_groups_are_kept() -> None:
    """What PyTorch's own optimizers do around their states."""
    net = _net()
    optimizer = EKF([{"params": net.named_parameters(), "name": "all"}])
    seen: list[str] = []
    optimizer.register_step_post_hook(lambda *_: seen.append("step"))
    optimizer.register_state_dict_post_hook(lambda _, state: seen.append("save"))
    optimizer.register_load_state_dict_post_hook(lambda _: seen.append("load"))
    x, y = _data()
    optimizer.step(partial(_pair, net, x[0], y[0]))
    saved = optimizer.state_dict()
    assert saved["param_groups"] == [
        {"params": [0, 1, 2, 3], "param_names": [n for n, _ in net.named_parameters()], "name": "all"}
    ]
    other = EKF([{"params": net.named_parameters(), "name": "others"}])
    other.load_state_dict(saved)
    optimizer.load_state_dict(saved)
    assert other.param_groups[0]["name"] == "all"
    assert seen == ["step", "save", "load"]
    with pytest.raises(ek.CheckpointError, match="different number of parameter groups"):
        EKF([{"params": net[0].parameters()}, {"params": net[2].parameters()}]).load_state_dict(saved)


@pytest.mark.parametrize(
    "noise", [(0.1, 2.0), [0.1, 2.0], np.array([0.1, 2.0]), torch.tensor([0.1, 2.0], dtype=torch.float64)]
)
def test_noise_of_each_measurement(noise: Any) -> None:
    """In any form that has as many numbers; another number of them is refused in one line."""
    x, y = _data()
    nets = [_net(), _net()]
    for net, same in zip(nets, (noise, (0.1, 2.0)), strict=True):
        EKF(net.parameters(), noise=same).step(partial(_two_pairs, net))
    assert all(torch.equal(p, q) for p, q in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    optimizer = EKF(nets[0].parameters(), noise=noise)
    with pytest.raises(ek.InputError, match="`noise` must be one or 1 positive numbers, got"):
        optimizer.step(partial(_pair, nets[0], x[0], y[0]))


@pytest.mark.parametrize("noise", [0.0, -1.0, (1.0, 0.0), "much", 1j, ()])
def test_what_is_no_noise_is_refused_at_once(noise: Any) -> None:
    """Not at the first step, which may be hours away."""
    with pytest.raises(ek.InputError, match="`noise` must be"):
        EKF(_net().parameters(), noise=noise)


def test_predictions_of_another_module_are_refused() -> None:
    """They depend on parameters, but on none of the optimizer's: nothing would ever be learned."""
    net, other = _net(), _net()
    optimizer = EKF(net.parameters())
    x, y = _data()
    with pytest.raises(ek.InputError, match="must depend on the parameters of the optimizer, got one that does not"):
        optimizer.step(partial(_pair, other, x[0], y[0]))
    with pytest.raises(ek.InputError, match="must depend on the parameters of the optimizer, got one that does not"):
        optimizer.step(lambda: [(net(x[0]), y[0]), (other(x[0]), y[0])])
    optimizer.step(lambda: (net[0](x[0]), torch.ones(3, 8).double()))  # a part of them is enough


def test_a_step_without_a_closure_is_refused() -> None:
    """As after a loss and `backward`, the way of other optimizers."""
    with pytest.raises(ek.InputError, match=r"step needs a closure that returns prediction and label"):
        EKF(_net().parameters()).step()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda net, x: (net(x).to(torch.complex128), torch.ones(1, 1)), "real, got torch.complex128"),
        (lambda net, x: (net(x), torch.ones(1, 1) * 1j), "real, got torch.complex64"),
        (lambda net, x: (net(x)[:0], torch.ones(0, 1)), "at least one number"),
    ],
)
@pytest.mark.parametrize("measure", ["each", "signed_mean"])
def test_pairs_without_real_numbers_are_refused(returned: Any, message: str, measure: Any) -> None:
    """Neither an imaginary part nor a measurement is dropped."""
    net = _net()
    with pytest.raises(ek.InputError, match=message):
        EKF(net.parameters(), measure=measure).step(lambda: returned(net, torch.ones(1, 2).double()))


@pytest.mark.parametrize(("saved", "wanted"), [("float32", "float64"), ("float64", "float32")])
def test_a_state_comes_in_the_precision_of_the_settings(saved: Any, wanted: Any) -> None:
    """P goes on in that of the optimizer that loads it."""
    net = _net()
    optimizer = EKF(net.parameters(), ek.EKFConfig(dtype=saved))
    _train(net, optimizer, 0, 5)
    other = EKF(net.parameters(), ek.EKFConfig(dtype=wanted))
    other.load_state_dict(optimizer.state_dict())
    assert other.filter.covariance.dense(0).dtype == getattr(torch, wanted)
    _train(net, other, 5, 30)
    whole = _net()
    _train(whole, EKF(whole.parameters()))
    for one, same in zip(net.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=1e-4)  # rounding of P in single precision, as for the core


def test_a_group_of_processes_that_came_later_is_refused() -> None:
    """Each process would learn from its own data alone, without a word."""
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg", reason="this torch has no fake processes")
    net = _net()
    optimizer = EKF(net.parameters())
    x, y = _data()
    torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=2)
    try:
        with pytest.raises(ek.InputError, match="made for 1 processes, got a process group of 2; make it after"):
            optimizer.step(partial(_pair, net, x[0], y[0]))
    finally:
        torch.distributed.destroy_process_group()
    optimizer.step(partial(_pair, net, x[0], y[0]))
