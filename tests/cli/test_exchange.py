"""``ekfcore export`` and ``ekfcore import``."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("no_plots")

Cli = Callable[..., tuple[int, str, str]]
Refuse = Callable[..., str]


@pytest.fixture
def trained(config: Path, cli: Cli) -> Path:
    """Train for two epochs; return the folder, beside which the data are."""
    pytest.importorskip("h5py", reason='h5py is not installed: pip install "ekfcore[atoms]"')
    assert cli("train", config, "--out", config.parent / "run")[0] == 0
    return config.parent / "run"


def test_there_and_back(trained: Path, config: Path, cli: Cli) -> None:
    """The imported model has the errors of the exported one, and can be trained further."""
    folder, data = trained.parent, trained.parent / "copper.xyz"
    code, out, _ = cli("export", trained, folder / "copper.dp")
    assert code == 0
    first, second = out.splitlines()
    assert first == f"{folder / 'copper.dp'}: Cu, 69 weights, cutoff 4 Å"
    assert second.startswith("places for 22 Cu; ")
    code, out, _ = cli("import", folder / "copper.dp", "--out", folder / "back")
    assert code == 0
    assert f"Test it: ekfcore test {folder / 'back'} DATA" in out
    reports = [json.loads(cli("test", model, data, "--json")[1]) for model in (trained, folder / "back")]
    assert reports[1] == pytest.approx(reports[0], rel=1e-9)
    # Without room to the last bit.
    assert cli("export", trained, folder / "same.dp", "--room", 1)[0] == 0
    assert cli("import", folder / "same.dp", "--out", folder / "same")[0] == 0
    assert cli("test", trained, data, "--json") == cli("test", folder / "same", data, "--json")


def test_wrong_files(trained: Path, refuse: Refuse, cli: Cli) -> None:
    """One line each."""
    folder = trained.parent
    assert "model.pb must end in .dp or .pth" in refuse("export", trained, folder / "model.pb")
    assert "cannot read" in refuse("export", folder / "none", "x.dp")
    assert "none.dp is no file" in refuse("import", folder / "none.dp", "--out", folder / "back")
    assert "dp convert-backend" in refuse("import", folder / "graph.pb", "--out", folder / "back")
    assert "cannot be written" in refuse("export", trained, folder / "nowhere" / "model.dp")
    (folder / "text.dp").write_text("no HDF5")
    assert "text.dp is damaged or no model of DeePMD-kit" in refuse("import", folder / "text.dp", "--out", folder / "b")
    cli("export", trained, folder / "model.dp")
    assert "run exists already" in refuse("import", folder / "model.dp", "--out", trained)


def test_without_deepmd_kit(trained: Path, refuse: Refuse) -> None:
    """The pip command, and the way around."""
    if importlib.util.find_spec("deepmd"):
        pytest.skip("DeePMD-kit is installed")
    line = refuse("export", trained, trained.parent / "model.pth")
    assert 'needs DeePMD-kit, which is not installed; run: pip install "ekfcore[deepmd]", or use a .dp' in line
    (trained.parent / "model.pth").touch()
    assert 'pip install "ekfcore[deepmd]"' in refuse("import", trained.parent / "model.pth", "--out", "none")


def test_imported_model_knows_no_uncertainty(trained: Path, refuse: Refuse, cli: Cli) -> None:
    """It has no filter, and says where it comes from."""
    folder = trained.parent
    cli("export", trained, folder / "model.dp")
    cli("import", folder / "model.dp", "--out", folder / "back")
    line = refuse("kpu", folder / "back", folder / "copper.xyz", "--out", folder / "kpu")
    assert "this model was trained with DeePMD-kit, which keeps no covariance" in line


def test_calculator(trained: Path, cli: Cli) -> None:
    """ASE computes the same with the imported model."""
    from ase import Atoms
    from ase.io import read

    from ekfcore.potentials import EKFCalculator

    folder = trained.parent
    cli("export", trained, folder / "model.dp")
    cli("import", folder / "model.dp", "--out", folder / "back")
    atoms = read(folder / "copper.xyz")
    assert isinstance(atoms, Atoms)
    energies = []
    for model in (trained, folder / "back"):
        atoms.calc = EKFCalculator(model)
        energies.append(atoms.get_potential_energy())
    np.testing.assert_allclose(energies[1], energies[0], rtol=1e-7)  # the first with interpolated embeddings
