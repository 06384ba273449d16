"""Frames of copper, a calculator that misbehaves, and a small model."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ekfcore.atoms import Frame


@dataclass(frozen=True)
class Faulty:
    """The calculator of faulty.py: how to name it, and the calls that it noted."""

    calls: Path

    def parameters(self, *, seconds: float = 0.0, **does: str) -> dict[str, Any]:
        """Return its keywords: what frames whose first atom is this element do."""
        return {"calls": str(self.calls), "seconds": seconds, "does": does}

    def count(self, event: str) -> Counter[str]:
        """Return how often each frame came to ``"start"`` or ``"end"``."""
        return Counter(line[1] + line[3] for line in self.lines(event))

    def lines(self, event: str) -> list[list[str]]:
        """Return the words of each line about an event."""
        text = self.calls.read_text(encoding="utf-8") if self.calls.exists() else ""
        return [words for words in map(str.split, text.splitlines()) if words[0] == event]


@pytest.fixture
def importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a file of this folder importable, here and in the processes started from here."""

    def make(name: str) -> None:
        folder = tmp_path / "modules"
        folder.mkdir()
        shutil.copy(Path(__file__).with_name(name), folder)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder))

    return make


@pytest.fixture
def faulty(tmp_path: Path, importable: Callable[[str], None]) -> Faulty:
    """Make faulty.py importable."""
    importable("faulty.py")
    return Faulty(tmp_path / "calls.txt")


@pytest.fixture
def rattled() -> Callable[..., "list[Frame]"]:
    """Return a function that makes cells of four atoms, all of copper but for the first atom."""
    pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
    from ase.build import bulk

    from ekfcore.atoms import Frame

    def make(first: "list[str]", seed: int = 0) -> "list[Frame]":
        frames = []
        for index, symbol in enumerate(first):
            atoms = bulk("Cu", cubic=True)
            atoms.symbols[0] = symbol
            atoms.rattle(0.1, seed=1000 * seed + index)
            frames.append(Frame.from_ase(atoms, f"frame {index}"))
        return frames

    return make


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """Train for an epoch on a few frames of copper; return the folder of the run."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    from ekfcore.training import Settings, prepare

    images = []
    for seed in range(5):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        images.append(atoms)
    write(tmp_path / "copper.xyz", images)
    model = {"cutoff": 4.0, "capacity": [60], "embedding": [4], "axis": 2, "fitting": [6]}
    data = {"train": [str(tmp_path / "copper.xyz")]}
    settings = Settings.from_json({"data": data, "model": model, "training": {"epochs": 1}})
    prepare(settings, tmp_path / "run").run()
    return tmp_path / "run"
