"""The block-diagonal covariance P in deferred low-rank form.

Each block is kept as P_l = s_l (Q_l + d_l I - V_l^T V_l): an update only reads Q_l, appends rows to V_l and changes the
numbers s_l and d_l; once V_l has grown to `pending` rows, one symmetric rank-k product folds it into Q_l. This is
algebraically the usual update and moves about a twentieth of the memory.
"""

from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device, is_writeable_array

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
        Kernels that act on the store.
    layout : BlockLayout
        Sizes of the L blocks.
    store : Any
        All Q_l in the backend's own form, only read between two folds and therefore shared by successive states.
    rows : array, shape (capacity, n)
        Buffer that begins with the pending rows; what follows them has no meaning.
    count : int
        Number of pending rows, k.
    scale, shift, traces : array, shape (L,)
        s_l, d_l and the trace of each block of P.
    """

    backend: Backend
    layout: BlockLayout
    store: Any
    rows: Array
    count: int
    scale: Array
    shift: Array
    traces: Array

    @classmethod
    def identity(cls, layout: BlockLayout, p0: float, *, backend: Backend, like: Array) -> "Covariance":
        """Return p0 I with the dtype and device of `like`."""
        xp = array_namespace(like)
        kind = {"dtype": like.dtype, "device": device(like)}
        n_blocks = len(layout.sizes)
        return cls(
            backend=backend,
            layout=layout,
            store=backend.identity(layout, p0, like=like),
            rows=xp.zeros((0, layout.n_params), **kind),
            count=0,
            scale=xp.ones(n_blocks, **kind),
            shift=xp.zeros(n_blocks, **kind),
            traces=xp.asarray([p0 * n for n in layout.sizes], **kind),
        )

    @property
    def pending(self) -> Array:
        """Rows not folded in yet, shape (k, n): those of V_l for all blocks side by side."""
        return self.rows[: self.count, :]

    def multiply(self, H: Array) -> Array:
        """Return H P, shape (m, n), for `H` of shape (m, n)."""
        return self.backend.multiply(self.store, H, self.pending, self.scale, self.shift)

    def touched(self, H: Array) -> Array:
        """Return the blocks in which `H`, shape (m, n), is not zero throughout, shape (L,)."""
        xp = array_namespace(H)
        return xp.any(self.backend.block_sums(self.store, xp.astype(H != 0, H.dtype)) > 0, axis=0)

    def downdate(
        self, U: Array, active: Array, lam: float, process_noise: float, *, donate: bool = False
    ) -> "Covariance":
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
        donate : bool
            Allow the rows to be appended in place.
        """
        xp = array_namespace(U)
        scale = xp.where(active, self.scale / lam, self.scale)
        taken = xp.sum(self.backend.block_sums(self.store, U**2), axis=0)
        traces = xp.where(active, (self.traces - taken) / lam, self.traces)
        shift = self.shift
        if process_noise:
            sizes = self.backend.block_sums(self.store, xp.ones_like(U[:1, :]))[0, :]
            q = xp.where(active, xp.full_like(scale, process_noise), xp.zeros_like(scale))
            shift, traces = shift + q / scale, traces + q * sizes
        new = U * self.backend.spread(self.store, 1 / xp.sqrt(self.scale))
        return replace(
            self,
            rows=_append(self.rows, self.count, new, donate=donate),
            count=self.count + new.shape[0],
            scale=scale,
            shift=shift,
            traces=traces,
        )

    def fold(self, *, donate: bool) -> "Covariance":
        """Return the same P with the pending rows folded into Q; overwrite the store only if `donate`."""
        xp = array_namespace(self.scale)
        store = self.backend.fold(self.store, self.pending, self.scale, self.shift, donate=donate)
        return replace(
            self,
            store=store,
            rows=self.rows if donate else self.rows[:0, :],
            count=0,
            scale=xp.ones_like(self.scale),
            shift=xp.zeros_like(self.shift),
            # Counted afresh: the running differences lose digits once P has shrunk by orders of magnitude.
            traces=self.backend.traces(store),
        )

    def dense(self, index: int) -> Array:
        """Return block `index` of P as a full symmetric matrix, shape (n_l, n_l)."""
        lower, V = self.backend.lower(self.store, index), self.pending[:, self.layout.slices[index]]
        xp = array_namespace(lower)
        Q = xp.tril(lower) + xp.tril(lower, k=-1).T
        eye = xp.eye(Q.shape[0], dtype=Q.dtype, device=device(Q))
        return self.scale[index] * (Q + self.shift[index] * eye - V.T @ V)


def _append(rows: Array, count: int, new: Array, *, donate: bool) -> Array:
    """Return a buffer that begins with the first `count` of `rows` and then the new ones; `rows` itself if `donate`."""
    xp = array_namespace(rows)
    if not (donate and is_writeable_array(rows)):
        return xp.concat([rows[:count, :], new])
    total = count + new.shape[0]
    if total > rows.shape[0]:
        # Doubled, so that it stops growing after a few updates: a fold keeps it.
        room = max(total, 2 * rows.shape[0]) - count
        rows = xp.concat([rows[:count, :], xp.zeros((room, rows.shape[1]), dtype=rows.dtype, device=device(rows))])
    rows[count:total, :] = new
    return rows
