"""Crystals, slabs, wires and molecules of several elements in one training set."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytestmark = pytest.mark.usefixtures("no_plots", "copper_text")

Cli = Callable[..., tuple[int, str, str]]

_CONFIG = """\
[data]
train = ["alloy.xyz", "slab.xyz", "cluster.xyz"]
[model]
cutoff = 4.0
embedding = [4]
axis = 2
fitting = [6]
[optimizer]
block_size = 60
virial_prefactor = 1.0
[training]
epochs = 1
batch = 3
"""


def _labelled(structures: Sequence[Any]) -> list[Any]:
    from ase.calculators.emt import EMT

    rng, frames = np.random.default_rng(0), []
    for atoms in structures:
        atoms.info.clear()
        atoms.positions += rng.normal(0.0, 0.05, atoms.positions.shape)
        atoms.calc = EMT()
        atoms.get_forces()
        if atoms.pbc.all():
            atoms.get_stress()
        else:
            atoms.calc.results.pop("stress", None)
        frames.append(atoms)
    return frames


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write frames of 1 to 5 atoms more or less, of one to three elements, periodic in three directions to none."""
    from ase import Atoms
    from ase.build import bulk, fcc111
    from ase.io import write

    alloys = [bulk("Cu", cubic=True).repeat((n, 1, 1)) for n in (1, 2, 3)]
    for atoms in alloys:
        atoms.symbols[0] = "Au"
    slabs = [fcc111("Ag", (2, 1, n), vacuum=6.0) for n in (2, 3)]
    clusters = [Atoms("Cu2Au", [[0, 0, 0], [2.5, 0, 0], [0, 2.6, 0.3]]), Atoms("Ag")]
    for name, structures in (("alloy", alloys), ("slab", slabs), ("cluster", clusters)):
        write(tmp_path / f"{name}.xyz", _labelled(structures))
    (tmp_path / "config.toml").write_text(_CONFIG)
    return tmp_path


@pytest.mark.parametrize("preset", ["recommended", "rlekf", "deepmd-lkf", "matpl-lkf", "n2p2"])
def test_any_filter_takes_them(folder: Path, cli: Cli, preset: str) -> None:
    """Frames of different size, elements and periodicity in one batch; those without a virial have none to learn."""
    from ekfcore.training import load_model

    words = ["--set", f"optimizer.preset={preset}", "--out", folder / "run"]
    code, out, err = cli("train", folder / "config.toml", *words)
    assert code == 0, err
    assert ", Ag Au Cu; " in out
    assert "of the 6 frames to train on have a virial" in out
    assert np.isfinite(load_model(folder / "run").weights).all()
    assert cli("test", folder / "run", folder / "slab.xyz")[0] == 0


def test_periodic_in_two_directions(folder: Path, cli: Cli) -> None:
    """A slab sees its images along two directions, and along the third none, however thin the cell is there."""
    from ase.io import read

    from ekfcore.potentials import EKFCalculator

    assert cli("train", folder / "config.toml", "--out", folder / "run")[0] == 0
    slab: Any = read(folder / "slab.xyz", -1)
    slab.calc = EKFCalculator(folder / "run")
    energy, forces = slab.get_potential_energy(), slab.get_forces()
    thin, thick = slab.copy(), slab.copy()
    thin.cell[2, 2], thick.cell[2, 2] = 3.0, 60.0
    thick.pbc = True  # its images are out of sight
    for other in (thin, thick):
        other.calc = EKFCalculator(folder / "run")
        assert other.get_potential_energy() == pytest.approx(energy, rel=1e-13)
        np.testing.assert_allclose(other.get_forces(), forces, atol=1e-12)
