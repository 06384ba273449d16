"""The layout of DeePMD-kit, in folders and in HDF5, and what is said where it is incomplete."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ekfcore.atoms import Frame, read_frames
from ekfcore.errors import InputError

h5py = pytest.importorskip("h5py", reason="needs the extra atoms")

_BOX = [5.0, 0, 0, 1, 6, 0, 0, 2, 7]


def _arrays(n_frames: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    arrays = {"coord": 5 * rng.random((n_frames, 9)), "force": rng.random((n_frames, 9))}
    arrays |= {"energy": rng.random(n_frames), "virial": rng.random((n_frames, 9))}
    return arrays | {"box": np.tile(_BOX, (n_frames, 1))}


def _folder(folder: Path, *sets: dict[str, Any], names: str | None = "O H") -> Path:
    """Write water."""
    for n, arrays in enumerate(sets):
        (folder / f"set.00{n}").mkdir(parents=True)
        for name, array in arrays.items():
            np.save(folder / f"set.00{n}" / f"{name}.npy", array)
    (folder / "type.raw").write_text("1\n0\n1\n")
    if names is not None:
        (folder / "type_map.raw").write_text(names)
    return folder


def _group(group: Any, *sets: dict[str, Any], names: list[str] | None = ["O", "H"]) -> None:  # noqa: B006
    """Write water into HDF5, with the names that DeePMD-kit gives to it."""
    for n, arrays in enumerate(sets):
        for name, array in arrays.items():
            group[f"set.00{n}/{name}.npy"] = array
    group["type.raw"] = np.array([1, 0, 1])
    if names is not None:
        group["type_map.raw"] = np.array(names, dtype=h5py.string_dtype())


def _same(frames: list[Frame], *sets: dict[str, Any]) -> None:
    """Compare with what was written."""
    stored = {name: np.concatenate([arrays[name] for arrays in sets]) for name in sets[0]}
    assert len(frames) == len(stored["coord"])
    for k, frame in enumerate(frames):
        assert frame.symbols == ["H", "O", "H"]
        assert frame.energy == stored["energy"][k]
        for ours, theirs in {"positions": "coord", "forces": "force", "virial": "virial", "cell": "box"}.items():
            np.testing.assert_array_equal(getattr(frame, ours), stored[theirs][k].reshape(3, 3))


@pytest.mark.parametrize("name", ["data.h5", "data.hdf5", "data"])
@pytest.mark.parametrize("place", ["#/bulk/water", "#bulk/water", "#bulk", "#", "", "#/"])
def test_hdf5_by_any_name(name: str, place: str, tmp_path: Path) -> None:
    """A group, those below a group, or all of the file."""
    with h5py.File(tmp_path / name, "w") as file:
        _group(file.create_group("bulk/water"), _arrays(2, 1), _arrays(1, 2))
    frames = read_frames(f"{tmp_path}/{name}{place}")
    _same(frames, _arrays(2, 1), _arrays(1, 2))
    exact = place.strip("#/") == "bulk/water"
    assert frames[2].source == f"{tmp_path}/{name}{place if exact else '#bulk/water'}, frame 2"


def test_several_groups(tmp_path: Path) -> None:
    """In the order of their names; and data at the root of the file."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for k, name in enumerate("ba"):
            _group(file.create_group(name), _arrays(1, k))
    _same(read_frames(tmp_path / "a.h5"), _arrays(1, 1), _arrays(1, 0))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        _group(file, _arrays(1, 3))
    _same(read_frames(tmp_path / "b.h5"), _arrays(1, 3))


