"""The block-diagonal covariance P in deferred low-rank form.

Each block is kept as P_l = s_l (Q_l + d_l I - V_l^T V_l): an update only reads Q_l, appends rows to V_l and changes the
numbers s_l and d_l; once V_l has grown to `pending` rows, one symmetric rank-k product folds it into Q_l. This is
algebraically the usual update and moves about a twentieth of the memory.
"""

from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend

__all__ = ["Covariance"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Covariance:
    """A block-diagonal symmetric matrix P of shape (n, n).

    Parameters
    ----------
    backend : Backend
        Kernels that act on a block's store.
    layout : BlockLayout
        Sizes of the L blocks.
    stores : tuple
        Q_l in the backend's own form, only read between two folds and therefore shared by successive states.
    pending : tuple of array, shape (k, n_l)
        Rows V_l not folded in yet; k is the same for all blocks.
    scale, shift, traces : array, shape (L,)
        s_l, d_l and the trace of each block of P.
    """

    backend: Backend
    layout: BlockLayout
    stores: tuple[Any, ...]
    pending: tuple[Array, ...]
    scale: Array
    shift: Array
    traces: Array

    @classmethod
    def identity(cls, layout: BlockLayout, p0: float, *, backend: Backend, like: Array) -> "Covariance":
        """Return p0 I with the dtype and device of `like`."""
        xp = array_namespace(like)
        kind = {"dtype": like.dtype, "device": like.device}
        count = len(layout.sizes)
        return cls(
            backend=backend,
            layout=layout,
            stores=tuple(backend.identity(n, p0, like=like) for n in layout.sizes),
            pending=tuple(xp.zeros((0, n), **kind) for n in layout.sizes),
            scale=xp.ones(count, **kind),
            shift=xp.zeros(count, **kind),
            traces=xp.asarray([p0 * n for n in layout.sizes], **kind),
        )

    def multiply(self, H: Array) -> Array:
        """Return H P, shape (m, n), for `H` of shape (m, n)."""
        xp = array_namespace(H)
        columns = []
        for index, (part, store, V) in enumerate(zip(self.layout.slices, self.stores, self.pending, strict=True)):
            h = H[:, part]
            g = self.backend.multiply(store, h) + self.shift[index] * h
            if V.shape[0]:
                g = g - (h @ V.T) @ V
            columns.append(self.scale[index] * g)
        return xp.concat(columns, axis=1)

    def downdate(self, U: Array, active: Array, lam: float, process_noise: float) -> "Covariance":
        """Return (P - U^T U) / lam + q I; a block that is not active keeps its covariance.

        Parameters
        ----------
        U : array, shape (m, n)
            Rows that are taken off, zero in the blocks that are not active.
        active : array of bool, shape (L,)
            Blocks that the measurement touched. The others do not forget: a direction that nothing excites would
            otherwise grow by the factor 1/lam at every measurement.
        lam : float
            Memory factor.
        process_noise : float
            Variance q.
        """
        xp = array_namespace(U)
        parts = self.layout.slices
        scale = xp.where(active, self.scale / lam, self.scale)
        taken = xp.stack([xp.sum(U[:, part] ** 2) for part in parts])
        traces = xp.where(active, (self.traces - taken) / lam, self.traces)
        shift = self.shift
        if process_noise:
            sizes = xp.asarray(self.layout.sizes, dtype=scale.dtype, device=scale.device)
            q = xp.where(active, xp.full_like(scale, process_noise), xp.zeros_like(scale))
            shift, traces = shift + q / scale, traces + q * sizes
        pending = tuple(
            xp.concat([V, U[:, part] / xp.sqrt(self.scale[index])])
            for index, (part, V) in enumerate(zip(parts, self.pending, strict=True))
        )
        return replace(self, pending=pending, scale=scale, shift=shift, traces=traces)

    def fold(self, *, donate: bool) -> "Covariance":
        """Return the same P with the pending rows folded into Q; overwrite the stores only if `donate`."""
        xp = array_namespace(self.scale)
        stores = tuple(
            self.backend.fold(store, V, self.scale[index], self.shift[index], donate=donate)
            for index, (store, V) in enumerate(zip(self.stores, self.pending, strict=True))
        )
        return replace(
            self,
            stores=stores,
            pending=tuple(V[:0, :] for V in self.pending),
            scale=xp.ones_like(self.scale),
            shift=xp.zeros_like(self.shift),
            # Counted afresh: the running differences lose digits once P has shrunk by orders of magnitude.
            traces=xp.stack([xp.reshape(self.backend.trace(store), ()) for store in stores]),
        )

    def dense(self, index: int) -> Array:
        """Return block `index` of P as a full symmetric matrix, shape (n_l, n_l)."""
        store, V = self.stores[index], self.pending[index]
        lower = self.backend.lower(store)
        xp = array_namespace(lower)
        Q = xp.tril(lower) + xp.tril(lower, k=-1).T
        eye = xp.eye(Q.shape[0], dtype=Q.dtype, device=Q.device)
        return self.scale[index] * (Q + self.shift[index] * eye - V.T @ V)
