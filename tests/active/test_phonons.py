"""Phonons of copper against ASE's own, and the command that draws them."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ekfcore.atoms import Frame
from ekfcore.errors import InputError

for package in ("ase", "matplotlib", "phonopy", "pydantic", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[active]"')

import ase.phonons  # noqa: E402
from ase import Atoms  # noqa: E402
from ase.build import bulk, molecule  # noqa: E402
from ase.calculators.calculator import Calculator  # noqa: E402
from ase.calculators.emt import EMT  # noqa: E402
from ase.io import write  # noqa: E402
from ase.units import _e, _hplanck  # noqa: E402

from ekfcore.cli import main  # noqa: E402
from ekfcore.properties.phonons import find_phonons  # noqa: E402

THZ = _e / _hplanck * 1e-12  # in an eV


def _frame(atoms: Atoms) -> Frame:
    return Frame.from_ase(atoms, "crystal")


def test_copper_agrees_with_phonons_of_ase(tmp_path: Path) -> None:
    """Another program, with another way to displace atoms, finds the same frequencies."""
    copper = bulk("Cu", a=3.61)
    found = find_phonons(_frame(copper), {"EMT": EMT()}, supercell=[5, 5, 5])
    places = {name: int(np.argmin(np.abs(found.distances - x))) for x, name in found.ticks}
    other = ase.phonons.Phonons(copper, EMT(), supercell=(5, 5, 5), delta=0.01, name=tmp_path / "cache")
    other.run()
    other.read(acoustic=True)
    points = copper.cell.bandpath().special_points
    for name in ("G", "X", "L", "W"):
        expected = np.sort(other.band_structure([points[name]], verbose=False)[0]) * THZ
        np.testing.assert_allclose(found.bands["EMT"][places[name]], expected, atol=0.01)
    assert found.displacements == 1
    assert found.forces["EMT"] == pytest.approx(0.0, abs=1e-10)


def test_density_counts_every_mode() -> None:
    """Its integral is three modes an atom, of the primitive cell whatever cell was given."""
    found = find_phonons(_frame(bulk("Cu", a=3.61, cubic=True)), {"EMT": EMT(), "again": EMT()}, supercell=[2, 2, 2])
    assert found.bands["EMT"].shape == (len(found.distances), 3)
    for name in ("EMT", "again"):
        assert np.trapezoid(found.densities[name], found.frequencies) == pytest.approx(3.0, rel=1e-2)
        assert found.bands[name].min() > -1e-3
    np.testing.assert_array_equal(found.bands["EMT"], found.bands["again"])


def test_an_unstable_crystal_has_imaginary_modes() -> None:
    """Simple cubic copper shears away; that is no error, but a negative frequency."""
    found = find_phonons(_frame(bulk("Cu", "sc", a=2.4)), {"EMT": EMT()}, supercell=[4, 4, 4])
    assert found.bands["EMT"].min() < -1.0


def test_supercell_is_wide_enough_by_default() -> None:
    """10 Å across, which for a skewed cell is more than its vectors are long."""
    found = find_phonons(_frame(bulk("Cu", a=3.61)), {"EMT": EMT()})
    assert found.supercell == [5, 5, 5]  # planes 2.08 Å apart


class Broken(Calculator):
    """Cannot do anything."""

    implemented_properties = ["forces"]  # noqa: RUF012

    def calculate(self, *args: object) -> None:
        """Fail."""
        raise ZeroDivisionError("out of\nluck")


@pytest.mark.parametrize(
    ("atoms", "calculator", "supercell", "message"),
    [
        (molecule("CO"), EMT(), None, "crystal: phonons need a crystal that repeats in all directions"),
        (bulk("Cu"), EMT(), [2, 2], "a supercell needs three positive multiples, as 2 2 2, got"),
        (bulk("Cu"), EMT(), [2, 0, 2], "a supercell needs three positive multiples"),
        (bulk("Cu"), Broken(), [1, 1, 1], r"name cannot calculate the forces of Cu \(ZeroDivisionError: out of\)"),
        (bulk("Si"), EMT(), [1, 1, 1], "name cannot calculate the forces of Si2"),
    ],
    ids=["molecule", "two multiples", "zero", "broken", "unknown element"],
)
def test_refuses_in_one_line(atoms: Atoms, calculator: Calculator, supercell: list[int] | None, message: str) -> None:
    """Whatever a calculator raises."""
    with pytest.raises(InputError, match=message) as raised:
        find_phonons(_frame(atoms), {"name": calculator}, supercell=supercell)
    assert "\n" not in str(raised.value)


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command which must fail, and returns its one line."""

    def run(*words: object) -> str:
        assert main([str(word) for word in words]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        return line

    return run


def test_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes two tables and a picture, and says how far the model is from the reference."""
    write(tmp_path / "copper.cif", bulk("Cu", a=3.61))
    write(tmp_path / "rattled.xyz", _rattled())
    out = tmp_path / "out"
    words = ["phonons", trained, tmp_path / "copper.cif", "--reference", "emt", "--supercell", 2, 2, 2, "--out", out]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main([str(word) for word in words]) == 0
    text = capsys.readouterr().out
    assert "supercell 2 x 2 x 2, 1 displaced" in text
    assert "Not relaxed" not in text
    with (out / "band.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["point"] for row in rows if row["point"]][:3] == ["Γ", "X", "W"]
    emt = [float(rows[0][f"emt {mode} [THz]"]) for mode in (1, 2, 3)]
    np.testing.assert_allclose(emt, 0.0, atol=1e-3)
    assert "model 3 [THz]" in rows[0]
    with (out / "dos.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["frequency [THz]", "model [1/THz]", "emt [1/THz]"]
    assert (out / "phonons.png").read_bytes().startswith(b"\x89PNG")
    words = ["phonons", trained, tmp_path / "rattled.xyz", "--reference", "emt", "--supercell", 1, 1, 1]
    assert main([str(word) for word in [*words, "--out", out]]) == 0
    assert "emt: forces act on the structure before it is displaced" in capsys.readouterr().out


def _rattled() -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.positions[0, 0] += 0.2
    return atoms


def test_command_refuses(trained: Path, tmp_path: Path, refuse: Callable[..., str]) -> None:
    """In one line that says what to do."""
    copper, many = tmp_path / "copper.cif", tmp_path / "many.xyz"
    write(copper, bulk("Cu"))
    write(many, [bulk("Cu"), bulk("Cu")])
    assert "must hold one structure, got 2" in refuse("phonons", trained, many)
    assert "belongs to a --reference" in refuse("phonons", trained, copper, "--parameters", "emt.toml")
    assert "nonsense" in refuse("phonons", trained, copper, "--reference", "nonsense")
    assert "emt.toml" in refuse("phonons", trained, copper, "--reference", "emt", "--parameters", "emt.toml")
    assert "multiples" in refuse("phonons", trained, copper, "--supercell", 0, 1, 1)
    assert "nowhere" in refuse("phonons", tmp_path / "nowhere", copper)
    assert not Path("phonons").exists()
