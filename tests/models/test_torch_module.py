"""Modules of PyTorch as models: gradients against finite differences and against the library's own network."""

import numpy as np
import pytest

pytest.importorskip("torch", reason='torch is not installed: pip install "ekfcore[torch]"')
import torch
from torch import Tensor, nn

import ekfcore as ek
from ekfcore.measurement import signed_mean
from ekfcore.models import TorchModule
from ekfcore.models.perceptron import Perceptron


class PairPotential(nn.Module):
    """A smooth energy of all pairs of atoms, by a small network of their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))

    def forward(self, positions: Tensor) -> Tensor:
        i, j = torch.triu_indices(len(positions), len(positions), 1)
        energies: Tensor = self.net((positions[i] - positions[j]).norm(dim=1, keepdim=True))
        return energies.sum()


class Normed(nn.Module):
    """A module with buffers, of which one goes by two names and one belongs to two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)
        self.alias, self.twin = self.norm, nn.BatchNorm1d(3)
        self.twin.num_batches_tracked = self.norm.num_batches_tracked

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.last(self.twin(self.alias(self.norm(self.first(x)))))
        return found


def _pairs() -> tuple[TorchModule, dict[str, Tensor]]:
    torch.manual_seed(0)
    model = TorchModule(PairPotential().double(), forces="positions")
    return model, {"positions": 2 * torch.rand(4, 3, dtype=torch.float64)}


def test_the_same_network_as_the_perceptron() -> None:
    """Predictions and gradients of two independent programs."""
    perceptron = Perceptron((3, 5, 2))
    w = perceptron.initial_weights(seed=0)
    model = TorchModule(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double())
    assert model.layer_sizes == perceptron.layer_sizes
    rng = np.random.default_rng(0)
    x, ybar = rng.standard_normal((4, 3)), rng.standard_normal((3, 4, 2))
    values, H = perceptron.jacobian(w, x, [{"y": y} for y in ybar])
    found = model.jacobian(torch.tensor(w), torch.tensor(x), [{"output": torch.tensor(y)} for y in ybar])
    np.testing.assert_allclose(found[0], values, rtol=1e-13)
    np.testing.assert_allclose(found[1], H, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        model.predict(torch.tensor(w), torch.tensor(x))["output"], perceptron.predict(w, x)["y"], rtol=1e-13
    )


def test_forces_are_minus_the_gradient_of_the_energy() -> None:
    """By finite differences of the positions."""
    model, sample = _pairs()
    w, step = model.weights, 1e-5
    forces = model.predict(w, sample)["forces"]
    for atom, k in [(0, 0), (2, 1), (3, 2)]:
        energies = []
        for sign in (1, -1):
            moved = sample["positions"].clone()
            moved[atom, k] += sign * step
            energies.append(float(model.predict(w, {"positions": moved})["energy"]))
        np.testing.assert_allclose(forces[atom, k], -(energies[0] - energies[1]) / (2 * step), rtol=1e-7)


@pytest.mark.parametrize("name", ["energy", "forces"])
def test_weight_gradients_by_finite_differences(name: str) -> None:
    """Of the energy, and of a sum of forces, which takes a second derivative."""
    model, sample = _pairs()
    w, step = model.weights, 1e-5
    shape = model.predict(w, sample)[name].shape
    cotangent = {name: torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))}
    _, H = model.jacobian(w, sample, [cotangent, {"energy": torch.zeros((), dtype=torch.float64)}])
    for k in range(0, len(w), 4):
        values = []
        for sign in (1, -1):
            moved = w.clone()
            moved[k] += sign * step
            values.append(float((model.predict(moved, sample)[name] * cotangent[name]).sum()))
        np.testing.assert_allclose(H[0, k], (values[0] - values[1]) / (2 * step), rtol=1e-6, atol=1e-9)
    assert not H[1].any()


def test_the_module_is_changed_by_store_only() -> None:
    """Its parameters are copied, and keep their gradients."""
    model, sample = _pairs()
    before = model.weights
    model.jacobian(before + 1, sample, [{"energy": torch.ones((), dtype=torch.float64)}])
    assert torch.equal(model.weights, before)
    assert all(p.grad is None for p in model.module.parameters())
    model.store(before + 1)
    assert torch.equal(model.weights, before + 1)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_buffers_are_changed_by_nobody(mode: str) -> None:
    """A batch is normalised by its own mean, and the running one stays, also where one module goes by two names."""
    torch.manual_seed(0)
    net = Normed().double()
    getattr(net, mode)()
    model, x = TorchModule(net), torch.rand(6, 2, dtype=torch.float64)
    before = {name: (buffer, buffer.clone()) for name, buffer in net.named_buffers(remove_duplicate=False)}
    assert len(before) == 9
    first = model.predict(model.weights, x)["output"]
    model.jacobian(model.weights, x, [{"output": torch.ones(6, 1)}])
    after = dict(net.named_buffers(remove_duplicate=False))
    for name, (buffer, numbers) in before.items():
        assert after[name] is buffer
        assert torch.equal(buffer, numbers), name
    assert torch.equal(model.predict(model.weights, x)["output"], first)
    assert torch.equal(net(x), first)  # the module itself goes on as before: in training it moves its running mean
    assert torch.equal(after["norm.running_mean"], before["norm.running_mean"][1]) == (mode == "eval")


