"""Molecular dynamics with a trained model."""

from .explore import Trajectory, explore
from .settings import ExploreSettings

__all__ = ["ExploreSettings", "Trajectory", "explore"]
