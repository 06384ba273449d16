"""Named ways of applying the filter to a force field."""

from dataclasses import dataclass
from typing import Literal, get_args

from ekfcore.config import Anneal, EKFConfig
from ekfcore.errors import InputError
from ekfcore.memory import MemoryFactor
from ekfcore.noise import AdaptiveNoise
from ekfcore.partition import Strategy

__all__ = ["PRESETS", "Mode", "Recipe", "preset"]

Mode = Literal["sequential", "pinned", "vector", "batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A filter together with what it measures in each frame.

    Parameters
    ----------
    config : EKFConfig
        Settings of the filter.
    strategy : str
        Rule that cuts the weights into blocks.
    block_size : int
        Largest block, N_b.
    mode : {"sequential", "pinned", "vector", "batch"}
        - "sequential": the energy, then each group of forces, frame by frame (the paper's Algorithm 2);
        - "pinned": the energy and some groups of forces together in every update, linearised afresh for each;
        - "vector": all measurements of a batch in one exact update;
        - "batch": like "sequential", each measurement reduced over the frames of a batch before the filter sees it.
    groups : int
        Groups of atoms a frame.
    group_size : int or None
        Atoms in a group; None shares all atoms of a frame out among the groups.
    groups_per_update : int
        Groups that a pinned update measures. Several of them let a frame give more measurements in as many updates:
        twelve groups of six in four updates see every atom of 72; the memory factor then counts more of them a frame.
    energy_noise, force_noise, virial_noise : float or None
        Standard deviation of a measured energy [eV/atom], force [eV/Å] and virial [eV/atom], or of what the settings
        below make of them; None takes the filter's own noise. With adaptive noise they are relative to each other:
        forces say how large they all are.
    energy_prefactor, force_prefactor, virial_prefactor : float
        Factor on the measured quantity and its innovation; a larger one trusts the measurement more. A
        `virial_prefactor` of zero leaves the virial out.
    force_per_atom : bool
        Divide the measured force by the number of atoms, like the energy; a force group then weighs much less than an
        energy, and the energy does not drift while the forces are fitted.
    """

    config: EKFConfig
    strategy: Strategy = "rlekf"
    block_size: int = 5120
    mode: Mode = "sequential"
    groups: int = 4
    group_size: int | None = 6
    groups_per_update: int = 1
    energy_noise: float | None = None
    force_noise: float | None = None
    virial_noise: float | None = None
    energy_prefactor: float = 1.0
    force_prefactor: float = 1.0
    virial_prefactor: float = 0.0
    force_per_atom: bool = False

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise InputError(f"`mode` must be one of {', '.join(get_args(Mode))}, got {self.mode!r}")
        for name in ("block_size", "groups", "group_size", "groups_per_update"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise InputError(f"`{name}` must be at least 1, got {getattr(self, name)}")
        for name in ("energy_prefactor", "force_prefactor", "virial_prefactor"):
            if not getattr(self, name) >= 0:
                raise InputError(f"`{name}` must be at least 0, got {getattr(self, name)}")
        for name in ("energy_noise", "force_noise", "virial_noise"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and 0 < value * value < float("inf")):  # R is its square
                raise InputError(f"`{name}` must be a positive number, got {value}; its square is the variance")


PRESETS = ("recommended", "rlekf", "deepmd-lkf", "matpl-lkf", "n2p2")
"""Names of the filters; the training also knows "adam", which is none."""


def preset(name: str, *, measurements_per_epoch: int = 1000) -> Recipe:
    """Return a named recipe.

    Parameters
    ----------
    name : str
        - "recommended": our default. Nothing fades, the noise follows the innovations, what joins the blocks is kept
          for the last measurements, and the weights are averaged over the last tenth of all. All atoms of a frame are
          measured, in two updates, together with its energy and, where it has one, its virial.
        - "rlekf": the paper, arXiv 2212.06989: R = L, N_b = 5120, one energy and four force updates a frame. Both are
          divided by the number of atoms, as in DeePMD-kit: the paper does not say so, but otherwise the force updates
          undo the energy.
        - "deepmd-lkf": DeePMD-kit 3's optimizer LKF, which differs in the blocks alone.
        - "matpl-lkf": MatPL's LKF: as the former with P_0 = 0.01 I and forces counted twice.
        - "n2p2": the filter of n2p2: no fading, noise and process noise annealed by a decade an epoch.
    measurements_per_epoch : int
        Measurements in an epoch, which sets the pace of what is annealed.

    Raises
    ------
    InputError
        If the name is unknown.
    """
    if name == "recommended":
        noise = AdaptiveNoise(factor=0.1, power=3.0)
        return Recipe(
            config=EKFConfig(memory=MemoryFactor(1.0), noise=noise, rows=128, averaging=0.1),
            block_size=256,
            mode="pinned",
            group_size=None,
            groups_per_update=2,
            energy_noise=0.03,
            force_noise=1.0,
            virial_noise=1.0,
            virial_prefactor=1.0,
        )
    if name == "rlekf":
        return Recipe(config=EKFConfig(noise="blocks"), force_per_atom=True)
    if name == "deepmd-lkf":
        return Recipe(config=EKFConfig(noise="blocks"), strategy="deepmd", force_per_atom=True)
    if name == "matpl-lkf":
        config = EKFConfig(noise="blocks", p0=0.01)
        return Recipe(config=config, strategy="deepmd", force_per_atom=True, force_prefactor=2.0)
    if name == "n2p2":
        config = EKFConfig(
            memory=MemoryFactor(1.0, 1.0),
            noise=Anneal(100.0, 1.0, measurements_per_epoch),
            process_noise=Anneal(1e-2, 1e-6, measurements_per_epoch),
            p0=100.0,
        )
        return Recipe(config=config)
    raise InputError(f"`preset` must be one of {', '.join(PRESETS)}, got {name!r}")
