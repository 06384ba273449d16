"""What the benchmarks share: copper frames, the paper's network and a filter that has been running for a while."""

from dataclasses import replace

import numpy as np
from ekfcore.models.deep_potential import (
    Architecture,
    DeepPotential,
    fit_statistics,
    initial_weights,
    neighbour_capacity,
)
from numpy.typing import NDArray

from ekfcore import EKFConfig, EKFState, init, partition, update
from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.errors import InputError
from ekfcore.partition import Strategy
from ekfcore.registry import get_namespace

__all__ = [
    "BACKENDS",
    "BLOCK_SIZES",
    "DTYPES",
    "PARTS",
    "copper_frames",
    "copper_model",
    "name_and_device",
    "on_backend",
    "paper_weights",
    "random_rows",
    "running_state",
    "wait",
]

BACKENDS = ("numpy", "generic", "torch", "torch:cuda")  # after the colon a device other than the CPU
BLOCK_SIZES = (1024, 5120)
DTYPES = ("float64",)
PARTS = (25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1)
"""Parameter parts of the paper's network for one element: embedding 25, 25, 25, axis 16, fitting 50, 50, 50."""

_SEED = 0


def name_and_device(backend: str) -> tuple[str, str]:
    """Take "torch:cuda" apart."""
    name, _, device = backend.partition(":")
    return name, device or "cpu"


def on_backend(backend: str, array: NDArray[np.floating], dtype: str) -> Array:
    """Return the array in the library and on the device of a backend; skip the benchmark where there is none."""
    name, device = name_and_device(backend)
    try:
        xp = get_namespace(name)
        return xp.asarray(array, dtype=getattr(xp, dtype), device=device)
    except (InputError, AssertionError, RuntimeError) as error:  # the latter two are PyTorch's "no such device"
        raise NotImplementedError(str(error)) from None


def wait(array: Array) -> None:
    """Wait until an array has been computed: one number travels to the host, which no library does before that."""
    float(array[(0,) * array.ndim])


def paper_weights(backend: str, dtype: str) -> Array:
    """Return weights of the paper's network, shape (26551,)."""
    return on_backend(backend, np.random.default_rng(_SEED).normal(0.0, 0.1, sum(PARTS)), dtype)


def random_rows(backend: str, dtype: str, m: int) -> Array:
    """Return m gradients of the paper's network, shape (m, 26551)."""
    return on_backend(backend, np.random.default_rng(_SEED).normal(0.0, 0.1, (m, sum(PARTS))), dtype)


def running_state(
    w: Array,
    backend: str,
    dtype: str,
    *,
    block_size: int,
    config: EKFConfig,
    strategy: Strategy = "rlekf",
    pending: int = 0,
) -> EKFState:
    """Return a filter at the weights `w` whose kernels are warm and whose memory is in use.

    The first fold-in writes every page of P, which an operating system hands out only when it is written. After it,
    `pending` rows wait for the next one.
    """
    layout = partition(PARTS, block_size=block_size, strategy=strategy)
    state = init(w, layout, config, backend=name_and_device(backend)[0])
    # Innovations of zero leave the weights where they are.
    state, _ = update(state, random_rows(backend, dtype, 1), 0.0, config=config, donate=True)
    state = replace(state, covariance=state.covariance.fold(donate=True))
    if pending:
        e = on_backend(backend, np.zeros(pending), dtype)
        state, _ = update(state, random_rows(backend, dtype, pending), e, config=config, donate=True)
    wait(state.covariance.traces)
    return state


def copper_frames(count: int) -> list[Frame]:
    """Return frames of 72 copper atoms, displaced at random from the fcc lattice and labelled with ASE's EMT."""
    try:
        from ase.build import bulk
        from ase.calculators.emt import EMT
    except ImportError as error:
        raise NotImplementedError(f"ASE is not installed ({error})") from None
    rng, frames = np.random.default_rng(_SEED), []
    for index in range(count):
        atoms = bulk("Cu", cubic=True) * (3, 3, 2)
        atoms.positions += rng.normal(0.0, 0.1, atoms.positions.shape)  # [Å], about 600 K
        atoms.calc = EMT()  # type: ignore[no-untyped-call]
        atoms.get_forces()
        frames.append(Frame.from_ase(atoms, f"copper, frame {index}"))
    return frames


def copper_model(frames: list[Frame]) -> tuple[DeepPotential, NDArray[np.float64]]:
    """Return the paper's network for these frames and its initial weights, shape (26551,)."""
    architecture = Architecture(elements=("Cu",), capacity=neighbour_capacity(frames, ["Cu"], 6.0))
    model = DeepPotential(architecture, fit_statistics(frames, architecture))
    return model, initial_weights(architecture, seed=_SEED)
