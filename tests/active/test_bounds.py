"""Labels that are no labels of their frame: of other positions, or of a size that nothing has."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from pathlib import Path
from typing import Any

import numpy as np
import pytest

for _package in ("ase", "pydantic", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[active]"')

from ase.build import bulk  # noqa: E402

from ekfcore.atoms import Frame  # noqa: E402
from ekfcore.labelling.executors import ExecutorSettings  # noqa: E402
from ekfcore.labelling.label import LabelReport, LabelSettings, label  # noqa: E402
from ekfcore.labelling.ledger import Ledger  # noqa: E402

_CALCULATOR = '''
"""What a program may do instead of a single point."""
import numpy as np
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.optimize import BFGS


class Odd(Calculator):
    implemented_properties = ["energy", "forces", "stress"]

    def __init__(self, does):
        super().__init__()
        self.does = does

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        work = atoms if self.does == "relax-given" else atoms.copy()
        if self.does.startswith("relax"):
            work.calc = EMT()
            BFGS(work, logfile=None).run(fmax=0.01)
        if self.does == "cell":
            work.set_cell(1.01 * work.cell[:], scale_atoms=True)
        if self.does == "swap":
            work.positions = work.positions[[1, 0, *range(2, len(work))]]
        if self.does == "wrap":
            work.wrap()
            work.positions += 1e-6
        work.calc = EMT()
        self.results = {"energy": work.get_potential_energy(), "forces": work.get_forces(), "stress": work.get_stress()}
        self.atoms = work
        if self.does == "energy":
            self.results["energy"] = 1e6
        if self.does == "deep":
            self.results["energy"] = -1e9
        if self.does == "force":
            self.results["forces"] = self.results["forces"] + 1e5
        if self.does == "stress":
            self.results["stress"] = self.results["stress"] + 1e5
'''


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that labels a frame with a calculator that does something odd."""
    (tmp_path / "odd.py").write_text(_CALCULATOR)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(does: str, **bounds: float) -> LabelReport:
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=0)
        atoms.positions[0] -= 0.3  # outside the cell, where programs take it back
        settings = LabelSettings(
            calculator="odd:Odd",
            parameters={"does": does},
            retries=0,
            executor=ExecutorSettings(workers=1),
            **bounds,
        )
        return label([Frame.from_ase(atoms, "it")], settings, Ledger(tmp_path / f"{does}.db"), log_dir=tmp_path)

    return run


@pytest.mark.parametrize(
    ("does", "told"),
    [
        ("relax-given", "moved atom"),
        ("relax-copy", "moved atom"),
        ("swap", "moved atom"),
        ("cell", "changed the cell"),
        ("energy", "energy of 250000 eV/atom lies outside label.min_energy and label.max_energy, -2e+06 and 1000"),
        ("deep", "energy of -2.5e+08 eV/atom lies outside"),
        ("force", "eV/Å is above label.max_force = 1000"),
        ("stress", "GPa is above label.max_stress = 10000"),
    ],
)
def test_no_label_of_its_frame(odd: Any, does: str, told: str) -> None:
    """It is refused as any calculation that failed, with the reason and the value."""
    found = odd(does)
    assert not found.labelled
    ((_, reason),) = found.quarantined
    assert told in reason


@pytest.mark.parametrize("does", ["nothing", "wrap"])
def test_a_label_of_its_frame(odd: Any, does: str) -> None:
    """Whole lattice vectors and the rounding of a file are no motion."""
    (frame,) = odd(does).labelled
    assert frame.positions[0, 0] < 0
    assert np.isfinite(frame.energy)


def test_bounds_are_settings(odd: Any) -> None:
    """Wider ones let it pass."""
    assert odd("energy", max_energy=1e9).labelled
