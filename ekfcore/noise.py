"""Noise that a filter finds itself, from how far off its predictions are."""

import math
from dataclasses import dataclass

from array_api_compat import array_namespace

from ekfcore._numbers import keep_number
from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError

__all__ = ["AdaptiveNoise", "NoiseLevel"]


_LAST = 0.1  # share of R that is left in the end: with less, single frames of diverse data threw the weights about


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveNoise:
    r"""A variance R that follows the innovations.

    R of measurement t is :math:`\kappa\, r\, s^2\, (0.1 + 0.9 / (1 + t / \tau)^2)`, where r is what `update` is given
    as its noise, here a relative variance, and :math:`s^2` the running mean of :math:`e^2 / r`. While the
    linearisation is poor, innovations are large and little is concluded from them; later R falls to what the model
    cannot explain. The ratios r have the unit of the measured quantity squared (or none, if all measurements are of
    one kind), and :math:`s^2` has none.

    Parameters
    ----------
    factor : float
        :math:`\kappa`.
    window : float
        Measurements over which the mean runs. The first ones are averaged with equal weights.
    settling : float
        :math:`\tau`, measurements after which R is a third; in the end it is a tenth. What was learned long ago, about
        other weights, then counts less than what is learned now, and nothing that was never measured grows, as it does
        with a memory factor below one. Infinite: all that was ever learned counts the same.
    """

    factor: float = 1.0
    window: float = 100.0
    settling: float = math.inf

    def __post_init__(self) -> None:
        if not 0 < keep_number(self, "factor") < math.inf:
            raise InputError(f"`factor` of an adaptive noise must be a positive number, got {self.factor!r}")
        if not 1 <= keep_number(self, "window") < math.inf:
            raise InputError(f"`window` of an adaptive noise must be at least 1, got {self.window!r}")
        if not keep_number(self, "settling") > 0:
            raise InputError(f"`settling` of an adaptive noise must be positive, got {self.settling!r}")

    def share(self, count: int) -> float:
        """Return R over the level after `count` measurements, for a relative variance of one."""
        # kappa c_t of equation `adaptive`; at t = tau, c = 0.1 + 0.9 / 4, about a third.
        return self.factor * (_LAST + (1 - _LAST) / (1 + count / self.settling) ** 2)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NoiseLevel:
    """What the innovations have said so far.

    Parameters
    ----------
    mean : array, 0-d
        Running mean s^2 of the squared innovations over their relative variances.
    weight : array, 0-d
        Measurements that it stands for: their number, up to the window.
    """

    mean: Array
    weight: Array

    @classmethod
    def unknown(cls, xp: Namespace, **kind: object) -> "NoiseLevel":
        """Return the level before the first measurement; `kind` is dtype and device."""
        return cls(mean=xp.zeros((), **kind), weight=xp.zeros((), **kind))

    def follow(self, squares: Array, tracked: list[bool], window: float) -> "NoiseLevel":
        """Return the level after measurements absorbed together, in whatever order they stand.

        Parameters
        ----------
        squares : array, shape (m,)
            Squared innovations over their relative variances.
        tracked : list of m bool
            Which of them count. If none does, and none ever did, all of them do.
        window : float
            See `AdaptiveNoise`.
        """
        xp = array_namespace(squares)
        count = sum(tracked)
        if not count:
            # The first update needs a level. It has weight zero, so the first tracked measurement replaces it.
            first = self.weight == 0
            return NoiseLevel(mean=xp.where(first, xp.mean(squares), self.mean), weight=self.weight)
        chosen = xp.stack([squares[k] for k in range(len(tracked)) if tracked[k]])
        # Equal weights until the window is full, an exponential mean over it from then on. At least `count`, so that
        # the new measurements together weigh one at most.
        weight = xp.clip(self.weight + count, max=max(window, float(count)))
        return NoiseLevel(mean=self.mean + (xp.mean(chosen) - self.mean) * (count / weight), weight=weight)
