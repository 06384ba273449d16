"""The deviation of a committee."""

import numpy as np
import pytest

pytest.importorskip("psutil", reason='psutil is not installed: pip install "ekfcore[active]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[active]"')
from ekfcore.potentials.committee import force_deviation


def test_deviation_is_the_standard_deviation_of_the_vectors() -> None:
    """Sum of the variances of the three components, with DP-GEN's division by the number of models."""
    forces = np.random.default_rng(0).standard_normal((4, 5, 3))
    expected = [np.sqrt(sum(np.var(forces[:, atom, k]) for k in range(3))) for atom in range(5)]
    np.testing.assert_allclose(force_deviation(forces), expected, rtol=1e-13)


def test_models_that_agree_do_not_deviate() -> None:
    """Whatever the forces are."""
    forces = np.broadcast_to(np.random.default_rng(0).standard_normal((5, 3)), (4, 5, 3))
    np.testing.assert_allclose(force_deviation(forces), 0.0, atol=1e-15)
