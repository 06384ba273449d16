"""What docs/experiments/foretelling.py makes of error bars whose quality is known."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "ekfcore[atoms]"')

from ekfcore.atoms import Frame
from ekfcore.potentials.kpu import FrameUncertainty

Import = Callable[[str], ModuleType]


@pytest.fixture
def foretelling(script: Import) -> ModuleType:
    """Return the script."""
    return script("foretelling")


def _finding(foretelling: ModuleType, factor: float, *, method: str = "KPU") -> Any:
    """Judge bars that are `factor` times too short, for errors that are Gaussian in frames of very different size."""
    rng = np.random.default_rng(0)
    frames, found, forces = [], [], []
    for size in np.geomspace(0.01, 1.0, 50):
        sigma = size * rng.uniform(0.5, 2.0, 40)
        labels = rng.normal(size=(40, 3))
        frames.append(
            Frame(
                numbers=np.full(40, 29),
                positions=np.zeros((40, 3)),
                cell=np.eye(3),
                pbc=np.ones(3, bool),
                forces=labels,
                source="",
            )
        )
        forces.append(labels + sigma[:, None] * rng.normal(size=(40, 3)))
        atoms = np.arange(0, 40, 2)
        found.append(FrameUncertainty(energy=0.0, forces=3 * (sigma[atoms] / factor) ** 2, atoms=atoms))
    free = [np.ones(len(u.atoms), bool) for u in found]
    return foretelling.finding(method, 0, found, free, forces, frames, 10, 1.0)


def test_bars_of_the_right_length(foretelling: ModuleType) -> None:
    """All shares are what they should be; large errors are where large ones were foretold."""
    one = _finding(foretelling, 1.0)
    shares = [one.within_50, one.within_68, one.within_90, one.within_95]
    assert shares == pytest.approx([50, 68, 90, 95], abs=3)  # of 3000 errors: three standard errors
    assert one.ratio == pytest.approx(1, abs=0.05)
    assert one.area < 0.02
    assert one.rank_frames > 0.97
    assert one.rank_atoms > 0.85
    bars, errors = (foretelling.numbers(text) for text in (one.bars, one.errors))
    np.testing.assert_allclose(errors, bars, rtol=0.2)


def test_bars_that_are_too_short(foretelling: ModuleType) -> None:
    """Half as long, they hold a Gaussian's share of half a standard deviation; the ranks are the same."""
    from scipy.stats import norm

    right, short = _finding(foretelling, 1.0), _finding(foretelling, 2.0)
    assert short.ratio == pytest.approx(2 * right.ratio, rel=1e-6)
    assert short.within_68 == pytest.approx(100 * (2 * norm.cdf(norm.ppf(0.84) / 2) - 1), abs=3)
    levels = np.linspace(0.0005, 0.9995, 1000)
    area = np.mean(levels - (2 * norm.cdf(norm.ppf((1 + levels) / 2) / 2) - 1))
    assert short.area == pytest.approx(area, abs=0.02)
    assert (short.rank_frames, short.rank_atoms) == (right.rank_frames, right.rank_atoms)


def test_a_distance_is_no_error_bar(foretelling: ModuleType) -> None:
    """Its ranks alone count."""
    one = _finding(foretelling, 1.0, method=foretelling.DISTANCE)
    assert np.isnan([one.ratio, one.within_50, one.within_95, one.area]).all()
    assert one.rank_frames > 0.97


def test_findings_are_kept(foretelling: ModuleType, tmp_path: Path) -> None:
    """To five digits, NaN among them."""
    wanted = [_finding(foretelling, 1.0), _finding(foretelling, 1.0, method=foretelling.DISTANCE)]
    foretelling.keep(tmp_path / "folder" / "X.csv", wanted)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["X.csv"]
    for one, other in zip(foretelling.read_findings(tmp_path / "folder" / "X.csv"), wanted, strict=True):
        for name in one.__dataclass_fields__:
            value = getattr(other, name)
            known = pytest.approx(value, rel=1e-4, nan_ok=True) if isinstance(value, float) else value
            assert getattr(one, name) == known
