"""Train a Deep Potential with the filter, or with Adam."""

from ekfcore.potentials.model_file import LoadedModel, evaluate, load_model
from ekfcore.potentials.position import EpochRecord

from .adam import AdamOptimizer, AdamSettings
from .kalman import KalmanOptimizer
from .loop import Progress, Trainer
from .prepare import prepare
from .records import read_metrics, write_metrics
from .settings import Settings, load_settings

__all__ = [
    "AdamOptimizer",
    "AdamSettings",
    "EpochRecord",
    "KalmanOptimizer",
    "LoadedModel",
    "Progress",
    "Settings",
    "Trainer",
    "evaluate",
    "load_model",
    "load_settings",
    "prepare",
    "read_metrics",
    "write_metrics",
]
