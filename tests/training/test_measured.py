"""What is measured, counted against the filter and against the settings of the presets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

for _package in ("ase", "pydantic", "scipy", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[atoms]"')

from ekfcore.training.optimizer_settings import OptimizerSettings  # noqa: E402


@pytest.fixture
def copper(tmp_path: Path) -> Path:
    """Write cells of four atoms and one of three, half of them with a stress."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.io import write

    frames = []
    for k in range(7):
        atoms = bulk("Cu", cubic=True)[: 3 if k == 3 else 4]
        atoms.rattle(0.1, seed=k)  # type: ignore[no-untyped-call]
        names = ("energy", "forces", "stress") if k % 2 else ("energy", "forces")
        emt = EMT()  # type: ignore[no-untyped-call]
        found = {name: emt.get_property(name, atoms) for name in names}  # type: ignore[no-untyped-call]
        atoms.calc = SinglePointCalculator(atoms, **found)  # type: ignore[no-untyped-call]
        frames.append(atoms)
    write(tmp_path / "copper.xyz", frames)
    return tmp_path / "copper.xyz"


@pytest.mark.parametrize("mode", ["sequential", "vector", "batch"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("extra", [{}, {"groups": 3, "group_size": 2}, {"virial_prefactor": 1.0}])
def test_the_filter_counts_as_many(copper: Path, tmp_path: Path, mode: str, batch: int, extra: dict[str, Any]) -> None:
    """An epoch brings as many measurements as the pace of what is annealed supposes."""
    from ekfcore.atoms import read_frames
    from ekfcore.training import Settings, load_model, prepare
    from ekfcore.training.schedule import measurements

    if mode == "batch" and "virial_prefactor" in extra:
        pytest.skip("which virials meet in a batch is drawn at random")
    settings = Settings.from_json(
        {
            "data": {"train": [str(copper)], "test_fraction": 0.0},
            "model": {"cutoff": 4.0, "embedding": [4], "axis": 2, "fitting": [6], "capacity": [80]},
            "optimizer": {"preset": "n2p2", "mode": mode, **extra},
            "training": {"epochs": 1, "batch": batch},
        }
    )
    assert prepare(settings, tmp_path / "run").run()
    wanted = measurements(settings.optimizer.recipe(1), read_frames(copper), batch=batch)
    assert load_model(tmp_path / "run").optimizer["count"] == wanted


@pytest.mark.parametrize(
    ("settings", "force", "energy"),
    [
        # R = L = 7; the mean over six atoms is divided by N = 72, and 24 of 72 atoms are measured in an epoch.
        ({"preset": "rlekf"}, 3 * 3 * 6 * 7 * 72**2 * 3, 7.0),
        ({"preset": "matpl-lkf"}, 3 * 3 * 6 * 7 * 72**2 * 3 / 4, 7.0),  # forces count twice
        ({"preset": "rlekf", "force_per_atom": False}, 3 * 3 * 6 * 7 * 3, 7.0),
        ({"preset": "rlekf", "energy_prefactor": 10.0}, 3 * 3 * 6 * 7 * 72**2 * 3, 0.07),
        ({"preset": "rlekf", "noise": 2.0}, 3 * 3 * 6 * 2 * 72**2 * 3, 2.0),
        ({"preset": "rlekf", "mode": "pinned"}, 3 * 3 * 6 * 7 * 72**2 * 3, 7.0 / 4),  # the energy in each update
        ({"preset": "n2p2"}, 3 * 3 * 6 * 1 * 3, 1.0),  # annealed to the end
        ({"preset": "recommended", "noise": 1.0}, 3 * 3 * 18.0, 0.0009 / 2),  # four groups of all atoms, two updates
    ],
)
def test_noise_of_a_label(settings: dict[str, Any], force: float, energy: float) -> None:
    """What greedy selection takes a label of 72 atoms to tell in one epoch, from the numbers of each preset."""
    judge = pytest.importorskip("ekfcore.active.acquisition", reason="active learning needs ekfcore[active]")
    model: Any = SimpleNamespace(arrays={}, optimizer={"count": 10**9, "sizes": [10] * 7})
    frames: Any = [SimpleNamespace(n_atoms=72), SimpleNamespace(n_atoms=1)]
    found = judge._noise(model, OptimizerSettings.model_validate(settings), 1, frames)
    assert found[0, 0] == pytest.approx(force)
    assert found[0, -1] == pytest.approx(energy)
    assert np.isfinite(found).all()
