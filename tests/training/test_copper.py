"""The recommended training on real DFT data: copper at 300 and 500 K."""

from pathlib import Path

import pytest

from ekfcore.cli import main

training = pytest.importorskip("ekfcore.training", reason="training needs ekfcore[atoms]")


@pytest.mark.slow
def test_three_epochs_of_copper(shared_data: Path, tmp_path: Path) -> None:
    """One command's defaults bring the errors on frames not seen below 1 meV/atom and 30 meV/Å in three epochs."""
    config = tmp_path / "copper.toml"
    config.write_text(
        f'[data]\ntrain = "{shared_data}/Cu_pwmat/train.xyz.xz"\ntest = "{shared_data}/Cu_pwmat/test.xyz.xz"\n'
        "[training]\nepochs = 3\n"
    )
    assert main(["train", str(config), "--out", str(tmp_path / "run"), "--threads", "1"]) == 0
    records = training.read_metrics(tmp_path / "run" / "metrics.csv")
    assert any(r.energy_rmse_test <= 1.0 and r.force_rmse_test <= 30.0 for r in records)
    assert records[-1].energy_rmse_train <= 1.0
