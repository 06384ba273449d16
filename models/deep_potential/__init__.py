"""The Deep Potential with the se_e2_a descriptor."""

from .architecture import Architecture
from .embedding_kernels import EmbeddingKernels, find_embedding, whole_arrays
from .environment import Environment, Statistics, build_environment
from .initial import fit_bias, fit_statistics, initial_weights, neighbour_capacity
from .interpolation import fit_nodes, interpolation_error
from .model import DeepPotential
from .nodal import NodalPotential
from .nodal_environment import NodalEnvironment
from .nodal_kernels import find_kernels

__all__ = [
    "Architecture",
    "DeepPotential",
    "EmbeddingKernels",
    "Environment",
    "NodalEnvironment",
    "NodalPotential",
    "Statistics",
    "build_environment",
    "find_embedding",
    "find_kernels",
    "fit_bias",
    "fit_nodes",
    "fit_statistics",
    "initial_weights",
    "interpolation_error",
    "neighbour_capacity",
    "whole_arrays",
]
