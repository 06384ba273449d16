"""Kernels for tensors of PyTorch: the reference kernels, which run on the tensors' device."""

import torch  # noqa: F401  (a run that asks for this backend must fail here when it is missing)

from ._generic import GenericBackend

__all__ = ["backend"]

backend = GenericBackend("torch")
