"""The packaged data of the demonstration."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

atoms = pytest.importorskip("ekfcore.atoms.reading", reason="needs ekfcore[atoms]")
pytest.importorskip("ase", reason="needs ekfcore[atoms]")

DEMO = Path(str(files("ekfcore.demo")))


@pytest.mark.parametrize(("part", "count"), [("train", 96), ("test", 24)])
def test_packaged_frames(part: str, count: int) -> None:
    """They have all labels, in eV and Å: forces cancel, and the virial is that of a crystal near equilibrium."""
    frames = atoms.read_frames(DEMO / f"silicon_{part}.xyz.xz", require=("energy", "forces", "virial"))
    assert len(frames) == count
    for frame in frames:
        assert frame.symbols == ["Si"] * 32
        np.testing.assert_allclose(frame.forces.sum(axis=0), 0.0, atol=1e-5)
        assert np.abs(frame.virial).max() < 60.0  # [eV]; 10 GPa in this cell would be 41 eV


def test_config_trains_on_them() -> None:
    """The CONFIG of the demonstration is valid and finds its data."""
    settings = pytest.importorskip("ekfcore.training.settings", reason="needs ekfcore[atoms]")
    loaded = settings.load_settings(DEMO / "demo.toml")
    assert all(Path(path).is_file() for path in [*loaded.data.train, *loaded.data.test])
