"""Ranks as processes of this machine, which talk over its loopback, or as threads, which meet at a barrier."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

# ASE is only partly typed.
# mypy: disable-error-code="no-untyped-call"

HERE = Path(__file__).parent
LIMIT = 900  # [s] to find a hang: every process imports PyTorch and may compile kernels

Start: TypeAlias = Callable[..., "list[subprocess.Popen[str]]"]
RunRanks: TypeAlias = Callable[..., list[tuple[int, str, str]]]
Together: TypeAlias = Callable[[int, Callable[["Threads"], Any]], list[Any]]


class Threads:
    """One rank of several, which are threads; counts what it sends to each of the others."""

    def __init__(self, rank: int, table: list[Any], barrier: threading.Barrier) -> None:
        self.rank, self.size = rank, len(table)
        self.sent: list[int] = []
        self._table, self._barrier = table, barrier

    def gather(self, array: NDArray[Any]) -> list[NDArray[Any]]:
        """Return the arrays of all threads."""
        self.sent.append(array.nbytes)
        self._table[self.rank] = array
        self._barrier.wait(60)
        found = [other.copy() for other in self._table]
        self._barrier.wait(60)
        assert len({(other.shape, other.dtype) for other in found}) == 1
        return found

    def broadcast(self, array: NDArray[Any], source: int) -> NDArray[Any]:
        """Return the array of one thread."""
        self._table[self.rank] = array
        self._barrier.wait(60)
        found: NDArray[Any] = self._table[source].copy()
        self._barrier.wait(60)
        assert found.shape == array.shape
        return found

    def agree(self, what: str, text: str) -> None:
        """Trust the tests."""


@pytest.fixture(scope="session", autouse=True)
def _torch() -> None:
    """Skip where ranks cannot talk to each other, or nothing can be trained."""
    distributed = pytest.importorskip("torch.distributed", reason='ranks need PyTorch: pip install "ekfcore[torch]"')
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this PyTorch was built without gloo")
    for package in ("ase", "scipy", "vesin", "pydantic", "rich", "matplotlib", "psutil"):
        pytest.importorskip(package, reason=f'{package} is not installed: pip install "ekfcore[atoms]"')


@pytest.fixture(scope="session")
def start_ranks() -> Start:
    """Return a function that starts the ranks of a run, and returns their processes."""

    def start(words: Sequence[object], size: int, **variables: str) -> "list[subprocess.Popen[str]]":
        port, processes = _free_port(), []
        for rank in range(size):
            place = {
                "RANK": rank,
                "WORLD_SIZE": size,
                "LOCAL_RANK": rank,
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            settings = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
            settings |= {name: str(value) for name, value in place.items()} | variables
            processes.append(
                subprocess.Popen(
                    [sys.executable, *map(str, words)],
                    env=os.environ | settings,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return processes

    return start


@pytest.fixture(scope="session")
def run_ranks(start_ranks: Start) -> RunRanks:
    """Return a function that runs all ranks to their end, and returns exit code, stdout and stderr of each."""

    def run(words: Sequence[object], size: int, **variables: str) -> list[tuple[int, str, str]]:
        processes = start_ranks(words, size, **variables)
        told = [process.communicate(timeout=LIMIT) for process in processes]
        return [(process.returncode, *texts) for process, texts in zip(processes, told, strict=True)]

    return run


@pytest.fixture(scope="session")
def together() -> Together:
    """Return a function that returns what each of so many ranks finds, which are threads."""

    def run(size: int, work: Callable[[Threads], Any]) -> list[Any]:
        table, barrier = [None] * size, threading.Barrier(size)
        with ThreadPoolExecutor(size) as pool:
            return list(pool.map(work, [Threads(rank, table, barrier) for rank in range(size)]))

    return run


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write frames of one element and of three, with virials, from ASE's EMT; return their folder."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from ase.io import write

    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, others in (("one", ()), ("three", ("Ag", "Au"))):
        frames = []
        for index in range(9):
            # Of two sizes, and the small ones too few to be shared evenly.
            atoms = bulk("Cu", cubic=True).repeat((2 if index % 3 else 1, 1, 1))
            for place, symbol in enumerate(others):
                atoms.symbols[place] = symbol
            atoms.positions += rng.normal(0.0, 0.08, atoms.positions.shape)
            atoms.calc = EMT()
            atoms.get_forces()
            atoms.get_stress()
            frames.append(atoms)
        write(folder / f"{name}.xyz", frames, format="extxyz")
    return folder


@pytest.fixture
def config(tmp_path: Path, data: Path) -> Path:
    """Write a CONFIG; return its path."""
    text = f'[data]\ntrain = "{data}/three.xyz"\n'
    text += "[model]\ncutoff = 4.0\nembedding = [4]\naxis = 2\nfitting = [6]\n"
    text += "[optimizer]\nblock_size = 40\n[training]\nepochs = 2\n"
    (tmp_path / "config.toml").write_text(text, encoding="utf-8")
    return tmp_path / "config.toml"


@pytest.fixture(scope="session")
def assert_same_model() -> Callable[[Path, Path], None]:
    """Return a function that compares the models of two runs, with all that their training keeps, to the bit."""

    def check(one: Path, other: Path) -> None:
        from ekfcore.training import load_model

        first, second = load_model(one), load_model(other)
        for name in first.arrays:
            assert np.array_equal(first.arrays[name], second.arrays[name]), name

    return check


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
