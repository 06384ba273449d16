"""What the picture of ratios reads from the tables of the comparison with DeePMD-kit."""

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason='matplotlib is not installed: pip install "ekfcore[atoms]"')

BENCHMARKS = Path(__file__).resolve().parents[2] / "asv_bench"
TABLES = """\
A machine.

| ekfcore | [ms] | compared with | [ms] | times faster | lowest to highest | by CPU seconds |
|---|---|---|---|---|---|---|
| update | 2 | DeePMD-kit, step of LKF | 16 | 8 | 5 to 10 | 7 |
| update | 2 | exact nets, NumPy | 6 | 3 | 2 to 4 | 3 |

| ekfcore | [ms] | compared with | [ms] | times as long | lowest to highest | by CPU seconds |
|---|---|---|---|---|---|---|
| step | 8 | DeePMD-kit, step of Adam | 2 | 4 | 2 to 5 | 4 |
"""


def test_times_faster_and_times_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both tables say how many times faster ours is; what is not compared with DeePMD-kit is left out."""
    if not BENCHMARKS.is_dir():
        pytest.skip("asv_bench is not beside the tests")
    monkeypatch.syspath_prepend(BENCHMARKS)
    try:
        read_ratios = importlib.import_module("plot_ratios").read_ratios
    finally:
        sys.modules.pop("plot_ratios", None)
    assert list(read_ratios(TABLES)) == [
        ("update", "step of LKF", 8.0, 5.0, 10.0),
        ("step", "step of Adam", 0.25, 0.2, 0.5),
    ]
