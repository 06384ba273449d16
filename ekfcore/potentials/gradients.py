"""Gradients of many predictions of one frame with respect to the weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.protocols import Cotangent

__all__ = ["energy_per_atom", "force_component", "frame_gradients"]

_TOGETHER = 1024  # functionals times atoms in one pullback, so that its intermediate arrays fit into the cache


def frame_gradients(model: Potential, w: Array, frame: Frame, functionals: Sequence[Mapping[str, Any]]) -> Array:
    """Return the gradients of many functionals of one frame, shape (m, n).

    Parameters
    ----------
    model : Potential
        The model.
    w : array, shape (n,)
        Weights; the gradients are arrays of their library.
    frame : Frame
        Atoms.
    functionals : sequence of m mappings
        Cotangents as NumPy arrays.
    """
    xp = array_namespace(w)
    cotangents: list[Cotangent] = [
        {name: xp.asarray(values, dtype=w.dtype, device=w.device) for name, values in functional.items()}
        for functional in functionals
    ]
    _, pull = model.linearize(w, model.environment(frame, like=w))
    rows = max(_TOGETHER // frame.n_atoms, 8)
    parts = [pull(cotangents[k : k + rows])[1] for k in range(0, len(cotangents), rows)]
    return parts[0] if len(parts) == 1 else xp.concat(parts)


def force_component(frame: Frame, atom: int, k: int) -> dict[str, Any]:
    """Return the functional that is component k of the force on one atom."""
    one = np.zeros((frame.n_atoms, 3))
    one[atom, k] = 1.0
    return {"forces": one}


def energy_per_atom(frame: Frame) -> dict[str, Any]:
    """Return the functional that is the energy per atom."""
    return {"energy": np.asarray(1 / frame.n_atoms)}
