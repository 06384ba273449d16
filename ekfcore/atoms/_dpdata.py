"""Reading with dpdata, with virials from formats whose convention is known."""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ekfcore.errors import InputError

from ._convergence import check_some_converged, converged, steps_of
from ._elements import atomic_numbers, check_map
from ._extra import load_extra
from ._options import ReadOptions
from ._promises import check_promises
from .frame import Frame

__all__ = ["canonical_name", "check_types", "frames_of", "read_dpdata"]

_log = logging.getLogger(__name__)

_System = dict[str, Any]

# Factor on the virial of dpdata that makes it -dE/dε, positive under compression. The virial of dpdata is the printed
# stress times the volume: VASP ("in kB"), pw.x, CP2K and ABACUS print the pressure, SIESTA the tension.
_SIGNS = {
    "vasp/outcar": 1,
    "qe/pw/scf": 1,
    "cp2k/output": 1,
    "cp2k/aimd_output": 1,
    "abacus/scf": 1,
    "abacus/md": 1,
    "abacus/relax": 1,
    "siesta/output": -1,
    "siesta/aimd_output": -1,
    "deepmd/lmdb": 1,
}
# For these dpdata uses the absolute volume, or none; for others det(cell), which is negative for left-handed cells.
_UNSIGNED = ("abacus/scf", "deepmd/lmdb")
_PW = "qe/pw/scf"
_KEEPS = ("vasp/outcar", "fhi_aims/output")  # formats whose check of convergence can be switched off
_NAMES = (
    *_SIGNS,
    "pwmat/movement",
    "quip/gap/xyz",
    "ase/traj",
    "vasp/xml",
    "n2p2",
    "deepmd/raw",
    "deepmd/npy",
    "fhi_aims/output",
)


def canonical_name(name: str) -> str | None:
    """Return the name that ekfcore uses for a format of dpdata; None if dpdata has no such format."""
    known = load_extra("dpdata.format").Format.get_formats()
    if name not in known:
        return None
    return next((each for each in _NAMES if known.get(each) is known[name]), name)


def read_dpdata(path: Path, name: str, options: ReadOptions, *, source: str) -> list[Frame]:
    """Read frames with dpdata.

    Parameters
    ----------
    path : Path
        File, folder, or common prefix of several files.
    name : str
        Name of the format from `canonical_name`.
    options : ReadOptions
        What the user states about the file.
    source : str
        Name of the file or folder in messages.

    Returns
    -------
    list of Frame
        Frames in the orientation of the file. A warning names frames that did not converge, which are left out, and
        so are virials of unknown convention.

    Raises
    ------
    InputError
        If an option does not apply to the format, the file is cut off, or no frame has converged.
    """
    options.only(source, f"the format {name}", "type_map", "keep_unconverged")
    _check_one_step(path, name, source)
    check_promises(path, name, source)
    steps = [] if options.keep_unconverged else steps_of(path, name)
    check_some_converged(steps, source)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        systems = list(_systems(path, name, options))
    for message in dict.fromkeys(str(warning.message).splitlines()[0] for warning in caught):
        if "unconverged: " not in message or name != "vasp/outcar":  # `converged` decides instead
            _log.warning("%s: dpdata says: %s", source, message)
    frames: list[Frame] = []
    check_map({each for system in systems for each in system["atom_names"]}, source, options.type_map)
    for system in systems:
        _check_atoms(system, path, name, source)
        _correct_virials(system, path, name, source)
        if name.startswith("abacus/"):
            _undo_inversion(system, path)
        numbers = atomic_numbers(system["atom_names"], source, options.type_map)
        frames += frames_of(system, numbers, source, first=len(frames))
    return converged(frames, steps, source)


def _systems(path: Path, name: str, options: ReadOptions) -> Iterator[_System]:
    """Yield the data of systems as the readers of dpdata return them.

    The classes of systems of dpdata would rotate the cells, and refuse left-handed ones.
    """
    dpdata = load_extra("dpdata")
    base = load_extra("dpdata.format").Format
    format, place = base.get_formats()[name](), _place(path, name)
    if name == "deepmd/lmdb":  # a file holds systems of different compositions
        systems = dpdata.MultiSystems().load_systems_from_file(place, fmt=name)
        yield from (system.data for system in systems.systems.values())
        return
    keep = name == "vasp/outcar" or (options.keep_unconverged and name in _KEEPS)
    words = {"convergence_check": False} if keep else {}
    labelled = type(format).from_labeled_system is not base.from_labeled_system
    data = (format.from_labeled_system if labelled else format.from_system)(place, **words)
    yield from data if isinstance(data, list | tuple) else [data]


def _place(path: Path, name: str) -> Any:
    """Return the place in the form that the reader of dpdata expects."""
    if name == "dftbplus":
        if not path.is_dir():
            raise InputError(f"{path}: must be the folder with dftb_in.hsd and detailed.out; name it")
        return str(path / "dftb_in.hsd"), str(path / "detailed.out")
    return str(path)


