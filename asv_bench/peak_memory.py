#!/usr/bin/env python3
"""Train eight steps with LKF and print the memory in use on the way [MiB]; compare_deepmd.py runs it for both sides."""

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import deepmd_side


def main(side: str, data: str, input_file: str) -> None:
    """Print an object: memory after the imports, when all is ready, at most in our steps, and at most in all."""
    imports, make, run = {
        "DeePMD-kit": (_import_theirs, _make_theirs, _run_theirs),
        "ekfcore": (_import_ours, _make_ours, _run_ours),
    }[side]
    imports()
    used = {"imports": _memory("VmRSS")}
    os.chdir(Path(input_file).parent)  # where DeePMD-kit's trainer writes its files
    trainer = make(Path(data), Path(input_file))
    used["ready"] = _memory("VmRSS")
    run(trainer, used)
    print(json.dumps(used | {"peak": _memory("VmHWM")}))


def _import_theirs() -> None:
    deepmd_side.hide_library()
    import_module("deepmd.pt.entrypoints.main")


def _make_theirs(data: Path, input_file: Path) -> Any:
    return deepmd_side.make_trainer(input_file)


def _run_theirs(trainer: Any, used: dict[str, float]) -> None:
    trainer.run()


def _import_ours() -> None:
    import_module("ekfcore.backends._numba")
    import_module("ekfcore.training")


def _make_ours(data: Path, input_file: Path) -> Any:
    from ekfcore_side import make_trainer

    return make_trainer(data, {"preset": "deepmd-lkf"}, input_file.parent)


def _run_ours(trainer: Any, used: dict[str, float]) -> None:
    def note(progress: Any) -> None:
        if progress.epoch == 0:  # neither evaluated nor saved yet
            used["steps"] = _memory("VmHWM")

    trainer.run(on_step=note)


def _memory(field: str) -> float:
    """Return what the kernel says about this process: VmRSS, memory in use, or VmHWM, the most that ever was."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
