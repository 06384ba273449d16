"""Fixtures for the tests of ekfcore.atoms."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from ekfcore.atoms import Frame

MakeFrame: TypeAlias = Callable[..., Frame]


@pytest.fixture
def make_frame() -> MakeFrame:
    """Return a maker of small valid frames; any field can be replaced."""

    def make(**fields: Any) -> Frame:
        valid: dict[str, Any] = {
            "numbers": np.array([8, 1, 1]),
            "positions": np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]),
            "cell": np.diag([5.0, 6.0, 7.0]),
            "pbc": np.array([True, True, True]),
            "energy": -14.0,
            "forces": np.array([[0.1, 0.2, 0.3], [-0.1, 0.0, 0.0], [0.0, -0.2, -0.3]]),
            "source": "water.xyz, frame 3",
        }
        return Frame(**{**valid, **fields})

    return make
