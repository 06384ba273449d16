"""A calculator that does what labels must survive; the first element of a frame decides what."""

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import SCFError, all_changes
from ase.calculators.emt import EMT

__all__ = ["Faulty"]


class Faulty(EMT):
    """EMT that writes a line into the file `calls` when it starts and when it ends, and may not come that far."""

    def __init__(self, calls: str, does: Mapping[str, str] | None = None, seconds: float = 0.0) -> None:
        super().__init__()
        self.calls = Path(calls)
        self.does = does or {}
        self.seconds = seconds

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Note the call, misbehave or compute, and note its end."""
        assert atoms is not None
        name = f"{atoms.symbols[0]} {os.getpid()} {atoms.positions[0, 0]:.6f}"
        earlier = self.calls.exists() and f"start {name[:2]}" in self.calls.read_text()
        self._note(f"start {name}")
        Path("program.out").write_text("the last words of the program\n")
        self._misbehave(self.does.get(atoms.symbols[0], ""), earlier)
        time.sleep(self.seconds)
        super().calculate(atoms, properties, system_changes)
        if self.does.get(atoms.symbols[0]) == "nan":
            self.results["forces"] = self.results["forces"] * np.nan
        self._name = name

    def converged(self) -> bool:
        """Note the end of the call: it is asked for under `finishing`, so that a call with an end leaves its result."""
        self._note(f"end {self._name}")
        return self._converges

    def _misbehave(self, kind: str, earlier: bool) -> None:
        if kind in ("raise", "once") and not (earlier and kind == "once"):
            raise RuntimeError("the program stopped")
        if kind == "later" and not earlier:  # it comes to its end when it is started again
            time.sleep(1000)
        if kind == "scf":
            raise SCFError("100 iterations were not enough")
        self._converges = kind != "flag"
        if kind == "exit":
            print("leaving", flush=True)
            os._exit(7)
        if kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":  # in a program of its own, as most calculators
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            self._note(f"child {child.pid}")
            child.wait()
        if kind == "worker":  # the process that looks after this one
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)

    def _note(self, line: str) -> None:
        with self.calls.open("a") as handle:  # short lines are appended whole
            handle.write(line + "\n")
