"""The Deep Potential with the se_e2_a descriptor."""

from .architecture import Architecture
from .environment import Environment, Statistics, build_environment
from .initial import fit_statistics, initial_weights, neighbour_capacity
from .model import DeepPotential

__all__ = [
    "Architecture",
    "DeepPotential",
    "Environment",
    "Statistics",
    "build_environment",
    "fit_statistics",
    "initial_weights",
    "neighbour_capacity",
]
