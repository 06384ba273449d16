"""The reference kernels for arrays of JAX, and what makes `jax.jit` of an update possible."""

import jax

from ekfcore.covariance import Covariance
from ekfcore.filter import EKFState, UpdateInfo
from ekfcore.noise import NoiseLevel

from ._blockwise import Blocks
from ._generic import GenericBackend

__all__ = ["backend"]

backend = GenericBackend("jax")

# What JAX traces, and what a compiled update holds for: everything that has a shape, against everything that sets one.
# lam and count change at every update and are traced as well, for otherwise each would be compiled anew.
jax.tree_util.register_dataclass(Blocks, ["matrices"], ["layout"])
jax.tree_util.register_dataclass(
    Covariance, ["store", "rows", "scale", "shift", "traces", "information"], ["backend", "layout", "share", "count"]
)
jax.tree_util.register_dataclass(NoiseLevel, ["mean", "weight", "first"], [])
jax.tree_util.register_dataclass(EKFState, ["weights", "average", "covariance", "lam", "count", "noise"], [])
jax.tree_util.register_dataclass(UpdateInfo, ["innovation", "gain", "hph", "noise", "lam", "trace"], ["status"])