def test_hdf5_without_data(tmp_path: Path) -> None:
    """What is there instead, and that nothing is."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("ice")
    for place, message in (
        ("#water", r"a\.h5#water: has no such group, only ice"),
        ("", r"a\.h5: holds no data of DeePMD-kit \(no type\.raw in it or below\)"),
    ):
        with pytest.raises(InputError, match=message):
            read_frames(f"{tmp_path}/a.h5{place}")


def test_a_name_with_a_hash(tmp_path: Path) -> None:
    """A folder may have one."""
    _same(read_frames(_folder(tmp_path / "run#1", _arrays(2))), _arrays(2))


def test_virials_in_some_sets_only(tmp_path: Path) -> None:
    """The others have none; no frame gets that of another."""
    first, second = _arrays(2, 1), _arrays(2, 2)
    frames = read_frames(_folder(tmp_path, {k: v for k, v in first.items() if k != "virial"}, second))
    assert [frame.virial is None for frame in frames] == [True, True, False, False]
    np.testing.assert_array_equal(frames[2].virial, second["virial"][0].reshape(3, 3))


@pytest.mark.parametrize("name", ["energy", "force", "virial", "box"])
def test_lengths_that_disagree(name: str, tmp_path: Path) -> None:
    """3 + 5 energies of 4 + 4 frames are eight, but not those of the frames."""
    sets = [_arrays(4, 1), _arrays(4, 2)]
    for arrays, count in zip(sets, (3, 5), strict=True):
        arrays[name] = _arrays(count)[name]
    with pytest.raises(InputError, match=rf"set\.000: {name} has 3 frames and coord 4; they must be those of the same"):
        read_frames(_folder(tmp_path, *sets))


def test_widths_that_do_not_fit(tmp_path: Path) -> None:
    """Two atoms of three."""
    with pytest.raises(InputError, match=r"set\.000: force must have 9 numbers for each frame, got shape \(2, 6\)"):
        read_frames(_folder(tmp_path, {**_arrays(2), "force": np.zeros((2, 6))}))


def test_boxes_of_zeros(tmp_path: Path) -> None:
    """The file nopbc is what is missing."""
    folder = _folder(tmp_path, {**_arrays(2), "box": np.zeros((2, 9))})
    with pytest.raises(InputError, match=r"set\.000: box\.npy has boxes of zeros; put an empty file nopbc beside type"):
        read_frames(folder)
    (folder / "nopbc").touch()
    assert not read_frames(folder)[0].pbc.any()


def test_types_without_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They are the model's, or what the user says."""
    folder = _folder(tmp_path, _arrays(2), names=None)
    with pytest.raises(InputError, match=r'has no type_map\.raw; add one .* or say it with type_map = \["O", "H"\]'):
        read_frames(folder)
    _same(read_frames(folder, type_map=["O", "H"]), _arrays(2))
    _same(read_frames(folder, type_map={"0": "O", "1": "H"}), _arrays(2))
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        _same(read_frames(folder, elements=["O", "H"]), _arrays(2))
    assert caplog.messages == [f"{folder}: has no type_map.raw; its types are taken for the model's O, H"]
    with pytest.raises(InputError, match="type 1 must have a name, got 1 names"):
        read_frames(folder, elements=["O"])


def test_names_that_are_no_elements(tmp_path: Path) -> None:
    """As elsewhere; and nobody contradicts the file."""
    folder = _folder(tmp_path, _arrays(2), names="OW HW")
    with pytest.raises(InputError, match=r"type_map\.raw: each name must be a chemical symbol, got 'OW'"):
        read_frames(folder)
    _same(read_frames(folder, type_map={"OW": "O", "HW": "H"}), _arrays(2))
    with pytest.raises(InputError, match=r"type_map\.raw: says OW HW, and type_map H O; remove one"):
        read_frames(folder, type_map=["H", "O"])


def test_the_model_of_config_names_the_types(tmp_path: Path) -> None:
    """As DeePMD-kit has it."""
    from ekfcore.training.sources import read_sources

    _folder(tmp_path / "water", _arrays(2), names=None)
    _same(read_sources([str(tmp_path / "water")], require=["energy"], elements=["O", "H"]), _arrays(2))


def test_arrays_that_nobody_uses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Frame parameters and spins would make another energy."""
    folder = _folder(tmp_path, {**_arrays(2), "fparam": np.ones((2, 1)), "spin": np.ones((2, 9))})
    with caplog.at_level(logging.WARNING):
        read_frames(folder)
    assert caplog.messages == [f"{folder}: not used: fparam.npy, spin.npy"]


def test_raw_files(tmp_path: Path) -> None:
    """What the sets were made of; also a single frame."""
    for count in (2, 1):
        for name, array in _arrays(count).items():
            np.savetxt(tmp_path / f"{name}.raw", array)
        (tmp_path / "type.raw").write_text("1\n0\n1\n")
        (tmp_path / "type_map.raw").write_text("O\nH\n")
        frames = read_frames(tmp_path)
        assert [frame.energy for frame in frames] == _arrays(count)["energy"].tolist()
        np.testing.assert_array_equal(frames[0].cell, np.reshape(_BOX, (3, 3)))


def test_folders_in_a_folder_with_data(tmp_path: Path) -> None:
    """Both count."""
    _folder(tmp_path / "a", _arrays(1, 1))
    _folder(tmp_path / "a" / "b", _arrays(1, 2))
    _same(read_frames(tmp_path / "a"), _arrays(1, 1), _arrays(1, 2))


def test_patterns(tmp_path: Path) -> None:
    """In the order of the names; a name with brackets is a name."""
    for k, name in enumerate(("run-2", "run-1", "other")):
        _folder(tmp_path / name, _arrays(1, k))
    _same(read_frames(f"{tmp_path}/run-*"), _arrays(1, 1), _arrays(1, 0))
    _folder(tmp_path / "run[1]", _arrays(1, 5))
    _same(read_frames(tmp_path / "run[1]"), _arrays(1, 5))
    _folder(tmp_path / "run[1]" / "below-1", _arrays(1, 6))
    _same(read_frames(f"{tmp_path}/run[1]/below-*"), _arrays(1, 6))
    with h5py.File(tmp_path / "a1.h5", "w") as file:
        _group(file.create_group("bulk"), _arrays(1, 7))
    _same(read_frames(f"{tmp_path}/a?.h5#bulk"), _arrays(1, 7))
    with pytest.raises(InputError, match=r"walk-\*: matches no file or folder; check the spelling"):
        read_frames(f"{tmp_path}/walk-*")
