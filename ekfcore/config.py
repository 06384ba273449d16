"""Settings of the filter."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ekfcore._numbers import keep_number
from ekfcore._types import check_type
from ekfcore.errors import InputError
from ekfcore.memory import MemoryFactor
from ekfcore.noise import AdaptiveNoise

__all__ = ["Anneal", "EKFConfig"]


@dataclass(frozen=True, slots=True)
class Anneal:
    """A number that moves from `start` to `stop` exponentially with the number of measurements.

    Parameters
    ----------
    start, stop : float
        First and last value, both positive.
    measurements : float
        Measurements in which the value changes by a factor of ten.
    """

    start: float
    stop: float
    measurements: float

    def __post_init__(self) -> None:
        if not all(0 < keep_number(self, name) < math.inf for name in ("start", "stop", "measurements")):
            raise InputError(f"`start`, `stop` and `measurements` of an annealed number must be positive, got {self}")

    def at(self, count: int) -> float:
        """Return the value after `count` measurements."""
        if self.start == self.stop:
            return self.stop
        decades = min(count / self.measurements, abs(math.log10(self.stop / self.start)))
        return self.start * math.pow(10.0, decades if self.stop > self.start else -decades)


@dataclass(frozen=True, slots=True, kw_only=True)
class EKFConfig:
    """Settings of the filter, all of them numbers.

    Parameters
    ----------
    memory : MemoryFactor
        Memory factor lambda and its recursion.
    noise : float, Anneal, AdaptiveNoise, "adaptive" or "blocks"
        Variance R of a measurement, in the unit of the measured quantity squared; `update` can override it for each
        measurement. "adaptive" is ``AdaptiveNoise()``, found from the innovations; what `update` is given are then
        relative variances. "blocks" is the paper's choice, the number of blocks L: there a smaller block size silently
        means a smaller step.
    p0 : float
        Initial covariance, P_0 = p0 I.
    process_noise : float or Anneal
        Variance q added to the diagonal of P after each measurement (n2p2's filter); zero in the papers.
    rows : int
        Measurements for which P keeps all correlations between the weights. Once there are so many, the older half is
        left to the blocks, see `Covariance.age`; before that, the filter is the exact one. With 0, P is block-diagonal
        at every update, as in the papers. Takes the memory of 2 `rows` n numbers.
    pending : int
        Rows that are kept beside Q before they are folded into it, where `rows` is 0; changes the speed, not the
        result.
    averaging : float
        Share of the measurements so far over which `EKFState.average` runs: the last tenth with 0.1, all with 1. A
        small noise moves the weights about a good place, and their mean lies nearer to it than any of them. With 0,
        the average is the weights.
    dtype : {"float64", "float32"}
        Precision of P. With float32, P turned indefinite in experiments once lambda had forgotten enough.
    """

    memory: MemoryFactor = field(default_factory=MemoryFactor)
    noise: float | Anneal | AdaptiveNoise | Literal["adaptive", "blocks"] = 1.0
    p0: float = 1.0
    process_noise: float | Anneal = 0.0
    rows: int = 0
    pending: int = 32
    averaging: float = 0.0
    dtype: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        check_type(self.memory, MemoryFactor, "memory")
        if isinstance(self.noise, str):
            known = self.noise in ("adaptive", "blocks")
        else:
            known = isinstance(self.noise, Anneal | AdaptiveNoise) or 0 < keep_number(self, "noise") < math.inf
        if not known:
            raise InputError(
                '`noise` must be a positive number, an Anneal, an AdaptiveNoise, "adaptive" or "blocks", '
                f"got {self.noise!r}"
            )
        if not isinstance(self.process_noise, Anneal) and not 0 <= keep_number(self, "process_noise") < math.inf:
            raise InputError(f"`process_noise` must be zero or a positive number, got {self.process_noise!r}")
        if not 0 < keep_number(self, "p0") < math.inf:
            raise InputError(f"`p0` must be a positive number, got {self.p0!r}")
        self._check_counts()
        if not 0 <= keep_number(self, "averaging") <= 1:
            raise InputError(f"`averaging` must be a share from 0 to 1, got {self.averaging!r}")
        # np.dtype("float64") == "float64", but it is no string.
        if type(self.dtype) is not str or self.dtype not in ("float64", "float32"):
            raise InputError(f'`dtype` must be "float64" or "float32", got {self.dtype!r}')

    def _check_counts(self) -> None:
        pending, rows = keep_number(self, "pending"), keep_number(self, "rows")
        if not isinstance(pending, int):
            raise InputError(f"`pending` must be an integer, got {self.pending!r}")
        if pending < 1:
            raise InputError(f"`pending` must be at least 1, got {pending}")
        if not isinstance(rows, int) or rows < 0 or rows == 1:
            raise InputError(f"`rows` must be 0, or an integer of at least 2, got {self.rows!r}")
        if rows and self.process_noise:
            raise InputError(f"`process_noise` needs rows = 0, got {self.process_noise} with rows = {rows}")

    @property
    def adaptive(self) -> AdaptiveNoise | None:
        """How the noise follows the innovations, if it does."""
        if self.noise == "adaptive":
            return AdaptiveNoise()
        return self.noise if isinstance(self.noise, AdaptiveNoise) else None

    def noise_at(self, count: int, n_blocks: int) -> float:
        """Return R after `count` measurements for a covariance of that many blocks; 1, a ratio, if adaptive."""
        if isinstance(self.noise, AdaptiveNoise):
            return 1.0
        if isinstance(self.noise, str):
            return 1.0 if self.noise == "adaptive" else float(n_blocks)
        return self.noise.at(count) if isinstance(self.noise, Anneal) else float(self.noise)

    def process_noise_at(self, count: int) -> float:
        """Return q after `count` measurements."""
        return self.process_noise.at(count) if isinstance(self.process_noise, Anneal) else self.process_noise
