"""A few moments of docs/experiments/killed.py, always the same ones, and what that script has to notice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

for _package in ("ase", "matplotlib", "psutil", "pydantic", "rich", "scipy", "threadpoolctl", "vesin"):
    pytest.importorskip(_package, reason=f'{_package} is not installed: pip install "ekfcore[atoms]"')

_SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "experiments" / "killed.py"
_MOMENTS: dict[str, list[tuple[float, ...]]] = {
    # Parts of the time of the undisturbed run, one for each kill; the first half of a training goes by with imports.
    "train": [(0.6, 0.65), (0.7,), (0.8,), (0.9,)],
    "learn": [(0.3,), (0.5,), (0.85,)],
}


@pytest.fixture(scope="module")
def killed(load_test_file: Callable[[Path], ModuleType]) -> ModuleType:
    """Return the script, which stands outside every package."""
    if not _SCRIPT.is_file():
        pytest.skip("docs/experiments/killed.py is not beside the tests")
    return load_test_file(_SCRIPT)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "learn"])
def test_the_end_is_equal_to_the_bit(command: str, killed: ModuleType, tmp_path: Path) -> None:
    """Wherever kill -9 comes, --resume goes on; no label is lost or made twice, and nothing is left behind."""
    trial = killed.Trial(command, tmp_path / "work", tensorboard=False)
    trial.run_undisturbed()
    for fractions in _MOMENTS[command]:
        moment = trial.run_moment(fractions)
        assert len(moment.kills) == len(fractions)
        assert not moment.faults, str(moment)


def test_the_comparison_notices_what_differs(killed: ModuleType, tmp_path: Path) -> None:
    """A bit of an array, a cell of a table, a label, a picture that is not whole, what is missing and what is left."""
    from ekfcore.active.ledger import Ledger
    from ekfcore.archive import write_archive
    from ekfcore.atoms import Frame

    def fill(
        folder: Path, *, weight: float = 1.0, energy: float = -1.0, cell: str = "0.5", seconds: float = 1.0
    ) -> None:
        folder.mkdir()
        write_archive(folder / "model.npz", {"kind": "x", "wall_s": seconds}, [("weights", np.array([weight]))])
        (folder / "metrics.csv").write_text(f"epoch,wall_s,lambda\n1,{seconds},{cell}\n")
        (folder / "report.json").write_text(f'{{"high": NaN, "cpu_s": {{"train": {seconds}}}}}')
        (folder / "plot.png").write_bytes(b"IEND" + bytes(4))
        frame = Frame(
            numbers=np.array([29]),
            positions=np.zeros((1, 3)),
            cell=np.zeros((3, 3)),
            pbc=np.zeros(3, dtype=bool),
            source="",
        )
        frame = replace(frame, energy=energy, forces=np.zeros((1, 3)))
        Ledger(folder / "labels.db").add(frame, seconds=seconds)

    fill(tmp_path / "whole")
    fill(tmp_path / "same", seconds=2.0)
    assert killed.differences(tmp_path / "same", tmp_path / "whole") == []
    (tmp_path / "same/.lock").touch()
    (tmp_path / "same/plot.png").write_bytes(bytes(8))
    (tmp_path / "same/report.json").unlink()
    found = killed.differences(tmp_path / "same", tmp_path / "whole")
    assert found == [".lock is left", "report.json is missing", "plot.png differs"]
    fill(tmp_path / "other", weight=np.nextafter(1.0, 2.0), energy=np.nextafter(-1.0, 0.0), cell="0.51")
    found = killed.differences(tmp_path / "other", tmp_path / "whole")
    assert found == ["labels.db differs", "metrics.csv differs", "model.npz differs"]
