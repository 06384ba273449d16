#!/usr/bin/env python3
"""Table 1 of the RLEKF paper on public data: errors after 30 epochs, and after equal processor time.

    python docs/experiments/table1.py DATA                     # hours; goes on where it was interrupted
    python docs/experiments/table1.py DATA --systems NaCl --methods recommended adam --seeds 1 --epochs 5
    python docs/experiments/table1.py DATA --no-training       # tabulate what is there

Trains each system with the default, with the paper's filter (N_b = 5120) and with Adam, three seeds each. Writes
experiments/table1.md, and prints it. Two processes started side by side share the work.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from curves import Row
from papers import (
    METHODS,
    NAMES,
    QUANTITIES,
    Found,
    collect,
    finite,
    items,
    number,
    options,
    parsed,
    spread,
    table,
    write_page,
)

COLUMNS = ("energy_rmse_train", "energy_rmse_test", "force_rmse_train", "force_rmse_test")
HEADER = ".system | .optimizer | energy, train | energy, test | forces, train | forces, test | processor s"
WORSE_FORCE, WORSE_ENERGY = 1.05, 0.2  # what counts as worse after equal time: a factor, and [meV/atom]


@dataclass(frozen=True)
class System:
    """A set of public data, the system of the paper that it stands for, and what is different."""

    set: str
    paper: str
    about: str


SYSTEMS = [
    System("Cu_pwmat", "Cu", "fcc, 72 atoms, 160 frames of 1 fs at 300 and 500 K; PWmat (PWMLFF's example)"),
    System("Si_pwmat", "Si", "diamond, 64 atoms, 400 frames of 1 fs at 1000 K from 40 strained starts; PWmat (PWMLFF)"),
    System("C", "C", "graphite of 448 atoms instead of graphene, 192 frames; VASP by its energies (MatPL's example)"),
    System("AgAu", "Ag", "Ag, Au and their alloys, 12 to 48 atoms, 301 frames far from equilibrium (MatPL)"),
    System("Mg", "Mg", "hcp, 120 atoms, 500 frames of 33 strained cells, two other strains to test; VASP (MgCu data)"),
    System("NaCl", "NaCl", "64 atoms, 80 frames of displacements of 0.03 Å, no dynamics; VASP (phono3py's example)"),
    System("Li", "Li", "bcc and its surfaces and defects, 241 frames up to 907 K; VASP (mlearn)"),
    System("Al", "Al", "solid and liquid, about 100 atoms, 67 frames; VASP (Li-Al MLIP data sets)"),
    System("LiAl", "MgAlCu", "Al, Li and their alloys, 46 to 216 atoms, 355 frames; VASP (Li-Al MLIP data sets)"),
    System("H2O", "H2O", "liquid, 64 molecules, 320 frames (DeePMD-kit's example)"),
    System("HfO2", "", "96 atoms, 909 frames of 28 structures (MatPL)"),
    System("Mo", "", "bcc and its surfaces and defects, 194 frames up to 6000 K; VASP (mlearn)"),
    System("Ni", "", "fcc and its surfaces and defects, 263 frames up to 3000 K; VASP (mlearn)"),
    System("LiGePS_pwmat", "", "Li10GeP2S12, 50 atoms, 80 frames of 2 fs at 1200 K; PWmat (PWMLFF)"),
    System("CH4_pwmat", "", "one molecule, 640 frames of 5 fs at 300 to 1200 K; PWmat (PWMLFF)"),
    System("EC_pwmat", "", "one molecule of ethylene carbonate, 160 frames of 1 fs; PWmat (PWMLFF)"),
    System("built-in", "", "silicon of `ekfcore demo`, 32 atoms, 96 frames, a smaller network; Quantum ESPRESSO"),
]

# Table 1 of arXiv 2212.06989: energies [meV/atom] and forces [meV/Å], training and test, RLEKF and then Adam.
PAPER = {
    "Cu": ("fcc, 1646 frames", (0.250, 0.327, 40.6, 45.2), (0.451, 0.442, 39.7, 44.4)),
    "Si": ("diamond, 3000 frames", (0.148, 0.186, 22.3, 24.1), (0.165, 0.181, 21.9, 23.4)),
    "C": ("graphene, 4000 frames", (0.0856, 0.267, 24.2, 34.7), (0.133, 0.278, 27.6, 35.5)),
    "Ag": ("fcc, 2015 frames", (0.142, 0.243, 11.3, 12.4), (0.159, 0.265, 11.0, 12.5)),
    "Mg": ("hcp, 4000 frames", (0.111, 0.169, 13.0, 16.1), (0.160, 0.189, 14.8, 17.1)),
    "NaCl": ("fcc, 3193 frames", (0.0403, 0.0435, 6.06, 6.69), (0.0631, 0.0514, 5.78, 6.47)),
    "Li": ("bcc, fcc, hcp, 2494 frames", (0.0482, 0.312, 22.9, 24.8), (0.126, 0.332, 14.0, 26.4)),
    "Al": ("fcc, 4000 frames", (0.359, 0.473, 54.1, 58.6), (0.534, 1.24, 56.3, 55.8)),
    "MgAlCu": ("alloy, 2530 frames", (0.165, 0.218, 44.1, 45.2), (0.227, 0.233, 37.6, 42.6)),
    "H2O": ("liquid, 4000 frames", (0.297, 0.545, 60.8, 68.1), (0.584, 1.00, 20.6, 87.6)),
}
PAPER_WINS = {"energy": "11 of 13", "force": "7 of 13"}  # RLEKF below Adam in the test errors, as its text counts them


def main() -> None:
    """Train, tabulate, judge."""
    args = parsed(options(__doc__, sets=(system.set for system in SYSTEMS)))
    found = collect(args)
    if not found.curves:
        write_page(args, "table1", [found.count()], found.footer())
        return
    known = {system.set: system for system in SYSTEMS}
    systems = [known.get(name, System(name, "", "a set of yours")) for name in args.systems]
    equal = {system.set: at_equal_time(found, system.set, args.methods) for system in systems}
    held = [*verdicts(found, args.systems), equal_verdict(equal), found.count()]
    write_page(args, "table1", held, _rest(args, found, systems, equal))


def _rest(args: argparse.Namespace, found: Found, systems: Sequence[System], equal: dict[str, "Equal | None"]) -> str:
    learned = f" of {args.frames} frames at most, evenly spaced" if args.frames else ""
    header = f".system | s | {' | '.join(NAMES[method] for method in args.methods)} | ."
    about = items(f"**{system.set}**: {system.about}." for system in systems)
    return (
        f"Root mean square errors, energies in meV/atom and forces in meV/Å, after {args.epochs} epochs{learned}, of "
        f"Adam {METHODS['adam'].times} times as many; medians of the seeds that are there, with the range. The paper's "
        "rows are of its own data.\n\n"
        + table(HEADER, _rows(found, systems, args.methods))
        + "\nAfter equal processor time, that of the run that ends first:\n\n"
        + table(header, _equal_rows(equal, args.methods))
        + f"\nThe data are others than the paper's, which are not public:\n\n{about}\n{found.footer()}"
    )


def _rows(found: Found, systems: Sequence[System], methods: Sequence[str]) -> Iterator[list[str]]:
    for system in systems:
        for method in methods:
            errors = [spread(found.final(system.set, method, column)) for column in COLUMNS]
            seconds = [rows[-1].seconds for rows in found.of(system.set, method)]
            name = f"**{system.set}**" if method == methods[0] else ""
            yield [name, NAMES[method], *errors, number(median(seconds)) if seconds else "…"]
        if system.paper:
            frames, *both = PAPER[system.paper]
            for optimizer, printed in zip(("RLEKF", "Adam"), both, strict=True):
                name = f"paper's {system.paper}: {frames}" if optimizer == "RLEKF" else ""
                yield [name, f"paper's {optimizer}", *map(str, printed), ""]


def verdicts(found: Found, names: Sequence[str]) -> Iterator[str]:
    """Yield which optimizer has the lower test errors, in how many systems."""
    for ours, theirs, note in (
        ("recommended", "rlekf", {}),
        ("recommended", "adam", {}),
        ("rlekf", "adam", PAPER_WINS),
    ):
        both = [name for name in names if found.of(name, ours) and found.of(name, theirs)]
        if not both:
            yield f"{NAMES[ours]} against {NAMES[theirs]}: no system has both yet."
            continue
        said = []
        for quantity, (word, _) in QUANTITIES.items():
            mine, other = (
                [median(found.final(name, method, f"{quantity}_rmse_test")) for name in both]
                for method in (ours, theirs)
            )
            wins = sum(a < b for a, b in zip(mine, other, strict=True))
            paper = f" (paper's RLEKF: {note[quantity]})" if note else ""
            said.append(f"of {word} in {wins} of {len(both)} systems{paper}")
        yield f"{NAMES[ours]} has a lower test error than {NAMES[theirs]} {', '.join(said)}."


@dataclass(frozen=True)
class Equal:
    """Test errors of each method after these processor seconds, (energy, force)."""

    seconds: float
    errors: dict[str, tuple[float, float]]

    @property
    def complaint(self) -> str:
        """How much worse than another one the default is, if it is."""
        energy, force = self.errors["recommended"]
        said = []
        for name, (other_energy, other_force) in self.errors.items():
            if force > WORSE_FORCE * other_force:
                said.append(f"forces {100 * (force / other_force - 1):.0f} % worse than {NAMES[name]}")
            if energy > WORSE_ENERGY + other_energy:
                said.append(f"energy {number(energy - other_energy)} meV/atom worse than {NAMES[name]}")
        return ", ".join(said)


def at_equal_time(found: Found, name: str, methods: Sequence[str]) -> Equal | None:
    """Return the median errors when the first of the methods ends; None without the default and one to compare with."""
    there = {method: found.of(name, method) for method in methods if found.of(name, method)}
    if "recommended" not in there or len(there) < 2:
        return None
    end = min(median(rows[-1].seconds for rows in seeds) for seeds in there.values())
    return Equal(
        end,
        {
            method: (
                median(at_seconds(rows, end, "energy_rmse_test") for rows in seeds),
                median(at_seconds(rows, end, "force_rmse_test") for rows in seeds),
            )
            for method, seeds in there.items()
        },
    )


def at_seconds(rows: Sequence[Row], seconds: float, column: str) -> float:
    """Return an error after these seconds, between two evaluations by a power law."""
    values = [finite(getattr(row, column)) for row in rows]
    return finite(float(np.exp(np.interp(np.log(seconds), np.log([row.seconds for row in rows]), np.log(values)))))


def equal_verdict(equal: dict[str, Equal | None]) -> str:
    """Return on which systems the default is worse than another optimizer after equal processor time."""
    judged = {name: one for name, one in equal.items() if one}
    worse = [f"{name} ({one.complaint})" for name, one in judged.items() if one.complaint]
    limits = f"by more than {100 * (WORSE_FORCE - 1):.0f} % in forces or {WORSE_ENERGY} meV/atom in energy"
    if not judged:
        return "After equal processor time: no system has two optimizers to compare yet."
    where = f"{len(worse)} of {len(judged)} systems: {'; '.join(worse)}" if worse else f"none of {len(judged)} systems"
    return f"After equal processor time `recommended` is worse than another optimizer {limits} in {where}."


def _equal_rows(equal: dict[str, Equal | None], methods: Sequence[str]) -> Iterator[list[str]]:
    for name, one in equal.items():
        if one is None:
            yield [name, "…", *("…" for _ in methods), ""]
            continue
        cells = [", ".join(map(number, one.errors[m])) if m in one.errors else "…" for m in methods]
        yield [name, number(one.seconds), *cells, one.complaint]


if __name__ == "__main__":
    main()
