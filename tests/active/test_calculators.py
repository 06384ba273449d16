"""Calculators by name, and every way to get the name wrong."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')

from ase.build import bulk, molecule

from ekfcore.errors import InputError
from ekfcore.labelling.calculators import make_calculator


@pytest.mark.parametrize("name", ["emt", "ase.calculators.emt:EMT", "ase.calculators.emt.EMT"])
def test_one_calculator_by_three_names(name: str) -> None:
    """All give the energy of ASE's own class."""
    from ase.calculators.emt import EMT

    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1, seed=0)
    assert make_calculator(name).get_potential_energy(atoms) == EMT().get_potential_energy(atoms)


def test_tblite_by_its_import_path() -> None:
    """A quantum-chemical calculator with keywords: forces are minus the slope of the energy."""
    pytest.importorskip("tblite", reason='tblite is not installed: pip install "ekfcore[xtb]"')
    atoms = molecule("N2")
    atoms.calc = make_calculator("tblite.ase:TBLite", {"method": "GFN1-xTB", "verbosity": 0})
    force = atoms.get_forces()[0, 2]
    energies = []
    for shift in (1e-4, -1e-4):
        atoms.positions[0, 2] += shift
        energies.append(atoms.get_potential_energy())
        atoms.positions[0, 2] -= shift
    assert force == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-4)


def test_a_table_stands_for_an_object() -> None:
    """Calculators of programs want an object for the command and the folder of pseudopotentials."""
    profile = {"object": "ase.calculators.espresso:EspressoProfile", "command": "pw.x", "pseudo_dir": "pseudo"}
    calculator: Any = make_calculator(
        "espresso", {"profile": profile, "pseudopotentials": {"Cu": "Cu.upf"}, "kpts": [2, 2, 2]}
    )
    assert calculator.profile.command == "pw.x"
    assert calculator.parameters["pseudopotentials"] == {"Cu": "Cu.upf"}


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("emtt", {}, r"^calculator emtt: ASE has none of this name .*No module named.*; correct it"),
        ("nowhere.to:BeFound", {}, r"^calculator nowhere.to:BeFound: cannot be imported .*install its package"),
        ("ase.calculators.emt:EMTT", {}, r"^calculator ase.calculators.emt:EMTT: cannot be imported .*no attribute"),
        ("", {}, r"^calculator : ASE has none"),
        (":EMT", {}, r"^calculator :EMT: cannot be imported"),
        ("ase.calculators.emt:", {}, r"^calculator ase.calculators.emt:: cannot be imported"),
        ("builtins:dict", {}, r"^calculator builtins:dict: is no ASE calculator, got dict"),
        ("math:pi", {}, r"^calculator math:pi: cannot be made with the parameters none .*not callable"),
        (
            "faulty:Faulty",
            {"color": 1},
            r"^calculator faulty:Faulty: cannot be made with the parameters color .*unexpected",
        ),
        ("emt", {"a": [{"object": "no.such:Thing"}]}, r"^calculator no.such:Thing: cannot be imported"),
    ],
)
def test_mistakes_are_told_in_one_line(name: str, parameters: dict[str, Any], message: str, faulty: object) -> None:
    """What cannot be made is named, with what to do."""
    with pytest.raises(InputError, match=message) as caught:
        make_calculator(name, parameters)
    assert "\n" not in str(caught.value)


def test_a_module_that_breaks_on_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the module raises, the user sees one line."""
    (tmp_path / "broken_calculator.py").write_text("raise KeyError('two\\nlines')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="KeyError"):
        make_calculator("broken_calculator:Calculator")


def test_a_new_calculator_each_time() -> None:
    """A label depends on its frame only, not on those that came before."""
    assert make_calculator("emt") is not make_calculator("emt")
    assert np.isfinite(make_calculator("emt").get_potential_energy(bulk("Al")))
