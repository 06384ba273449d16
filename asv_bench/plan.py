#!/usr/bin/env python3
"""What an update with the filter of "recommended" costs on several ranks: a model, its check, and what it foretells.

    python asv_bench/plan.py                # measure on this machine, and write docs/how-to/_plan.md

The model counts operations, bytes of memory and bytes of messages. Its two constants for this machine, the speed of a
product of matrices and that of reading memory, are measured in the same run. One and two ranks are timed, in processor
seconds, which other work disturbs least; of one to eight ranks the bytes that they send are counted.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np  # after the number of threads has been set

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "how-to" / "_plan.md"
NUMBER = 8  # [bytes]
ROWS, BLOCK = 128, 256  # of the preset recommended
PIECES = 64  # runs of blocks that ranks share
UPDATES = 2  # of a batch


@dataclass(frozen=True)
class Machine:
    """What one rank has: operations, bytes read from memory and bytes sent [1/s], and the wait for a message [s]."""

    flops: float
    memory: float
    link: float
    wait: float


@dataclass(frozen=True)
class Update:
    """n weights, m measurements at once, R ranks."""

    n: int
    m: int
    ranks: int = 1

    @property
    def kept(self) -> float:
        """Bytes of the blocks and of the two sets of rows that a rank keeps."""
        return NUMBER * self.n * (BLOCK / 2 + 2 * ROWS) / self.ranks

    @property
    def whole(self) -> float:
        """Bytes of what every rank holds of all weights: H, H P, the two sets of rows that an update makes."""
        return NUMBER * self.n * 4 * self.m

    def parts(self) -> dict[str, tuple[float, float]]:
        """Return operations and bytes read of each part of an update, for one rank."""
        n, m, share = self.n, self.m, 1 / self.ranks
        k = 0.75 * ROWS  # between half and all of them
        # Each m rows make the blocks take up as many old ones: half of ROWS at a time.
        aged = m / (ROWS / 2)
        half = ROWS / 2
        return {
            "blocks": (2 * m * n * BLOCK * share, NUMBER * n * BLOCK / 2 * share),
            "rows": (4 * m * k * n * share, 2 * NUMBER * k * n * share),
            # Two products with the blocks, one fold, and the small matrices of each and of all blocks.
            "ageing": (
                aged * (5 * half * n * BLOCK + 8 * half**2 * n) * share,
                aged * NUMBER * n * (4 * BLOCK / 2 + 8 * half) * share,
            ),
            "every rank": (6.0 * m**2 * n, NUMBER * n * 12 * m),
        }

    def sent(self) -> float:
        """Return bytes that a rank sends to each other one in an update, the gradients of its frames aside."""
        if self.ranks == 1:
            return 0.0
        pieces = -(-PIECES // self.ranks)
        aged = self.m / (ROWS / 2) * pieces * (ROWS / 2) ** 2
        return NUMBER * (pieces * self.m * 0.75 * ROWS + self.m * self.n / self.ranks + aged)

    def seconds(self, machine: Machine) -> dict[str, float]:
        """Return the seconds of each part: of its operations or of its bytes, whichever are more."""
        found = {
            name: max(flops / machine.flops, bytes_ / machine.memory) for name, (flops, bytes_) in self.parts().items()
        }
        others = self.ranks - 1
        gradients = NUMBER * self.m * self.n / self.ranks
        # A rank receives from all others; gradients of the frames, products, sums.
        found["messages"] = others * (self.sent() + gradients) / machine.link + 4 * machine.wait * bool(others)
        return found


# NVIDIA's data sheet: 34 TFLOPS without tensor cores, 4.8 TB/s, NVLink 450 GB/s each way. Half of each is taken,
# which large products and copies usually reach.
H200 = Machine(17e12, 2.4e12, 225e9, 20e-6)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE, help="the page (default: %(default)s)")
    args = parser.parse_args()
    here = _this_machine()
    checked = {(ranks, m): found for ranks in (1, 2, 4, 8) for m, found in _measured(ranks).items()}
    # How much slower kernels are than products of large matrices and sums of long vectors.
    slower = checked[1, 24][0] / _modelled(Update(26551, 24), here)
    lines = [
        f"One thread makes {here.flops / 1e9:.1f} thousand million operations a second here, and reads "
        f"{here.memory / 1e9:.1f} GB. An update of 26 551 weights, processor milliseconds of a rank:\n",
        "| measurements | ranks | model | measured | MB sent, model | counted |",
        "| --: | --: | --: | --: | --: | --: |",
        *_compared(checked, here),
        "",
        f"The kernels take {slower:.1f} times as long as the model says of large products. What it foretells for a "
        "million weights and a million frames on H200s, at half the speed of the data sheet and with that factor: "
        "milliseconds of an update, without the gradients of the frames, and hours of all updates of an epoch:\n",
        "| GPUs | frames a batch | blocks | rows | ageing | every rank | messages | all | h an epoch | GB a GPU |",
        "| --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
        *_foretold(H200, slower),
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _this_machine() -> Machine:
    """Measure, with products and copies as large as those of an update."""
    A, B = np.ones((64, 26551)), np.ones((256, 26551))
    flops = 2 * A.size * B.shape[0] / _best(lambda: A @ B.T)
    x = np.ones(2 * 10**7)
    return Machine(flops, x.nbytes / _best(x.sum), 1e9, 1e-4)


def _best(work: Callable[[], object]) -> float:
    """Return the shortest of nine processor times."""
    found = []
    for _ in range(9):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def _modelled(update: Update, machine: Machine) -> float:
    """Return the milliseconds of an update without messages: waiting for them takes no processor time."""
    parts = update.seconds(machine)
    return 1e3 * (sum(parts.values()) - parts["messages"])


def _compared(checked: dict[tuple[int, int], tuple[float, float]], here: Machine) -> Iterator[str]:
    """Yield the rows that compare one to eight ranks with the model; there are too few cores to time more than two."""
    for (ranks, m), (cpu, sent) in checked.items():
        update = Update(26551, m, ranks)
        times = (f"{_modelled(update, here):.1f}", f"{cpu:.1f}") if ranks <= 2 else ("", "")
        yield f"| {m} | {ranks} | {' | '.join(times)} | {1e-6 * update.sent():.3f} | {sent:.3f} |"


def _measured(ranks: int) -> dict[int, tuple[float, float]]:
    """Return for 3 and 24 measurements the processor milliseconds of the slowest rank, and the MB it sends to each."""
    turns = "3" if ranks < 4 else "1"  # bytes need no repetition
    command = [sys.executable, str(HERE / "ranks.py"), "update", "--turns", turns, "--cases", f"{ranks}x1"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    values = {}
    for line in text.splitlines()[1:]:
        name, _, numbers = line.strip().rpartition(": ")
        values[name] = max(float(number) for number in numbers.split(","))
    return {
        m: (
            values[f"recommended, m = {m}: CPU ms an update"],
            values[f"recommended, m = {m}: MB sent to each an update"] if ranks > 1 else 0.0,
        )
        for m in (3, 24)
    }


def _foretold(machine: Machine, slower: float) -> list[str]:
    lines = []
    for ranks in (1, 8):
        for batch in (8, 64, 256):
            update = Update(10**6, 3 * batch, ranks)
            parts = {name: (1 if name == "messages" else slower) * s for name, s in update.seconds(machine).items()}
            total = sum(parts.values())
            hours = UPDATES * 10**6 / batch * total / 3600
            cells = [f"{1e3 * value:.2f}" for value in [*parts.values(), total]]
            kept = 1e-9 * (update.kept + update.whole)
            lines.append(f"| {ranks} | {batch} | {' | '.join(cells)} | {hours:.2f} | {kept:.1f} |")
    return lines


if __name__ == "__main__":
    main()
