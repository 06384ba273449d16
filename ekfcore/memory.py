"""The memory factor: how much of the past the filter keeps at each measurement."""

from dataclasses import dataclass
from typing import Literal

from ekfcore._numbers import keep_number
from ekfcore.errors import InputError

__all__ = ["MemoryFactor"]


@dataclass(frozen=True, slots=True)
class MemoryFactor:
    """A memory factor lambda that rises towards one.

    Parameters
    ----------
    initial : float
        lambda at the first measurement, in (0, 1]; 1 never forgets.
    rate : float
        nu of the recursion lambda <- lambda nu + 1 - nu, in [0, 1].
    counts : {"measurements", "updates"}
        What the recursion counts. An update with m measurements advances it m times by default: were it to advance
        once, P would stay open m times longer and the weights would keep swinging.

    References
    ----------
    Hu et al., RLEKF, arXiv 2212.06989, Algorithm 1, line 14.

    Examples
    --------
    >>> MemoryFactor(0.98, 0.9).advance(0.98)
    0.982
    """

    initial: float = 0.98
    rate: float = 0.9987
    counts: Literal["measurements", "updates"] = "measurements"

    def __post_init__(self) -> None:
        if not 0 < keep_number(self, "initial") <= 1:
            raise InputError(f"`initial` of the memory factor must lie in (0, 1], got {self.initial!r}")
        if not 0 <= keep_number(self, "rate") <= 1:
            raise InputError(f"`rate` of the memory factor must lie in [0, 1], got {self.rate!r}")
        if type(self.counts) is not str or self.counts not in ("measurements", "updates"):
            raise InputError(f'`counts` must be "measurements" or "updates", got {self.counts!r}')

    def advance(self, lam: float, measurements: int = 1) -> float:
        """Return lambda after one update with that many measurements."""
        # Closed form: 1 - (1 - lam) nu^m.
        for _ in range(measurements if self.counts == "measurements" else 1):
            lam = 1 - self.rate * (1 - lam)  # in this form 1 stays exactly 1, where lam nu + 1 - nu may round
        return lam
