"""Save the filter and go on later as if it had never stopped."""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import NDArray

from ekfcore._typing import Array
from ekfcore.archive import read_archive, write_archive
from ekfcore.arrays import check_precision, to_numpy
from ekfcore.covariance import Covariance
from ekfcore.errors import CheckpointError, InputError
from ekfcore.filter import EKFState
from ekfcore.noise import NoiseLevel
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend
from ekfcore.registry import get_backend
from ekfcore.share import Share, Whole

__all__ = ["load", "restore_state", "save", "state_arrays", "state_header"]


_PANEL = 64  # columns


def save(state: EKFState, path: str | os.PathLike[str]) -> None:
    """Save a state of the filter; a file of that name is replaced only once the new one is complete.

    Parameters
    ----------
    state : EKFState
        State of any backend and any array library.
    path : path
        File to write, whatever its suffix.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    write_archive(path, {"kind": "filter", **state_header(state)}, state_arrays(state))


def load(
    path: str | os.PathLike[str],
    *,
    like: Array | None = None,
    backend: str | None = None,
    dtype: Literal["float64", "float32"] | None = None,
) -> EKFState:
    """Load a state of the filter.

    With the array library, the kind of device and the backend that saved it, the filter goes on bit for bit; with
    others, it goes on from the same numbers and then differs by rounding.

    Parameters
    ----------
    path : path
        File that `save` wrote.
    like : array, optional
        Any array of the library and on the device that the state shall have; NumPy if not given.
    backend : str, optional
        Name of the kernels; if not given, those that saved the state where they work, else the fastest.
    dtype : {"float64", "float32"}, optional
        Precision of P, that of the settings with which the filter goes on; the one that was saved if not given. The
        weights keep theirs.

    Returns
    -------
    EKFState
        The state as it was saved.

    Raises
    ------
    InputError
        If the file cannot be read, the backend does not work here, or the library has no such precision.
    CheckpointError
        If the file is truncated, altered, or something else than a filter.
    """
    header, arrays = read_archive(path, kind="filter")
    return restore_state(header, arrays, like=like, backend=backend, dtype=dtype)


def state_header(state: EKFState) -> dict[str, Any]:
    """Return what a header must hold to restore the state."""
    return {
        "lam": float(state.lam),  # compiled updates of JAX return arrays
        "count": int(state.count),
        "sizes": list(state.covariance.layout.sizes),
        "backend": state.covariance.backend.name,
        "library": _library(state.weights),
        "coupled": state.covariance.coupled,
    }


def state_arrays(state: EKFState) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield the arrays that restore the state, one block of P at a time."""
    P = state.covariance
    yield "weights", to_numpy(state.weights)
    yield "average", to_numpy(state.average)
    yield "scale", to_numpy(P.scale)
    yield "shift", to_numpy(P.shift)
    yield "traces", to_numpy(P.traces)
    yield "noise", np.stack([to_numpy(state.noise.mean), to_numpy(state.noise.weight)])
    yield "first", to_numpy(state.noise.first)
    pending = to_numpy(P.share.whole(P.pending))
    information = None if P.information is None else to_numpy(P.share.whole(P.information[: P.count, :]))
    for index, part in enumerate(P.layout.slices):
        yield f"pending.{index}", pending[:, part]
        if information is not None:
            yield f"information.{index}", information[:, part]
        yield f"lower.{index}", _pack(to_numpy(P.lower(index)))


