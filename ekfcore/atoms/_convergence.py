"""Convergence of the electronic steps in outputs of programs.

Neither ASE nor dpdata reports it for all formats, and where both do, they disagree. The rules here apply to the frames
of both.
"""

import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

from ekfcore.errors import InputError

from .frame import Frame

__all__ = ["check_some_converged", "converged", "steps_of"]

_log = logging.getLogger(__name__)

_Steps = Iterator[bool]  # whether each step converged


def steps_of(path: Path, format: str) -> list[bool]:
    """Return for each self-consistent calculation in a file whether it converged.

    Parameters
    ----------
    path : Path
        The file, or the folder.
    format : str
        Name of the format in ASE or dpdata.

    Returns
    -------
    list of bool
        One for each frame; empty if the file does not say.
    """
    if path.is_dir():
        logs = sorted(path.glob(_LOGS[format])) if format in _LOGS else []
        return steps_of(logs[0], format) if logs else []
    if not path.is_file():
        return []
    if format == "vasp-xml":
        return list(_vasprun(path))
    rule = next((rule for formats, rule in _RULES.items() if format in formats), None)
    if rule is None:
        return []
    with path.open(errors="replace") as file:
        return list(rule(file))


def check_some_converged(steps: Sequence[bool], name: str) -> None:
    """Refuse a file in which no step converged: some readers return no frame for it, others fail.

    Raises
    ------
    InputError
        One line with the name of the file.
    """
    if steps and not any(steps):
        raise InputError(
            f"{name}: no frame has converged ({_numbers(steps)}); repeat the calculation, or keep_unconverged = true"
        )


def converged(frames: Sequence[Frame], steps: Sequence[bool], name: str) -> list[Frame]:
    """Leave out the frames whose electronic steps did not converge, and warn of them.

    Parameters
    ----------
    frames : sequence of Frame
        All frames of a file.
    steps : sequence of bool
        Whether the step of each frame converged; if empty, all frames are kept.
    name : str
        Name of the file in messages.

    Raises
    ------
    InputError
        If no frame is left, or it is unclear which frames did not converge.
    """
    if all(steps):
        if len(frames) < len(steps):
            _log.warning("%s: has %d electronic steps, but only %d frames can be read", name, len(steps), len(frames))
        return list(frames)
    check_some_converged(steps, name)
    if len(steps) != len(frames):
        raise InputError(
            f"{name}: {steps.count(False)} of its {len(steps)} electronic steps did not converge, and it cannot be "
            f"told which of the {len(frames)} frames are theirs; keep_unconverged = true takes all of them"
        )
    _log.warning("%s: %s not converged, left out; keep_unconverged = true keeps them", name, _numbers(steps))
    return [frame for frame, fine in zip(frames, steps, strict=True) if fine]


def _numbers(steps: Sequence[bool]) -> str:
    bad = [str(index) for index, fine in enumerate(steps) if not fine]
    return "frame " + ", ".join(bad[:10]) + (", ..." if len(bad) > 10 else "")


def _outcar(lines: Iterator[str]) -> _Steps:
    """Rule for VASP, which reports failure since version 6; earlier versions just stop after NELM iterations."""
    most, count, reached = 0, 0, None
    for line in lines:
        if not most and (found := re.search(r"\bNELM\s*=\s*(\d+)", line)):
            most = int(found[1])
        elif found := re.search(r"Iteration\s+\d+\(\s*(\d+)\)", line):
            count = int(found[1])
        elif "EDIFF was not reached" in line:
            reached = False
        elif "EDIFF is reached" in line:
            reached = True
        # The line of an ionic step has two spaces in "free  energy", those of its iterations have one.
        elif re.search(r"free  energy\s+(ML )?TOTEN", line):
            yield reached if reached is not None else not most or count < most
            count, reached = 0, None


def _vasprun(path: Path) -> _Steps:
    """Rule for vasprun.xml: a step with NELM iterations has not converged."""
    most = 0
    try:
        for _, element in ElementTree.iterparse(path):
            if element.tag == "i" and element.get("name") == "NELM":
                most = int(element.text or 0)
            elif element.tag == "calculation":
                yield not most or len(element.findall("scstep")) < most
                element.clear()
    except ElementTree.ParseError as error:  # the run was killed; readers of the frames stop here as well
        _log.warning("%s: is cut off or damaged (%s); there may be more frames than are read", path.name, error)


def _marked(bad: str, end: str, good: str = r"(?!)") -> Callable[[Iterator[str]], _Steps]:
    """Return a rule for outputs with a line on convergence; the last one before the end of a step counts."""

    def rule(lines: Iterator[str]) -> _Steps:
        fine = True
        for line in lines:
            if re.search(bad, line):
                fine = False
            elif re.search(good, line):
                fine = True
            elif re.search(end, line):
                yield fine
                fine = True

    return rule


def _pw(lines: Iterator[str]) -> _Steps:
    """Rule for pw.x, which stops, or continues without a line "!    total energy", after an unconverged step.

    A step of ASE begins where the program or a list of positions does.
    """
    fine = None
    for line in itertools.chain(lines, ["Program PWSCF"]):
        if "Program PWSCF" in line or "ATOMIC_POSITIONS" in line:
            if fine is not None:
                yield fine
            fine = True
        elif "convergence NOT achieved" in line:
            fine = False


def _abacus(lines: Iterator[str]) -> _Steps:
    """Rule for ABACUS: the last line counts, as for dpdata, which returns no frame of an unconverged run."""
    fine = None
    for line in lines:
        if re.search("convergence has not been achieved", line, re.IGNORECASE):
            fine = False
        elif "final etot is" in line or "TOTAL ENERGY" in line:
            fine = True
    if fine is not None:
        yield fine


_LOGS = {"cp2k/aimd_output": "*.log", "abacus/scf": "OUT.*/running_scf.log"}
_CP2K = _marked(
    r"SCF run NOT converged|outer SCF loop FAILED",
    r"ENERGY\| Total FORCE_EVAL",
    r"SCF run converged|outer SCF loop converged",
)
_RULES: dict[tuple[str, ...], Callable[[Iterator[str]], _Steps]] = {
    ("vasp-out", "vasp/outcar"): _outcar,
    ("espresso-out", "qe/pw/scf"): _pw,
    ("cp2k/output", "cp2k/aimd_output"): _CP2K,
    ("siesta/output", "siesta/aimd_output"): _marked(
        r"SCF_NOT_CONV|SCF did not converge", r"siesta: E_KS\(eV\)", r"SCF Convergence by"
    ),
    ("abacus/scf",): _abacus,
    ("orca-output", "orca/spout"): _marked("SCF NOT CONVERGED AFTER", "FINAL SINGLE POINT ENERGY"),
    ("gaussian-out", "gaussian/log", "gaussian/md"): _marked("Convergence criterion not met", "SCF Done:"),
    ("castep-castep",): _marked("max. SCF cycles performed but system has not reached", "Final energy"),
    ("nwchem-out",): _marked("Calculation failed to converge", "Total (DFT|SCF) energy"),
    ("gpaw-out",): _marked("Did not converge", "Extrapolated:"),
}
