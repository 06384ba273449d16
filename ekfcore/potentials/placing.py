"""Weights on a backend and a device that fit a model."""

from typing import Any

from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.atoms.potential import Potential
from ekfcore.devices import place
from ekfcore.errors import InputError
from ekfcore.registry import BACKENDS

__all__ = ["place_weights"]


def place_weights(model: Potential, weights: NDArray[Any], *, backend: str = "auto", device: str = "cpu") -> Array:
    """Return weights as an array of a backend that can compute the model, on a device.

    Parameters
    ----------
    model : Potential
        Model, which may need the arrays of one library.
    weights : array of NumPy, shape (n,)
        Weights to place.
    backend, device : str
        See `place`; "auto" is the backend that the model needs, or else the fastest on that device.

    Raises
    ------
    InputError
        If the backend or the device cannot be used here, or not with this model.
    """
    needed = model.library
    if needed and backend == "auto":
        backend = needed
    if needed and backend in BACKENDS and BACKENDS[backend].library != BACKENDS[needed].library:
        raise InputError(
            f'this model is computed by {needed}, which backend {backend!r} is not; set run.backend = "{needed}", or '
            "leave it out"
        )
    return place(weights, backend=backend, device=device)
