"""Noise that a filter finds itself, from how far off its predictions are."""

import math
from dataclasses import dataclass, replace

from array_api_compat import array_namespace

from ekfcore._numbers import keep_number
from ekfcore._typing import Array, Namespace
from ekfcore.errors import InputError

__all__ = ["AdaptiveNoise", "NoiseLevel"]


_LEAST = 0.1  # share of s^2 that R keeps however much was learned: a filter that trusts the labels no end stops resting


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveNoise:
    r"""A variance R that follows the innovations.

    R of a measurement is :math:`\kappa\, r\, s^2\, (s / s_0)^{p - 2}`, where r is what `update` is given as its noise,
    here a relative variance, :math:`s^2` the running mean of :math:`e^2 / r`, and :math:`s_0` is s when the mean first
    ran over a whole window; the last factor is kept between a tenth and one. While the linearisation is poor,
    innovations are large and little is concluded from them; later R falls to what the model cannot explain. The ratios
    r have the unit of the measured quantity squared (or none, if all measurements are of one kind), and :math:`s^2` has
    none.

    Parameters
    ----------
    factor : float
        :math:`\kappa`.
    window : float
        Measurements over which the mean runs. The first ones are averaged with equal weights.
    power : float
        p, at least 2: R goes as this power of s. With 2, all measurements count as their innovations say. With 3,
        those of a better model count more: what was learned about other weights is outweighed as far as the model has
        come since, and no further.
    """

    factor: float = 1.0
    window: float = 100.0
    power: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < keep_number(self, "factor") < math.inf:
            raise InputError(f"`factor` of an adaptive noise must be a positive number, got {self.factor!r}")
        if not 1 <= keep_number(self, "window") < math.inf:
            raise InputError(f"`window` of an adaptive noise must be at least 1, got {self.window!r}")
        if not 2 <= keep_number(self, "power") < math.inf:
            raise InputError(f"`power` of an adaptive noise must be at least 2, got {self.power!r}")

    def variance(self, level: "NoiseLevel") -> Array:
        """Return R for a relative variance of one, 0-d."""
        xp, mean = array_namespace(level.mean), level.mean
        one = xp.ones_like(mean)
        known = level.first > 0  # zero: no measurement has counted yet, or the first ones were predicted to the bit
        ratio = xp.where(known, mean / xp.where(known, level.first, one), one)
        # Equation `adaptive`: (s^2 / s_0^2) to the power (p - 2) / 2.
        return self.factor * mean * xp.clip(ratio ** (self.power / 2 - 1), min=_LEAST, max=1.0)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NoiseLevel:
    """What the innovations have said so far.

    Parameters
    ----------
    mean : array, 0-d
        Running mean s^2 of the squared innovations over their relative variances.
    weight : array, 0-d
        Measurements that it stands for: their number, up to the window.
    first : array, 0-d
        The mean when its window had just filled; until then, the mean.
    """

    mean: Array
    weight: Array
    first: Array

    @classmethod
    def unknown(cls, xp: Namespace, **kind: object) -> "NoiseLevel":
        """Return the level before the first measurement; `kind` is dtype and device."""
        return cls(mean=xp.zeros((), **kind), weight=xp.zeros((), **kind), first=xp.zeros((), **kind))

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
            return replace(self, mean=xp.where(first, xp.mean(squares), self.mean))
        chosen = xp.stack([squares[k] for k in range(len(tracked)) if tracked[k]])
        # Equal weights until the window is full, an exponential mean over it from then on. At least `count`, so that
        # the new measurements together weigh one at most.
        weight = xp.clip(self.weight + count, max=max(window, float(count)))
        mean = self.mean + (xp.mean(chosen) - self.mean) * (count / weight)
        return NoiseLevel(mean=mean, weight=weight, first=xp.where(self.weight < window, mean, self.first))
