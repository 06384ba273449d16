"""The table of metrics, of today and of before."""

from pathlib import Path

import pytest

from ekfcore.errors import InputError

records = pytest.importorskip("ekfcore.training.records", reason="training needs ekfcore[atoms]")

RECORD = records.EpochRecord(
    epoch=1,
    step=7,
    wall_s=0.5,
    lam=1.0,
    energy_rmse_train=1.0,
    energy_rmse_test=2.0,
    force_rmse_train=3.0,
    force_rmse_test=4.0,
    force_noise=5.0,
    force_kpu_scale=6.0,
)


def test_there_and_back(tmp_path: Path) -> None:
    """What is not known stays unknown."""
    records.write_metrics(tmp_path / "metrics.csv", [RECORD, RECORD])
    assert records.read_metrics(tmp_path / "metrics.csv") == [RECORD, RECORD]


@pytest.mark.parametrize("columns", [8, 10])
def test_a_table_without_the_last_columns(tmp_path: Path, columns: int) -> None:
    """As it was written before there were noise and scale, and before there were virials."""
    path = tmp_path / "metrics.csv"
    records.write_metrics(path, [RECORD])
    lines = [",".join(line.split(",")[:columns]) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (found,) = records.read_metrics(path)
    assert (found.step, found.force_rmse_test, found.force_noise) == (7, 4.0, None)


@pytest.mark.parametrize("text", ["", "epoch,step\n1,2\n", "a,b,c,d,e,f,g,h,i,j\n"])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    """With the columns that there must be."""
    (tmp_path / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="is not a table of metrics: its columns must be epoch, step"):
        records.read_metrics(tmp_path / "metrics.csv")
