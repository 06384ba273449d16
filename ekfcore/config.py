"""Settings of the filter."""

import math
from dataclasses import dataclass, field
from typing import Literal

from ekfcore.errors import InputError
from ekfcore.memory import MemoryFactor

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
        if not all(0 < value < math.inf for value in (self.start, self.stop, self.measurements)):
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
    noise : float, Anneal or "blocks"
        Variance R of a measurement, in the unit of the measured quantity squared. "blocks" is the paper's choice, the
        number of blocks L: there a smaller block size silently means a smaller step. `update` can override it for each
        measurement.
    p0 : float
        Initial covariance, P_0 = p0 I.
    process_noise : float or Anneal
        Variance q added to the diagonal of P after each measurement (n2p2's filter); zero in the papers.
    pending : int
        Columns that are kept beside Q before they are folded into it; changes the speed, not the result.
    dtype : {"float64", "float32"}
        Precision of P. With float32, P turned indefinite in experiments once lambda had forgotten enough, see
        `MemoryFactor.growth`.
    """

    memory: MemoryFactor = field(default_factory=MemoryFactor)
    noise: float | Anneal | Literal["blocks"] = 1.0
    p0: float = 1.0
    process_noise: float | Anneal = 0.0
    pending: int = 32
    dtype: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        if isinstance(self.noise, str):
            if self.noise != "blocks":
                raise InputError(f'`noise` must be a positive number, an Anneal or "blocks", got {self.noise!r}')
        elif not isinstance(self.noise, Anneal) and not 0 < self.noise < math.inf:
            raise InputError(f'`noise` must be a positive number, an Anneal or "blocks", got {self.noise!r}')
        if not isinstance(self.process_noise, Anneal) and not 0 <= self.process_noise < math.inf:
            raise InputError(f"`process_noise` must be zero or a positive number, got {self.process_noise!r}")
        if not 0 < self.p0 < math.inf:
            raise InputError(f"`p0` must be a positive number, got {self.p0!r}")
        if self.pending < 1:
            raise InputError(f"`pending` must be at least 1, got {self.pending}")
        if self.dtype not in ("float64", "float32"):
            raise InputError(f'`dtype` must be "float64" or "float32", got {self.dtype!r}')

    def noise_at(self, count: int, n_blocks: int) -> float:
        """Return R after `count` measurements for a covariance of that many blocks."""
        if isinstance(self.noise, str):
            return float(n_blocks)
        return self.noise.at(count) if isinstance(self.noise, Anneal) else self.noise

    def process_noise_at(self, count: int) -> float:
        """Return q after `count` measurements."""
        return self.process_noise.at(count) if isinstance(self.process_noise, Anneal) else self.process_noise