@pytest.mark.parametrize("flag", [False, True])
def test_freezing_and_thawing_afterwards_is_refused(flag: bool) -> None:
    """The weights are the parameters that required a gradient when the model was made."""
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    net[0].weight.requires_grad_(not flag)
    model, x = TorchModule(net), torch.ones(1, 2, dtype=torch.float64)
    w = model.weights
    net[0].weight.requires_grad_(flag)
    for call in (
        lambda: model.weights,
        lambda: model.store(w),
        lambda: model.predict(w, x),
        lambda: model.jacobian(w, x, [{"output": torch.ones(1, 1)}]),
    ):
        with pytest.raises(ek.InputError, match=r"0.weight .* since TorchModule was made; make a new one"):
            call()


def test_parameters_without_elements_are_no_weights() -> None:
    """Some modules have them to keep a place."""
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)).double()
    net.place = nn.Parameter(torch.zeros(0, dtype=torch.float64))
    model = TorchModule(net)
    assert model.layer_sizes == (6, 3, 3, 1)
    assert ek.init(model.weights, ek.partition(model.layer_sizes)).weights.shape == (13,)
    with pytest.raises(ek.InputError, match=r"`w` must have shape \(13,\), got \(12,\)"):
        model.predict(model.weights[:-1], torch.ones(1, 2, dtype=torch.float64))


def test_frozen_parameters_are_no_weights() -> None:
    """They keep their values and stay out of the covariance."""
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].weight.requires_grad_(False)
    assert TorchModule(net).layer_sizes == (3, 3, 1)


def test_modules_and_parameters_that_go_by_several_names() -> None:
    """A layer under two names, and a matrix in two layers: each is one weight, and stays what it was."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    net.alias = net[0]
    net[2].weight = net[0].weight
    model, x = TorchModule(net), torch.ones(1, 2, dtype=torch.float64)
    assert model.layer_sizes == (4, 2, 2)
    before, matrix, output = model.weights, net[0].weight, net(x)
    moved = model.predict(before + 0.1, x)["output"]
    assert torch.equal(model.weights, before)
    assert net[0].weight is matrix
    assert net.alias.weight is net[2].weight is matrix
    assert torch.equal(net(x), output)
    model.store(before + 0.1)
    assert torch.equal(net(x), moved)


def test_the_filter_trains_it() -> None:
    """A pair potential from energies and forces of another one."""
    torch.manual_seed(1)
    target = TorchModule(PairPotential().double(), forces="positions")
    model, _ = _pairs()
    frames = [{"positions": 2 * torch.rand(4, 3, dtype=torch.float64)} for _ in range(20)]
    labels = [target.predict(target.weights, frame) for frame in frames]
    config = ek.EKFConfig()
    state = ek.init(model.weights, ek.partition(model.layer_sizes), config)
    ones = {"energy": torch.ones((), dtype=torch.float64)}
    errors = []
    for _ in range(10):
        for frame, label in zip(frames, labels, strict=True):
            prediction = model.predict(state.weights, frame)
            sign, e = signed_mean(prediction["forces"], label["forces"])
            value, H = model.jacobian(state.weights, frame, [ones, {"forces": sign}])
            errors.append(float(e))
            innovation = torch.stack([label["energy"] - value[0], e])
            state, _ = ek.update(state, H, innovation, config=config)
    assert np.mean(errors[-20:]) < 0.1 * np.mean(errors[:20])


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Tanh, "must have parameters that require a gradient"),
        (lambda: nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1).double()), "of one floating-point type on one device"),
    ],
)
def test_modules_that_cannot_be_trained(module: object, message: str) -> None:
    """What is wrong."""
    assert callable(module)
    with pytest.raises(ek.InputError, match=message):
        TorchModule(module())


def test_wrong_samples_and_names() -> None:
    """What was expected and what was found."""
    model, sample = _pairs()
    with pytest.raises(ek.InputError, match="must be a mapping with 'positions'"):
        model.predict(model.weights, sample["positions"])
    with pytest.raises(ek.InputError, match=r"may name energy, forces, got \['dipole'\]"):
        model.jacobian(model.weights, sample, [{"dipole": torch.ones(3)}])
