#!/usr/bin/env python3
"""Train TorchANI's potential, a module of PyTorch that knows nothing of filters, on clusters of copper and gold.

pip install --no-deps torchani
python docs/examples/torchani_clusters.py [--quick]
"""

import argparse

import numpy as np
import torch
from ase.calculators.emt import EMT
from ase.cluster import Icosahedron
from torch import Tensor, nn
from torchani import AEVComputer, ANINetworks
from torchani.nn import AtomicNetwork

import ekfcore as ek
from ekfcore.models import TorchModule
from ekfcore.potentials.sample import Sample
from ekfcore.presets import preset
from ekfcore.training import KalmanOptimizer

ELEMENTS = ("Cu", "Au")


class Potential(nn.Module):
    """The energy of a cluster from the positions of its atoms [Å]."""

    def __init__(self, species: list[int]) -> None:
        super().__init__()
        self.register_buffer("species", torch.tensor([species]))
        self.features = AEVComputer.like_2x(num_species=len(ELEMENTS))
        widths = (self.features.out_dim, 8, 8, 1)
        self.nets = ANINetworks({name: AtomicNetwork(widths, "gelu", bias=True) for name in ELEMENTS})

    def forward(self, positions: Tensor) -> Tensor:
        return self.nets(self.species, self.features(self.species, positions[None]))


def clusters(count: int) -> list[Sample]:
    """Return distorted icosahedra of 13 atoms, with the energies and forces of effective medium theory."""
    samples = []
    for seed in range(count):
        atoms = Icosahedron("Cu", 2)
        atoms.symbols[::3] = "Au"
        atoms.rattle(0.15, seed=seed)
        atoms.calc = EMT()
        energy, forces = torch.tensor(atoms.get_potential_energy()).double(), torch.tensor(atoms.get_forces())
        seen = {"positions": torch.tensor(atoms.positions)}
        samples.append(Sample(environment=seen, energy=energy, forces=forces, virial=None, n_atoms=len(atoms)))
    return samples


def errors(model: TorchModule, w: Tensor, samples: list[Sample]) -> tuple[float, float]:
    """Return the errors of energy [meV/atom] and forces [meV/Å]."""
    found = [(model.predict(w, s.environment), s) for s in samples]
    energy = torch.stack([(p["energy"] - s.energy) / s.n_atoms for p, s in found])
    forces = torch.stack([p["forces"] - s.forces for p, s in found])
    return 1e3 * float(energy.square().mean().sqrt()), 1e3 * float(forces.square().mean().sqrt())


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few clusters, one epoch")
    args = parser.parse_args()
    count, epochs = (4, 1) if args.quick else (160, 6)
    torch.manual_seed(0)
    samples = clusters(count + count // 4)
    train, test = samples[:count], samples[count:]
    model = TorchModule(Potential([0 if k % 3 else 1 for k in range(13)]).double(), forces="positions")
    recipe = preset("recommended", measurements_per_epoch=6 * count)
    layout = ek.partition(model.layer_sizes, block_size=recipe.block_size)
    state = ek.init(model.weights, layout, recipe.config)
    optimizer, rng = KalmanOptimizer(model, recipe, state), np.random.default_rng(0)
    for epoch in range(epochs + 1):
        energy, force = errors(model, optimizer.weights, test)
        print(f"epoch {epoch}: {energy:6.1f} meV/atom {force:6.1f} meV/Å", flush=True)
        for k in rng.permutation(count) if epoch < epochs else ():
            optimizer.step([train[k]], rng)


if __name__ == "__main__":
    main()
