"""``ekfcore inspect``."""

import argparse
import json
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ekfcore.errors import InputError

from ._options import Commands, add_command

if TYPE_CHECKING:
    from ekfcore.atoms import Frame
    from ekfcore.atoms.finding import Finding
    from ekfcore.atoms.inspection import Inspection

__all__ = ["add_parser", "run"]

_EPILOG = """\
examples:
  ekfcore inspect train.xyz
  ekfcore inspect run-*/OUTCAR --plot data.png
  ekfcore inspect config.toml

DATA is whatever `ekfcore test` reads; labels may be missing. Of a CONFIG, train and test are read as `ekfcore train`
does. What there is to look at stands below the numbers; the exit code is 0 all the same.
"""

_WIDTH, _INDENT = 80, 14
_MOST = 6  # files and compositions to list
_PAIRS = 12  # pairs of elements to list, the tightest first


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "inspect", summary="look at labelled data before a training", epilog=_EPILOG)
    parser.add_argument("data", metavar="DATA", nargs="+", help="files or folders with frames, or one CONFIG")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="picture to draw, e.g. data.png")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print statistics of the data and their faults."""
    from ekfcore.atoms.checks import find_faults
    from ekfcore.atoms.inspection import inspect_frames

    inspection = inspect_frames(*_read(arguments.data))
    findings = find_faults(inspection)
    print(_screen(inspection, findings))
    if arguments.plot is not None:
        from ekfcore.plots.inspection import plot_data

        plot_data(inspection, arguments.plot)
        print(f"The picture is in {arguments.plot}.")
    return 0


def _read(paths: Sequence[str]) -> "tuple[list[Frame], list[Frame]]":
    """Return the frames to train on and to test on; without a CONFIG, all are to train on."""
    from ekfcore.atoms import read_frames
    from ekfcore.deepmd import load_input
    from ekfcore.training import load_settings
    from ekfcore.training.sources import read_sources

    configs = [path for path in paths if _is_config(path)]
    if not configs:
        return read_frames(paths, require=()), []
    if len(paths) > 1:
        raise InputError(f"{configs[0]}: a CONFIG names all data itself; give it alone, or files with data only")
    settings = load_settings(paths[0]) if paths[0].endswith(".toml") else load_input(paths[0])[0]
    elements, data = settings.model.elements, settings.data
    train, test = (
        read_sources(part, require=(), elements=elements) if part else [] for part in (data.train, data.test)
    )
    return train, test


def _is_config(path: str) -> bool:
    """Return whether a file is a CONFIG or an input of DeePMD-kit; other JSON may be a database of ASE."""
    if path.endswith(".json") and Path(path).is_file():
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return False
        return isinstance(content, dict) and "training" in content
    return path.endswith(".toml")


def _screen(inspection: "Inspection", findings: "Sequence[Finding]") -> str:
    """Return the whole output, in lines of 80 characters."""
    rows = [
        ("files", _files(inspection)),
        ("frames", _frames(inspection)),
        ("compositions", _compositions(inspection)),
        ("cells", _cells(inspection)),
        ("energies", _energies(inspection)),
        ("forces", _forces(inspection)),
        ("virials", _virials(inspection)),
        ("weights", _range([frame.weight for frame in inspection.frames])),
        ("nearest [Å]", _nearest(inspection)),
        ("to look at", [str(finding) for finding in findings] or ["nothing"]),
    ]
    return "\n".join(_row(name, [text] if isinstance(text, str) else text) for name, text in rows)


def _row(name: str, texts: Sequence[str]) -> str:
    lines: list[str] = []
    for text in texts:
        margin = " " * _INDENT if lines else f"{name:<{_INDENT}}"
        lines += textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=margin,
            subsequent_indent=" " * _INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def _files(inspection: "Inspection") -> list[str]:
    from ekfcore.atoms.inspection import file_of

    counts = Counter(file_of(frame)[0] for frame in inspection.frames)
    rest = sum(list(counts.values())[_MOST:])
    named = [f"{file}: {count}" for file, count in list(counts.items())[:_MOST]]
    return named + ([f"and {len(counts) - _MOST} more: {rest}"] if rest else [])


def _frames(inspection: "Inspection") -> str:
    sizes, total, n_train = inspection.sizes, len(inspection.frames), inspection.n_train
    parts = f" ({n_train} to train on, {total - n_train} to test on)" if total > n_train else ""
    return f"{total}{parts} of {_range(sizes)} atoms, {sizes.sum()} atoms in all"


def _compositions(inspection: "Inspection") -> str:
    from ekfcore.atoms.inspection import composition, formula

    counts = Counter(map(composition, inspection.frames))
    named = [f"{formula(dict(key))} {count}" for key, count in counts.most_common(_MOST)]
    rest = sum(count for _, count in counts.most_common()[_MOST:])
    return ", ".join(named) + (f", and {len(counts) - _MOST} more {rest}" if rest else "")


def _cells(inspection: "Inspection") -> str:
    counts = Counter(int(np.sum(frame.pbc)) for frame in inspection.frames)
    names = {0: "isolated", 1: "periodic in 1 direction", 2: "periodic in 2 directions", 3: "periodic"}
    text = ", ".join(f"{counts[n]} {names[n]}" for n in sorted(counts, reverse=True))
    if counts[3]:
        text += f"; {_range(inspection.volumes)} Å^3/atom, {_range(inspection.densities)} g/cm^3"
    return text


def _energies(inspection: "Inspection") -> list[str]:
    known = inspection.residuals[np.isfinite(inspection.residuals)]
    if not len(known):
        return ["none"]
    missing = len(inspection.frames) - len(known)
    texts = [f"{_range(inspection.energies, '.4f')} eV/atom" + (f"; {missing} frames have none" if missing else "")]
    atoms = ", ".join(f"{name} {energy:.3f}" for name, energy in inspection.atomic_energies.items())
    texts.append(
        f"fitted to the elements: {atoms} eV"
        if inspection.determined
        else "fitted to the elements, which these compositions do not tell apart"
    )
    if len(known) > 1:
        texts.append(f"beyond these {_range(known, '.4f')}, standard deviation {np.std(known):.3g} eV/atom")
    return texts


def _forces(inspection: "Inspection") -> list[str]:
    from ekfcore.atoms.finding import name_frames

    forces = [frame.forces for frame in inspection.frames if frame.forces is not None]
    if not forces:
        return ["none"]
    missing = len(inspection.frames) - len(forces)
    at = int(np.nanargmax(inspection.largest_force))
    frame, atom = inspection.frames[at], int(inspection.atom[at])
    net = np.nanmax(inspection.net_force / inspection.sizes)
    return [
        f"rms {np.sqrt(np.mean(np.concatenate(forces) ** 2)):.3g} eV/Å a component, sum at most {net:.2g} eV/Å an atom"
        + (f"; {missing} frames have none" if missing else ""),
        f"largest {inspection.largest_force[at]:.4g} eV/Å, "
        f"atom {atom} ({frame.symbols[atom]}) of {name_frames([frame])}",
    ]


def _virials(inspection: "Inspection") -> str:
    count = sum(frame.virial is not None for frame in inspection.frames)
    if not count:
        return "none"
    pressures = inspection.pressures[np.isfinite(inspection.pressures)]
    range_ = f"; pressures {_range(pressures)} GPa" if len(pressures) else ""
    return f"{count} of {len(inspection.frames)} frames{range_}"


def _nearest(inspection: "Inspection") -> list[str]:
    """Return the shortest distance of each pair of elements, in columns."""
    cells = [f"{pair} {shortest:.2f} ({expected:.2f})" for pair, shortest, expected in _shortest(inspection)]
    if not cells:
        return ["no neighbours within 5 Å"]
    width = max(map(len, cells)) + 2
    columns = (_WIDTH - _INDENT) // width
    # whole rows, as textwrap breaks a line at any run of blanks but keeps the blanks
    shown = [cells[k : k + columns] for k in range(0, min(len(cells), _PAIRS), columns)]
    lines = ["".join(f"{cell:<{width}}" for cell in row).rstrip() for row in shown]
    more = f"; {len(cells) - _PAIRS} pairs more" if len(cells) > _PAIRS else ""
    return [*lines, f"in brackets the sum of covalent radii{more}"]


def _shortest(inspection: "Inspection") -> Iterator[tuple[str, float, float]]:
    """Yield pairs of elements, their shortest distance and the sum of their radii, the tightest first."""
    from ase.data import chemical_symbols, covalent_radii

    nearest: dict[tuple[int, int], float] = {}
    for contacts in inspection.contacts:
        for pair, distance in contacts.nearest.items():
            nearest[pair] = min(distance, nearest.get(pair, np.inf))
    expected = {pair: float(sum(covalent_radii[number] for number in pair)) for pair in nearest}
    for pair in sorted(nearest, key=lambda pair: nearest[pair] / expected[pair]):
        yield "-".join(chemical_symbols[number] for number in pair), nearest[pair], expected[pair]


def _range(values: "Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.generic]]", form: str = ".4g") -> str:
    texts = [f"{value:{form}}" for value in (np.nanmin(values), np.nanmax(values))]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
