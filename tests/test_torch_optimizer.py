"""The optimizer facade: the same as the filter itself, and restarts to the bit."""

import io
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='torch is not installed: pip install "ekfcore[torch]"')
import torch
from ekfcore.backends.torch import EKF
from ekfcore.models import TorchModule
from torch import Tensor, nn

import ekfcore as ek
from ekfcore.measurement import signed_mean


def _net(dtype: str = "float64") -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(getattr(torch, dtype))


def _data(dtype: str = "float64") -> tuple[Tensor, Tensor]:
    x = torch.rand(30, 3, 2, generator=torch.Generator().manual_seed(1), dtype=getattr(torch, dtype))
    return x, torch.sin(3 * x).sum(dim=2, keepdim=True)


def _pair(net: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return net(x), y


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
from ekfcore.backends.torch import EKF
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
        (lambda net: (torch.ones(1).double(), torch.ones(1).double()), "must depend on the parameters"),
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
