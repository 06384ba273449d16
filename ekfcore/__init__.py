"""Train neural-network force fields, and any small network, with an extended Kalman filter."""

from ekfcore.checkpoint import load, save
from ekfcore.config import Anneal, EKFConfig
from ekfcore.covariance import Covariance
from ekfcore.errors import CheckpointError, EKFError, FilterError, InputError
from ekfcore.filter import EKFState, UpdateInfo, init, update
from ekfcore.memory import MemoryFactor
from ekfcore.moved import find_moved_modules
from ekfcore.noise import AdaptiveNoise
from ekfcore.partition import BlockLayout, partition
from ekfcore.protocols import Backend, JacobianProvider
from ekfcore.uncertainty import kpu

__all__ = [
    "AdaptiveNoise",
    "Anneal",
    "Backend",
    "BlockLayout",
    "CheckpointError",
    "Covariance",
    "EKFConfig",
    "EKFError",
    "EKFState",
    "FilterError",
    "InputError",
    "JacobianProvider",
    "MemoryFactor",
    "UpdateInfo",
    "init",
    "kpu",
    "load",
    "partition",
    "save",
    "update",
]

find_moved_modules()
