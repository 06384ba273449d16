"""Kernels compiled on the user's machine: Numba for processors, CUDA C for GPUs."""
