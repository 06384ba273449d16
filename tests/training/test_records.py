"""The table of metrics, of today and of before."""

from collections.abc import Callable
from dataclasses import replace
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
    table = [RECORD, replace(RECORD, epoch=2)]
    records.write_metrics(tmp_path / "metrics.csv", table)
    assert records.read_metrics(tmp_path / "metrics.csv") == table


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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("4.0", "x"),
            "line 2: force_rmse_test must be a number, got 'x'; mend it, or --resume",
        ),
        (lambda text: text.replace("4.0", "", 1), "line 2: force_rmse_test must be a number, got ''"),
        (lambda text: text[: text.rindex(",")], "line 4: must have 14 numbers, got 13; mend it, or --resume"),
        (lambda text: "\n".join(text.splitlines()[i] for i in (0, 1, 3)), "line 3: epoch 3 must not follow 1"),
        (lambda text: text + "4,5\n", "line 5: must have 14 numbers, got 2"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    """With the line; a number that is another cannot be told from the right one."""
    path = tmp_path / "metrics.csv"
    records.write_metrics(path, [replace(RECORD, epoch=epoch) for epoch in (1, 2, 3)])
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        records.read_metrics(path)
    assert str(caught.value).startswith(f"{path}, {message}")


def test_a_table_that_is_no_text(tmp_path: Path) -> None:
    """A wrong encoding."""
    (tmp_path / "metrics.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a table of metrics"):
        records.read_metrics(tmp_path / "metrics.csv")
