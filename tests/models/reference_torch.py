"""A Deep Potential in a few lines of torch, written from the formulas and sharing no code with the package.

Positions and cell stay in the graph, so forces, virial and weight gradients come from autograd.
"""

import itertools

import torch

ACTIVATIONS = {
    "tanh": torch.tanh,
    "gelu": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
    "relu": torch.relu,
    "relu6": torch.nn.functional.relu6,
    "linear": lambda x: x,
}


def network(w, widths, act, x, time_step):
    """Layers y = act(x W^T + b) [* dt] + residual; the output layer, if widths ends in None, is linear."""
    for index, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        last = n_out is None
        n_out = 1 if last else n_out
        W, w = w[: n_in * n_out].reshape(n_out, n_in), w[n_in * n_out :]
        b, w = w[:n_out], w[n_out:]
        z = x @ W.T + b
        if last:
            return z, w
        y = ACTIVATIONS[act](z)
        if n_out in (n_in, 2 * n_in):
            if time_step:
                y, w = y * w[:n_out], w[n_out:]
            y = y + (x if n_out == n_in else torch.cat([x, x], dim=-1))
        x = y
    return x, w


def energy(w, positions, cell, pbc, types, arch, mean, std, bias):
    """Total energy as a double loop over atoms and their periodic images."""
    n_types = len(arch.elements)
    nets, rest = [], w
    for _ in range(arch.n_embeddings):
        size = arch.embedding_net.n_params
        nets.append(rest[:size])
        rest = rest[size:]
    size = arch.fitting_net.n_params
    fits = [rest[k * size : (k + 1) * size] for k in range(n_types)]
    reach = [4 if periodic else 0 for periodic in pbc]
    shifts = [
        torch.tensor(s, dtype=torch.float64) @ cell for s in itertools.product(*[range(-k, k + 1) for k in reach])
    ]
    slots = sum(arch.capacity)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(types)):
        A = torch.zeros(arch.embedding[-1], 4, dtype=torch.float64)
        for t in range(n_types):
            rows = []
            for j in range(len(types)):
                if types[j] != t:
                    continue
                for shift in shifts:
                    d = positions[j] + shift - positions[i]
                    r = torch.linalg.vector_norm(d.detach())
                    if not 1e-9 < r < arch.cutoff:
                        continue
                    r = torch.linalg.vector_norm(d)
                    u = torch.clamp((r - arch.cutoff_smooth) / (arch.cutoff - arch.cutoff_smooth), min=0.0)
                    s = (1 - 10 * u**3 + 15 * u**4 - 6 * u**5) / r
                    rows.append(torch.cat([s.reshape(1), s * d / r]))
            rows += [torch.zeros(4, dtype=torch.float64)] * (arch.capacity[t] - len(rows))
            if not rows:
                continue
            R = (torch.stack(rows) - mean[types[i]]) / std[types[i]]
            index = t if arch.type_one_side else types[i] + n_types * t
            G, _ = network(nets[index], (1, *arch.embedding), arch.activation, R[:, :1], False)
            A = A + G.T @ R / slots
        D = (A @ A[: arch.axis].T).reshape(-1)
        widths = (D.shape[0], *arch.fitting, None)
        e, _ = network(fits[types[i]], widths, arch.activation, D, arch.resnet_dt)
        total = total + e.sum() + bias[types[i]]
    return total


def predict(w, positions, cell, pbc, types, arch, mean, std, bias):
    """Energy, forces and virial (minus the derivative with respect to a strain of positions and cell), in the graph."""
    positions = positions.clone().requires_grad_(True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    deform = torch.eye(3, dtype=torch.float64) + strain
    e = energy(w, positions @ deform, cell @ deform, pbc, types, arch, mean, std, bias)
    gradient = torch.autograd.grad(e, [positions, strain], create_graph=True)
    return e, -gradient[0], -gradient[1]
