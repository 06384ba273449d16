"""A Deep Potential in a few lines of torch, written from the formulas and sharing no code with the package.

Positions and cell stay in the graph, so forces, virial and weight gradients come from autograd. It loops over atoms and
images, and is meant for a handful of atoms.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch  # noqa: TID253

if TYPE_CHECKING:
    from ekfcore.models.deep_potential import DeepPotential

__all__ = ["ACTIVATIONS", "jacobian", "network", "predict"]

ACTIVATIONS: Mapping[str, Any] = {
    "tanh": torch.tanh,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "gelu_tf": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "softplus": lambda x: -torch.nn.functional.logsigmoid(-x),  # torch's own softplus is linear beyond 20
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "linear": lambda x: x,
    "none": lambda x: x,
}


def network(
    w: torch.Tensor, widths: Sequence[int], act: str, x: torch.Tensor, *, time_step: bool = False, output: bool = False
) -> torch.Tensor:
    """Layers y = act(x W^T + b) [* dt] + residual, and a linear output of width one if asked for."""
    for n_in, n_out in itertools.pairwise(widths):
        W, b, w = w[: n_in * n_out].reshape(n_out, n_in), w[n_in * n_out :][:n_out], w[n_in * n_out + n_out :]
        y = ACTIVATIONS[act](x @ W.T + b)
        if n_out in (n_in, 2 * n_in):
            if time_step:
                y, w = y * w[:n_out], w[n_out:]
            y = y + (x if n_out == n_in else torch.cat([x, x], dim=-1))
        x = y
    if output:
        x, w = x @ w[: widths[-1], None] + w[widths[-1]], w[widths[-1] + 1 :]
    assert not len(w), "weights are left over"
    return x


def _environment(
    i: int, of_type: Sequence[int], positions: torch.Tensor, shifts: torch.Tensor, cutoff: float, smooth: float
) -> torch.Tensor:
    """Rows s(r) (1, x/r, y/r, z/r) of the neighbours of one type around atom i, periodic images included."""
    d = torch.cat([positions[j] + shifts - positions[i] for j in of_type]) if of_type else positions[:0]
    r = torch.linalg.vector_norm(d.detach(), dim=-1)
    d = d[(r > 1e-9) & (r < cutoff)]
    r = torch.linalg.vector_norm(d, dim=-1, keepdim=True)
    u = torch.clamp((r - smooth) / (cutoff - smooth), min=0.0)
    s = (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) / r
    return torch.cat([s, s * d / r], dim=-1)


def _energy(w: torch.Tensor, model: "DeepPotential", positions: torch.Tensor, cell: torch.Tensor, frame: Any) -> Any:
    """Total energy as a loop over atoms."""
    arch, statistics = model.architecture, model.statistics
    mean, std = torch.as_tensor(statistics.mean), torch.as_tensor(statistics.std)
    types = [arch.elements.index(symbol) for symbol in frame.symbols]
    n_types = len(arch.elements)
    embeddings = w[: arch.embedding_net.n_params * arch.n_embeddings].reshape(arch.n_embeddings, -1)
    fittings = w[embeddings.numel() :].reshape(n_types, -1)
    images = itertools.product(*[range(-4, 5) if periodic else (0,) for periodic in frame.pbc])
    shifts = torch.tensor(list(images), dtype=cell.dtype) @ cell
    total = torch.zeros((), dtype=w.dtype)
    for i, centre in enumerate(types):
        A = torch.zeros(arch.embedding[-1], 4, dtype=w.dtype)
        for t in range(n_types):
            of_type = [j for j, other in enumerate(types) if other == t]
            rows = _environment(i, of_type, positions, shifts, arch.cutoff, arch.cutoff_smooth)
            # Beyond the capacity the number of empty places is negative.
            empty = torch.zeros(1, 4, dtype=w.dtype)
            counts = torch.tensor([*[1] * len(rows), arch.capacity[t] - len(rows)], dtype=w.dtype)[:, None]
            R = (torch.cat([rows, empty]) - mean[centre]) / std[centre]
            net = embeddings[t if arch.type_one_side else centre + n_types * t]
            G = network(net, (1, *arch.embedding), arch.activation, R[:, :1])
            A = A + G.T @ (counts * R) / sum(arch.capacity)
        D = (A @ A[: arch.axis].T).reshape(-1)
        widths = (len(D), *arch.fitting)
        net = fittings[centre]
        total = total + network(net, widths, arch.activation, D, time_step=arch.resnet_dt, output=True).sum()
        total = total + statistics.energy_bias[centre]
    return total


def predict(model: "DeepPotential", w: torch.Tensor, frame: Any) -> dict[str, torch.Tensor]:
    """Energy, forces and virial (minus the derivative with respect to a strain of positions and cell), in the graph."""
    positions = torch.tensor(frame.positions, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=w.dtype, requires_grad=True)
    deform = torch.eye(3, dtype=w.dtype) + strain
    energy = _energy(w, model, positions @ deform, torch.tensor(frame.cell) @ deform, frame)
    forces, virial = torch.autograd.grad(-energy, [positions, strain], create_graph=True, materialize_grads=True)
    return {"energy": energy, "forces": forces, "virial": virial}


def jacobian(model: "DeepPotential", w: Any, frame: Any, cotangents: Sequence[Mapping[str, Any]]) -> tuple[Any, Any]:
    """Values and weight gradients of linear functionals by autograd, from NumPy to NumPy."""
    weights = torch.tensor(w, requires_grad=True)
    prediction = predict(model, weights, frame)
    values, rows = [], []
    for cotangent in cotangents:
        terms = [torch.sum(torch.as_tensor(c) * prediction[name]) for name, c in cotangent.items()]
        value = sum(terms, start=torch.zeros((), dtype=weights.dtype) * weights.sum())
        values.append(value.detach())
        rows.append(torch.autograd.grad(value, weights, retain_graph=True)[0])
    return torch.stack(values).numpy(), torch.stack(rows).numpy()
