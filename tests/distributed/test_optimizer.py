"""The optimizer for PyTorch on several processes, as they train with DistributedDataParallel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

RunRanks = Callable[..., list[tuple[int, str, str]]]

MODULES = Path(__file__).parent / "modules.py"
MISHAPS = Path(__file__).parent / "mishaps.py"
STEPS = 8
EXACT = ("plain", "each", "rows", "shard")  # cases of modules.py in which every pair is predicted by itself

pytestmark = pytest.mark.slow


def _train(run_ranks: RunRanks, out: Path, size: int, first: int = 0, last: int = STEPS) -> Path:
    for code, told, err in run_ranks([MODULES, out, first, last], size):
        assert (code, told) == (0, ""), err
    return out


def _assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Compare weights, and everything that the optimizer keeps, to the bit; losses are added in another order."""
    for name, tensor in one["net"].items():
        assert name == "steps" or np.array_equal(tensor, other["net"][name]), name
    (header, arrays), (header2, arrays2) = (s["optimizer"]["filter"].values() for s in (one, other))
    assert header == header2
    assert list(arrays) == list(arrays2)
    for name, array in arrays.items():
        assert np.array_equal(array, arrays2[name]), name
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=1e-13)


def _load(path: Path) -> Any:
    import torch

    return torch.load(path)


@pytest.fixture(scope="module")
def of_one(run_ranks: RunRanks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what one process makes of all pairs."""
    return _train(run_ranks, tmp_path_factory.mktemp("one"), 1)


@pytest.mark.parametrize("size", [2, 3])
def test_processes_learn_what_one_learns(run_ranks: RunRanks, of_one: Path, tmp_path: Path, size: int) -> None:
    """Every rank has the weights and the P of one process, whose pairs are shared out unevenly; and they learn."""
    _train(run_ranks, tmp_path, size)
    for name in EXACT:
        whole = _load(of_one / f"{name}-{STEPS}-0.pt")
        assert whole["losses"][-1] < 0.2 * whole["losses"][0]
        for rank in range(size):
            _assert_same(_load(tmp_path / f"{name}-{STEPS}-{rank}.pt"), whole)


def test_buffers_are_sent_and_do_no_harm(run_ranks: RunRanks, of_one: Path, tmp_path: Path) -> None:
    """As DistributedDataParallel does it; pairs that are predicted together are rounded otherwise than one by one."""
    _train(run_ranks, tmp_path, 2)
    first, second = (_load(tmp_path / f"buffers-{STEPS}-{rank}.pt") for rank in range(2))
    _assert_same(first, second)
    alone = _load(of_one / f"buffers-{STEPS}-0.pt")
    for name, tensor in alone["net"].items():
        np.testing.assert_allclose(first["net"][name], tensor, rtol=1e-10)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 3)])
def test_restart_with_other_processes(
    run_ranks: RunRanks, of_one: Path, tmp_path: Path, before: int, after: int
) -> None:
    """What rank 0 has saved goes on with any number of them, as if nothing had happened."""
    _train(run_ranks, tmp_path, before, 0, 3)
    for name in EXACT:
        (tmp_path / f"{name}-3-0.pt").rename(tmp_path / f"{name}-3.pt")
    (tmp_path / "buffers-3-0.pt").rename(tmp_path / "buffers-3.pt")
    _train(run_ranks, tmp_path, after, 3)
    for name in EXACT:
        then, whole = (_load(folder / f"{name}-{STEPS}-0.pt") for folder in (tmp_path, of_one))
        _assert_same(then, whole | {"losses": whole["losses"][3:]})


_TOLD = {
    "weights": ("InputError", "rank 1 has other weights than rank 0: "),
    "setting": ("InputError", "rank 1 has other `config.p0` than rank 0: 2.0, and not 1.0; "),
    "blocks": ("InputError", "rank 1 has other `block_size` than rank 0: 11, and not 10; "),
    "parameters": ("InputError", "rank 1 has other parameters than rank 0: 9 numbers "),
    "few blocks": ("InputError", "2 ranks are more than the 1 parts of P "),
    "flattened": ("InputError", "got one that was flattened"),
    "flattened into one": ("InputError", "got one that was flattened"),
    "nothing": ("InputError", "the closure of rank 1 has returned nothing to learn from"),
    "no tensors": ("InputError", "the closure of rank 1 has returned nothing to learn from"),
    "fails": ("InputError", "the closure of rank 1 has returned nothing to learn from"),
    "nan": ("FilterError", "is not finite; look at the labels"),
    "changed": ("InputError", "rank 1 has other weights than rank 0 now"),
    "device": (
        "InputError",
        "cannot send its arrays (RuntimeError: No backend type associated with device type cpu)",
    ),
}
_OF_RANK_1 = {
    "nothing": ("InputError", "got an empty one"),
    "no tensors": ("InputError", "got <class 'int'>"),
    "fails": ("RuntimeError", "the user's own"),
}


def test_mishaps_are_told_on_all_ranks(run_ranks: RunRanks) -> None:
    """In one line on each, with weights as they were; then all go on."""
    for rank, (code, told, err) in enumerate(run_ranks([MISHAPS, *_TOLD], 2)):
        assert code == 0, err
        lines = [line.split("\t") for line in told.splitlines()]
        assert [name for name, _, _ in lines] == list(_TOLD)
        for name, kind, message in lines:
            expected = (_TOLD | (_OF_RANK_1 if rank else {}))[name]
            assert kind == expected[0], message
            assert expected[1] in message


def test_a_module_that_is_fully_sharded(run_ranks: RunRanks) -> None:
    """Each process has a part of every parameter."""
    import torch.distributed.fsdp

    if not hasattr(torch.distributed.fsdp, "fully_shard"):
        pytest.skip("fully_shard needs PyTorch 2.6")
    for code, told, err in run_ranks([MISHAPS, "in parts"], 2):
        assert code == 0, err
        assert told.startswith("in parts\tInputError\tthe parameters must be whole in every process, got a DTensor: ")


def test_a_process_dies(run_ranks: RunRanks) -> None:
    """The other waits no longer, and says so."""
    (code, told, err), (died, _, _) = run_ranks([MISHAPS, "dies"], 2)
    assert code == 0, err
    assert died < 0
    assert told.startswith("dies\tRankError\trank 0 has lost the others (")