def _check_one_step(path: Path, name: str, source: str) -> None:
    """Refuse a relaxation: dpdata would pair its last energy with its first forces."""
    if name != _PW:
        return
    count = path.read_text(errors="replace").count("!    total energy")
    if count > 1:
        raise InputError(f'{source}: holds {count} steps, and {_PW} is for one; give format = "espresso-out"')


def _check_atoms(system: _System, path: Path, name: str, source: str) -> None:
    """Refuse an output of pw.x beside the input of another run: dpdata reads both files."""
    if name != _PW:
        return
    found = re.search(r"number of atoms/cell\s*=\s*(\d+)", path.read_text(errors="replace"))
    count = len(system["atom_types"])
    if found is not None and int(found[1]) != count:
        raise InputError(f"{source}: is of {found[1]} atoms, but its input of {count}; put the two together again")


def _correct_virials(system: _System, path: Path, name: str, source: str) -> None:
    """Correct the sign of the virials to -dE/dε, or remove them if their convention is not known."""
    titles = _stress_titles(path) if name.startswith("cp2k/") else []
    if "virials" not in system and not titles:
        return
    # For CP2K, dpdata recognises one title of the table and assumes one unit.
    if name not in _SIGNS or "virials" not in system or not all("STRESS TENSOR [GPa" in line for line in titles):
        system.pop("virials", None)
        _log.warning("%s: its virials are left out: their sign or unit in the format %s is not known", source, name)
        return
    sign = np.full(len(system["cells"]), _SIGNS[name])
    if name not in _UNSIGNED:
        sign = sign * np.sign(np.linalg.det(system["cells"]))
    system["virials"] = np.asarray(system["virials"]).reshape(-1, 3, 3) * sign[:, None, None]


def _stress_titles(path: Path) -> list[str]:
    """Return the title lines of the stress tables in an output of CP2K."""
    logs = sorted(path.glob("*.log"))[:1] if path.is_dir() else [path]
    with logs[0].open(errors="replace") as file:
        return [line for line in file if "STRESS TENSOR" in line.upper()]


def _undo_inversion(system: _System, folder: Path) -> None:
    """Undo the inversion of left-handed cells in STRU: dpdata inverts cell and positions, but not the forces."""
    scf, stru = (load_extra(f"dpdata.formats.abacus.{name}") for name in ("scf", "stru"))
    lines = (folder / "INPUT").read_text().splitlines()
    blocks = stru.split_stru_block(Path(scf.get_geometry_in(str(folder), lines)).read_text().splitlines(keepends=True))
    if np.linalg.det(stru.parse_lattice_vectors_block(blocks["LATTICE_VECTORS"])) < 0:
        # dpdata inverts only cells from STRU, not those from a log.
        sign = -np.sign(np.linalg.det(system["cells"]))[:, None, None]
        system["cells"], system["coords"] = sign * system["cells"], sign * system["coords"]


def frames_of(data: _System, numbers: NDArray[np.int64], source: str, *, first: int = 0) -> list[Frame]:
    """Return the frames of a system of dpdata.

    Parameters
    ----------
    data : dict
        Data of one system.
    numbers : array of int
        Atomic number of each type.
    source : str
        Name of the file in messages.
    first : int
        Number of the first frame in the file.

    Raises
    ------
    InputError
        If the numbers of labels and frames differ.
    """
    n_frames = len(data["coords"])
    for name in ("cells", "energies", "forces", "virials"):
        if name in data and len(data[name]) != n_frames:
            raise InputError(f"{source}: has {len(data[name])} {name} for {n_frames} frames; it may be incomplete")
    # The layout deepmd/npy/mixed has types for each frame, with -1 for padding.
    types = data.get("real_atom_types", np.broadcast_to(data["atom_types"], (n_frames, len(data["atom_types"]))))
    check_types(source, types, len(numbers))

    def frame(k: int) -> Frame:
        real = types[k] >= 0
        return Frame(
            numbers=numbers[types[k][real]],
            positions=np.array(data["coords"][k][real], dtype=np.float64),
            cell=np.array(data["cells"][k], dtype=np.float64),
            pbc=np.full(3, not data.get("nopbc", False)),
            energy=float(data["energies"][k]) if "energies" in data else None,
            forces=np.array(data["forces"][k][real], dtype=np.float64) if "forces" in data else None,
            virial=np.array(data["virials"][k], dtype=np.float64) if "virials" in data else None,
            source=f"{source}, frame {first + k}",
        )

    return [frame(k) for k in range(n_frames)]


def check_types(source: str, types: NDArray[np.int64], n_names: int) -> None:
    """Refuse types without a name, which are possible in data of DeePMD-kit.

    Raises
    ------
    InputError
        If a type has no name.
    """
    if types.max(initial=-1) >= n_names:
        raise InputError(f"{source}: type {types.max()} must have a name, got {n_names} names; complete type_map.raw")