def restore_state(
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    like: Array | None = None,
    backend: str | None = None,
    dtype: Literal["float64", "float32"] | None = None,
    share: Share | None = None,
) -> EKFState:
    """Return the state that `state_header` and `state_arrays` described; see `load`, and `init` for `share`."""
    _check_header(header)
    like = np.zeros(1) if like is None else like
    xp = array_namespace(like)
    kernels = _choose_backend(header, backend, like)
    layout = BlockLayout(tuple(header["sizes"]))
    share = share or Whole(layout)
    n_blocks = len(layout.sizes)
    weights = _take(arrays, "weights", layout.n_params)
    average = _take(arrays, "average", layout.n_params) if "average" in arrays else weights
    precision = dtype or _take(arrays, "scale", n_blocks).dtype.name
    check_precision(xp, precision, "P of the saved filter" if dtype is None else "`dtype`", on=device(like))
    if weights.dtype.name == "float64":  # weights in half precision, as PyTorch may have them, do not limit P
        check_precision(xp, "float64", "the precision of the saved weights", on=device(like))

    def bring(array: NDArray[Any]) -> Array:
        # The copy has the library's own alignment, which decides about the last bit of some products.
        return xp.asarray(array.astype(precision, copy=False), device=device(like), copy=True)

    def matrices() -> Iterator[Array]:
        for index, n in zip(share.indices, share.layout.sizes, strict=True):
            packed = _take(arrays, f"lower.{index}", n * (n + 1) // 2)
            yield xp.asarray(_unpack(packed.astype(precision, copy=False), n), device=device(like))

    def side_by_side(name: str, count: int | None) -> Array:
        parts = []
        for index, n in zip(share.indices, share.layout.sizes, strict=True):
            parts.append(_take(arrays, f"{name}.{index}", count, n))
            count = len(parts[0])
        return bring(np.concat(parts, axis=1))

    rows = side_by_side("pending", None)
    # Files from before there were rows that join the blocks, a noise that adapts, and an average say nothing of them.
    # Where only the first level of the noise is missing, it is the present one.
    noise = bring(_take(arrays, "noise", 2) if "noise" in arrays else np.zeros(2))
    first = bring(_take(arrays, "first")) if "first" in arrays else noise[0]
    covariance = Covariance(
        backend=kernels,
        layout=layout,
        share=share,
        store=kernels.from_lower(share.layout, matrices()),
        rows=rows,
        count=rows.shape[0],
        scale=bring(_take(arrays, "scale", n_blocks)),
        shift=bring(_take(arrays, "shift", n_blocks)),
        traces=bring(_take(arrays, "traces", n_blocks)),
        information=side_by_side("information", rows.shape[0]) if header.get("coupled") else None,
    )
    return EKFState(
        weights=xp.asarray(weights, device=device(like), copy=True),
        average=xp.asarray(average, device=device(like), copy=True),
        covariance=covariance,
        lam=header["lam"],
        count=header["count"],
        noise=NoiseLevel(mean=noise[0], weight=noise[1], first=first),
    )


def _check_header(header: Mapping[str, Any]) -> None:
    """Refuse what `state_header` does not return; files from before P could be coupled do not tell whether it is."""
    rules: dict[str, tuple[type, ...]] = {
        "lam": (float, int),
        "count": (int,),
        "sizes": (list, tuple),
        "backend": (str,),
        "library": (str,),
    }
    if not isinstance(header, Mapping):
        raise CheckpointError(f"the header of the saved filter must be a mapping, got {header!r}; use an earlier copy")
    for name, kinds in rules.items():
        if not isinstance(header.get(name), kinds):
            raise CheckpointError(
                f"the header of the saved filter must have a {name}, got {header.get(name)!r}; use an earlier copy"
            )
    if not isinstance(header.get("coupled", False), bool) or not 0 < header["lam"] <= 1 or header["count"] < 0:
        raise CheckpointError("the header of the saved filter holds what no filter has; use an earlier copy")


def _choose_backend(header: Mapping[str, Any], name: str | None, like: Array) -> Backend:
    """Return the kernels asked for; if none were, those that saved the state, which give the same bits."""
    if name in (None, "auto") and header["library"] == _library(like):
        with suppress(InputError):
            return get_backend(header["backend"], like=like)
    return get_backend(name, like=like)


def _library(array: Array) -> str:
    """Return the name of the package that an array belongs to."""
    return type(array).__module__.partition(".")[0]


def _take(arrays: Mapping[str, NDArray[Any]], name: str, *shape: int | None) -> NDArray[Any]:
    """Return an array that must have this shape; None stands for any length."""
    if name not in arrays:
        raise CheckpointError(f"the saved filter has no array {name!r}; use an earlier copy")
    array = arrays[name]
    if len(array.shape) != len(shape) or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
        raise CheckpointError(
            f"array {name!r} of the saved filter must have shape {shape}, got {array.shape}; use an earlier copy"
        )
    return array


# Both copy by columns: a mask of the triangle would be shorter, but its memory would make saving the peak of a run.


def _pack(square: NDArray[Any]) -> NDArray[Any]:
    """Return the lower triangle column by column, shape (n(n+1)/2,), as LAPACK packs it."""
    n, start = len(square), 0
    packed = np.empty(n * (n + 1) // 2, dtype=square.dtype)
    for first in range(0, n, _PANEL):
        panel = np.ascontiguousarray(square[first:, first : first + _PANEL].T)  # so that columns are read in order
        for k, column in enumerate(panel):
            packed[start : start + n - first - k] = column[k:]
            start += n - first - k
    return packed


def _unpack(packed: NDArray[Any], n: int) -> NDArray[Any]:
    """Return a matrix in column order with this lower triangle, shape (n, n)."""
    upper, start = np.zeros((n, n), dtype=packed.dtype), 0
    for column in range(n):
        upper[column, column:] = packed[start : start + n - column]
        start += n - column
    return upper.T
