"""``ekfcore info``."""

import argparse
import importlib
import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from ekfcore.devices import find_devices
from ekfcore.errors import InputError
from ekfcore.registry import BACKENDS
from ekfcore.threads import usable_cores

from ._options import Commands, add_command

__all__ = ["add_parser", "run"]

_FOR_USERS = ("atoms", "numba", "torch", "cupy", "jax", "deepmd")
"""Extras whose packages are listed; the other extras are for developers."""


def add_parser(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = add_command(commands, "info", summary="show versions, devices and which backends work here")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the versions, devices and backends of this machine."""
    _section("versions", _versions())
    _section("devices", _devices())
    _section("backends", _backends())
    return 0


def _section(title: str, rows: list[tuple[str, str]]) -> None:
    print(title)
    for name, text in rows:
        print(f"  {name:<18} {text}")


def _versions() -> list[tuple[str, str]]:
    rows = [("ekfcore", version("ekfcore")), ("python", f"{platform.python_version()} on {platform.platform()}")]
    for requirement in requires("ekfcore") or []:
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if name == "ekfcore" or (extra and extra[1] not in _FOR_USERS) or name in dict(rows):
            continue
        command = f'pip install "ekfcore[{extra[1]}]"' if extra else "pip install ekfcore"
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, f"not installed; run: {command}"))
    return rows


def _devices() -> list[tuple[str, str]]:
    rows = [("cpu", f"{_processor()}, {usable_cores()} of {os.cpu_count()} logical cores usable")]
    threads = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ}
    gpus = [(f"cuda:{index}", gpu) for index, gpu in enumerate(_gpus())]
    return [*rows, *threads.items(), *(gpus or [("gpu", "none found")])]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    names = re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    return names[1] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Return the GPUs that the driver reports: no array library needs to be installed."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.splitlines() if answer.returncode == 0 else []


def _backends() -> list[tuple[str, str]]:
    """Return for each backend whether it works here, the version of its library, and its devices or the error."""
    table = [("works", "version", "devices")]
    for name, entry in BACKENDS.items():
        try:
            devices = ", ".join(find_devices(name))
            package = entry.kernels or entry.library
            table.append(("yes", f"{package} {importlib.import_module(package).__version__}", devices))
        except InputError as error:
            table.append(("no", "", str(error).removeprefix(f"backend {name!r} ")))
    width = max(len(version) for _, version, _ in table)
    texts = [f"{works:<7}{version:<{width}}  {rest}" for works, version, rest in table]
    return list(zip(["", *BACKENDS], texts, strict=True))
