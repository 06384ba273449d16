"""The Deep Potential with the se_e2_a descriptor."""

from .architecture import Architecture
from .embedding_kernels import EmbeddingKernels, find_embedding, whole_arrays
from .environment import Environment, Statistics, build_environment
from .exact import ExactPotential
from .initial import fit_statistics, initial_weights, neighbour_capacity
from .interpolation import fit_nodes, interpolation_error
from .model import DeepPotential
from .nodal import NodalPotential
from .nodal_environment import NodalEnvironment
from .nodal_kernels import find_kernels
from .symmetry import last_layer, symmetric_weights

__all__ = [
    "Architecture",
    "DeepPotential",
    "EmbeddingKernels",
    "Environment",
    "ExactPotential",
    "NodalEnvironment",
    "NodalPotential",
    "Statistics",
    "build_environment",
    "find_embedding",
    "find_kernels",
    "fit_nodes",
    "fit_statistics",
    "initial_weights",
    "interpolation_error",
    "last_layer",
    "neighbour_capacity",
    "symmetric_weights",
    "whole_arrays",
]
