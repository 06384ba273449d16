"""Train a Deep Potential with the filter, or with Adam."""

from .adam import AdamOptimizer, AdamSettings
from .kalman import KalmanOptimizer
from .loop import Progress, Trainer
from .model_file import LoadedModel, evaluate, load_model
from .prepare import prepare
from .records import EpochRecord, read_metrics, write_metrics
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
