"""Fixtures for the CUDA kernels: the files that hold them."""

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(
    params=sorted(path for folder in ("backends", "models") for path in (_ROOT / folder).rglob("*.cu")),
    ids=lambda path: path.name,
)
def kernel_file(request: pytest.FixtureRequest) -> Path:
    """Return each file of CUDA C in turn."""
    path: Path = request.param
    return path
