"""What a measurement was made with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["describe_machine", "describe_versions"]

_PACKAGES = ("ekfcore", "numpy", "scipy", "numba", "torch", "cupy-cuda12x", "jax", "deepmd-kit")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def describe_machine(threads: int) -> str:
    """Return processor, cores, threads, the load at the moment and the system's setting of huge pages."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    huge_pages = (
        _HUGE_PAGES.read_text(encoding="utf-8").split("[")[-1].split("]")[0] if _HUGE_PAGES.exists() else "none"
    )
    return (
        f"{processor}, {os.cpu_count()} cores, of which {threads} used; {platform.system()}, "
        f"transparent huge pages: {huge_pages}; load before: {os.getloadavg()[0]:.1f}"
    )


def describe_versions() -> str:
    """Return the versions of what computes."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
