"""The numbers that stand on the screen before a training."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ekfcore.errors import InputError

if TYPE_CHECKING:
    from atoms.conftest import MakeFrame

pytest.importorskip("ase", reason="needs the extra atoms")
pytest.importorskip("scipy", reason="needs the extra atoms")
pytest.importorskip("vesin", reason="needs the extra atoms")
pytest.importorskip("matplotlib", reason="needs the extra atoms")

from ekfcore.atoms.finding import name_frames
from ekfcore.atoms.inspection import composition, file_of, formula, inspect_frames
from ekfcore.plots.inspection import plot_data


def test_numbers_of_one_frame(make_frame: "MakeFrame") -> None:
    """Water in a box of 210 Å^3, computed by hand."""
    found = inspect_frames([make_frame(virial=np.diag([1.0, 2.0, 3.0]))])
    np.testing.assert_allclose(found.energies, [-14.0 / 3])
    np.testing.assert_allclose(found.volumes, [70.0])
    np.testing.assert_allclose(found.densities, [18.015 / 210.0 / 0.602214], rtol=1e-4)
    np.testing.assert_allclose(found.pressures, [2.0 / 210.0 * 160.21766])
    np.testing.assert_allclose(found.largest_force, [np.sqrt(0.14)])
    np.testing.assert_allclose(found.net_force, [0.0], atol=1e-15)
    assert found.atom.tolist() == [0]
    contacts = found.contacts[0]
    assert contacts.nearest[1, 8] == pytest.approx(0.96)
    assert contacts.nearest[1, 1] == pytest.approx(np.hypot(1.2, 0.93))
    assert contacts.ratio == pytest.approx(0.96 / 0.97)
    assert set(contacts.atoms) == {0, 1}


def test_what_is_missing_is_nan(make_frame: "MakeFrame") -> None:
    """A molecule without labels has no energy, force, volume or pressure."""
    frame = make_frame(energy=None, forces=None, pbc=np.zeros(3, dtype=bool), cell=np.zeros((3, 3)))
    found = inspect_frames([frame])
    for values in (
        found.energies,
        found.residuals,
        found.largest_force,
        found.net_force,
        found.volumes,
        found.pressures,
    ):
        assert np.isnan(values).all()
    assert found.atomic_energies == {}


def test_atomic_energies_are_those_of_the_frames(make_frame: "MakeFrame") -> None:
    """Energies that are sums over atoms leave nothing, and one frame that is off leaves the others as they are."""
    h, o = -3.0, -7.5
    numbers = [[8, 1, 1], [8, 8, 1], [1, 1, 1], [8, 8, 8], [8, 1, 1]]
    frames = [make_frame(numbers=np.array(z), energy=h * z.count(1) + o * z.count(8)) for z in numbers]
    found = inspect_frames(frames)
    assert found.determined
    assert found.atomic_energies == pytest.approx({"H": h, "O": o})
    np.testing.assert_allclose(found.residuals, 0.0, atol=1e-9)
    off = inspect_frames([*frames, make_frame(energy=2 * h + o + 3000.0)])
    assert off.atomic_energies == pytest.approx({"H": h, "O": o}, abs=0.1)


def test_one_composition_tells_no_elements_apart(make_frame: "MakeFrame") -> None:
    """Then the energies of the elements are one choice of many."""
    assert not inspect_frames([make_frame(), make_frame(energy=-13.0)]).determined


def test_names(make_frame: "MakeFrame") -> None:
    """A handful of frames is named, and the rest counted."""
    frames = [make_frame(source=f"a.xyz, frame {n}") for n in range(4)]
    frames += [make_frame(source=f"b.xyz, frame {n}") for n in range(3)]
    assert name_frames(frames) == "a.xyz, frames 0, 1, 2, 3; b.xyz, frame 0 and 2 more"
    assert name_frames([make_frame(source="a frame")]) == "a frame"
    assert file_of(frames[0]) == ("a.xyz", "0")
    assert composition(frames[0]) == ((1, 2), (8, 1))
    assert formula(dict(composition(frames[0]))) == "H2O"


def test_no_frames() -> None:
    """There is nothing to tell."""
    with pytest.raises(InputError, match="no frames to inspect"):
        inspect_frames([])


@pytest.mark.parametrize("labelled", [True, False])
def test_picture(make_frame: "MakeFrame", tmp_path: Path, *, labelled: bool) -> None:
    """There is one whatever the frames have."""
    labels = {} if labelled else {"energy": None, "forces": None}
    frames = [make_frame(**labels) for _ in range(3)]
    plot_data(inspect_frames(frames[:2], frames[2:]), tmp_path / "data.png")
    assert (tmp_path / "data.png").read_bytes().startswith(b"\x89PNG")
