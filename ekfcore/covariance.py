"""The covariance P of the weights: blocks on the diagonal, and rows that are taken off them.

P = D (Q + d I - V^T V) D, where Q is block-diagonal, and D and d are the numbers sqrt(s_l) and d_l of each block. An
update only reads Q, appends rows to V and changes s_l and d_l. There are two ways to understand the rows:

- Each block for itself, P_l = s_l (Q_l + d_l I - V_l^T V_l), as in the papers: what joins two blocks is dropped at
  every update. Once V has grown to `pending` rows, one symmetric product folds it into Q. This is the usual update,
  algebraically, and moves about a twentieth of the memory.
- Coupled: V^T V stands as it is, with all that joins the blocks. Until the first rows are given up, P is exact. Then
  what the oldest of them say is left to the blocks, see `age`.

Several processes may share the blocks, each with its columns of the rows, see `ekfcore.share`. What has the shape of H
or of the scales is the same in all of them.
"""

from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace, device, is_writeable_array

from ekfcore._typing import Array
from ekfcore.errors import InputError
from ekfcore.partition import BlockLayout
from ekfcore.protocols import Backend
from ekfcore.share import Share, Whole

__all__ = ["Covariance"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Covariance:
    """The symmetric matrix P of shape (n, n).

    Parameters
    ----------
    backend : Backend
        Kernels that act on the store.
    layout : BlockLayout
        Sizes of the L blocks.
    share : Share
        Which blocks are kept here; all n columns are unless several processes share them.
    store : Any
        These Q_l in the backend's own form, only read between two folds and therefore shared by successive states.
    rows : array, shape (capacity, n_here)
        Buffer that begins with the pending rows; what follows them has no meaning.
    count : int
        Number of pending rows, k.
    scale, shift, traces : array, shape (L,)
        s_l, d_l and the trace of each block of P.
    information : array, shape (capacity, n_here), or None
        For coupled rows: the rows U with D P^-1 D = (Q + d I)^-1 + U^T U, as many as there are of V. None where the
        rows belong to each block for itself.
    """

    backend: Backend
    layout: BlockLayout
    share: Share
    store: Any
    rows: Array
    count: int
    scale: Array
    shift: Array
    traces: Array
    information: Array | None = None

    @classmethod
    def identity(
        cls,
        layout: BlockLayout,
        p0: float,
        *,
        backend: Backend,
        like: Array,
        coupled: bool = False,
        share: Share | None = None,
    ) -> "Covariance":
        """Return p0 I with the dtype and device of `like`."""
        xp, share = array_namespace(like), share or Whole(layout)
        kind = {"dtype": like.dtype, "device": device(like)}
        n_blocks = len(layout.sizes)
        return cls(
            backend=backend,
            layout=layout,
            share=share,
            store=backend.identity(share.layout, p0, like=like),
            rows=xp.zeros((0, share.layout.n_params), **kind),
            count=0,
            scale=xp.ones(n_blocks, **kind),
            shift=xp.zeros(n_blocks, **kind),
            traces=xp.asarray([p0 * n for n in layout.sizes], **kind),
            information=xp.zeros((0, share.layout.n_params), **kind) if coupled else None,
        )

    @property
    def coupled(self) -> bool:
        """Whether the rows join the blocks."""
        return self.information is not None

    @property
    def pending(self) -> Array:
        """Rows beside Q, V, shape (k, n_here)."""
        return self.rows[: self.count, :]

    def multiply(self, H: Array) -> Array:
        """Return H P, shape (m, n), for `H` of shape (m, n)."""
        self._check_rows(H, "H")
        share = self.share
        H, scale, shift = share.columns(H), share.blocks(self.scale), share.blocks(self.shift)
        if not self.coupled:
            # D is one number in a block, so P_l = D (...) D = s_l (Q_l + d_l I - V_l^T V_l): one kernel does it all.
            return share.whole(self.backend.multiply(self.store, H, self.pending, scale, shift))
        # H P = H D (Q + d I) D - (H D V^T) V D: the first term by blocks, the second across them.
        G = self.backend.multiply(self.store, H, self.rows[:0, :], scale, shift)
        if self.count:
            D = self._each(self.scale**0.5)
            G = G - share.correlate(self.backend, H * D, self.pending) * D
        return share.whole(G)

    def touched(self, H: Array) -> Array:
        """Return the blocks in which `H`, shape (m, n), is not zero throughout, shape (L,)."""
        xp = array_namespace(H)
        # Elements that are not zero are counted; a sum of H itself could cancel. `block_sums` takes real numbers.
        return xp.any(self._block_sums(xp.astype(H != 0, H.dtype)) > 0, axis=0)

    def downdate(
        self,
        U: Array,
        active: Array,
        lam: float,
        process_noise: float,
        *,
        information: Array | None = None,
        donate: bool = False,
    ) -> "Covariance":
        """Return (P - U^T U) / lam + q I; a block that is not active is neither divided nor gains noise.

        Parameters
        ----------
        U : array, shape (m, n)
            Rows that are taken off.
        active : array of bool, shape (L,)
            Blocks that the measurement touched. The others do not forget: a direction that nothing excites would
            otherwise grow by the factor 1/lam at every measurement. What coupled rows join an active block to another
            is divided by the root of lam, which keeps P positive.
        lam : float
            Memory factor.
        process_noise : float
            Variance q; zero for coupled rows.
        information : array, shape (m, n)
            For coupled rows: A with (P - U^T U)^-1 = P^-1 + A^T A.
        donate : bool
            Allow the rows to be appended in place.
        """
        self._check_rows(U, "U")
        xp = array_namespace(U)
        scale = xp.where(active, self.scale / lam, self.scale)
        # trace(U_l^T U_l) is the sum of the squares, so the trace needs no pass over Q.
        taken = xp.sum(self._block_sums(U**2), axis=0)
        traces = self.traces - taken
        traces = xp.where(active, traces / lam, traces)
        shift = self.shift
        if process_noise:
            # n_l for each block, without a copy from the host.
            sizes = self._block_sums(xp.ones_like(U[:1, :]))[0, :]
            q = xp.where(active, xp.full_like(scale, process_noise), xp.zeros_like(scale))
            shift, traces = shift + q / scale, traces + q * sizes  # q / s_l, for s_l multiplies d_l, too
        D = self._each(xp.sqrt(self.scale))  # before the division by lam: U is taken off first
        told = self.information
        if told is not None:
            assert information is not None
            # D P^-1 D gains (A D)^T A D; dividing P by lam multiplies D^2 by 1 / lam, and leaves D P^-1 D as it is.
            told = _append(told, self.count, self.share.columns(information) * D, donate=donate)
        return replace(
            self,
            # P - U^T U = D (... - D^-1 U^T U D^-1) D.
            rows=_append(self.rows, self.count, self.share.columns(U) / D, donate=donate),
            count=self.count + U.shape[0],
            information=told,
            scale=scale,
            shift=shift,
            traces=traces,
        )

    def fold(self, *, donate: bool) -> "Covariance":
        """Return the same P with the pending rows folded into Q; overwrite the store only if `donate`.

        For rows that belong to each block for itself.
        """
        xp = array_namespace(self.scale)
        scale, shift = self.share.blocks(self.scale), self.share.blocks(self.shift)
        store = self.backend.fold(self.store, self.pending, scale, shift, donate=donate)
        return replace(
            self,
            store=store,
            rows=self.rows if donate else self.rows[:0, :],  # donated, it keeps its capacity for the next rows
            count=0,
            scale=xp.ones_like(self.scale),
            shift=xp.zeros_like(self.shift),
            # Summed anew from Q: the running differences lose digits once P has shrunk by orders of magnitude.
            traces=self.share.all_blocks(self.backend.traces(store)[None, :])[0, :],
        )

    def age(self, keep: int, *, donate: bool) -> "Covariance":
        r"""Return a P that keeps the last `keep` coupled rows and leaves the older ones to the blocks.

        What an old row u says joins the information of each block, :math:`Q_l^{-1} \leftarrow Q_l^{-1} + u_l^T u_l`,
        without what it says about several blocks at once. P is the inverse of a sum of positive matrices before and
        after, so that it stays positive; taking a part of the rows of V off the blocks of P itself would not keep it
        so.

        Parameters
        ----------
        keep : int
            Rows that stay, as many as there are or fewer.
        donate : bool
            Allow the store and the rows to be overwritten.
        """
        assert self.information is not None
        xp = array_namespace(self.scale)
        # With scale 1, shift 0 and no rows, `multiply` is the product with Q. Coupled rows have d = 0 throughout.
        share, scale = self.share, self.share.blocks(self.scale)
        ones, zeros, none = xp.ones_like(scale), xp.zeros_like(scale), self.rows[:0, :]
        old = self.information[: self.count - keep, :]
        # Woodbury in each block: (Q^-1 + u^T u)^-1 = Q - Q u^T (I + u Q u^T)^-1 u Q = Q - V^T V.
        lost = self._within(old, self.backend.multiply(self.store, old, none, ones, zeros))
        # The fold multiplies Q by D^2, too: s grows without end where the memory factor stays below one.
        store = self.backend.fold(self.store, lost, scale, zeros, donate=donate)
        # D = I from here on, so P^-1 = D^-1 (Q^-1 + U^T U) D^-1 asks for the rows U D^-1. The division makes a copy:
        # `_append` below writes into the buffer that they are read from.
        recent = self.information[self.count - keep : self.count, :] / self._each(self.scale**0.5)
        product = self.backend.multiply(store, recent, none, ones, zeros)
        # V = (I + U Q U^T)^-1/2 U Q across all blocks; the inverse of a Cholesky factor serves as the root.
        rows = share.apply(_inverse_root(share.gram(product, recent)), product)
        # Of a block each: its trace, and what each row takes off it. Added once all blocks are together, as a sum over
        # one axis is taken in another order where the other is short.
        sums = xp.concat([self.backend.traces(store)[None, :], self.backend.block_sums(store, rows**2)])
        sums = share.all_blocks(sums)
        return replace(
            self,
            store=store,
            rows=_append(self.rows, 0, rows, donate=donate),
            information=_append(self.information, 0, recent, donate=donate),
            count=keep,
            scale=xp.ones_like(self.scale),
            traces=sums[0, :] - xp.sum(sums[1:, :], axis=0),
        )

    def _within(self, U: Array, UQ: Array) -> Array:
        """Return V, shape (k, n), with Q_l - V_l^T V_l the inverse of Q_l^-1 + U_l^T U_l in each block."""
        xp, slices = array_namespace(U), self.share.layout.slices
        # Copies: the last bit of a product may depend on where a block lies in memory, and so on what lies beside it.
        parts = [(xp.asarray(UQ[:, part], copy=True), xp.asarray(U[:, part], copy=True)) for part in slices]
        # u_l Q_l u_l^T is (k, k) in a block of any size, so that one batched factorisation serves all blocks.
        roots = _inverse_root(xp.stack([uq @ u.T for uq, u in parts]))
        return xp.concat([roots[index, :, :] @ uq for index, (uq, _) in enumerate(parts)], axis=1)

    def _check_rows(self, rows: Array, name: str) -> None:
        """Refuse rows that do not fit the layout, which compiled kernels trust."""
        n = self.layout.n_params
        if rows.ndim != 2 or rows.shape[1] != n:
            raise InputError(f"`{name}` must have shape (m, {n}) to fit the blocks of P, got {tuple(rows.shape)}")

    def _each(self, values: Array) -> Array:
        """Return the vector, shape (n_here,), that has in each block the number of `values`, shape (L,), for it."""
        return self.backend.spread(self.store, self.share.blocks(values))

    def _block_sums(self, A: Array) -> Array:
        """Return the sums of `A`, shape (m, n), over the columns of each block, shape (m, L)."""
        return self.share.block_sums(self.backend, self.store, A)

    def joining(self) -> Array:
        """Return V D, shape (k, n): what coupled rows take off P is the product of its transpose with it."""
        return self.share.whole(self.pending * self._each(self.scale**0.5))

    def lower(self, index: int) -> Array:
        """Return an (n_l, n_l) array whose lower triangle is that of Q_l; what stands above it has no meaning."""
        return self.share.lower(self.backend, self.store, index, like=self.scale)

    def uncoupled(self, index: int) -> Array:
        """Return block `index` of D (Q + d I) D, that is of P without its rows, shape (n_l, n_l)."""
        lower = self.lower(index)
        xp = array_namespace(lower)
        Q = xp.tril(lower) + xp.tril(lower, k=-1).T  # what stands above the diagonal has no meaning
        eye = xp.eye(Q.shape[0], dtype=Q.dtype, device=device(Q))
        return self.scale[index] * (Q + self.shift[index] * eye)

    def dense(self, index: int) -> Array:
        """Return block `index` of P as a full symmetric matrix, shape (n_l, n_l)."""
        V = self.share.whole(self.pending)[:, self.layout.slices[index]]
        return self.uncoupled(index) - self.scale[index] * (V.T @ V)


def _inverse_root(A: Array) -> Array:
    """Return L^-1 with L L^T = I + A for a positive matrix, or for each of a stack.

    The library factorises A, unlike in the filter's whitening: this runs once in dozens of updates, so that a GPU may
    wait for the host.
    """
    xp, k = array_namespace(A), A.shape[-1]
    if not k:
        return A
    eye = xp.eye(k, dtype=A.dtype, device=device(A))
    largest = xp.max(xp.linalg.diagonal(A), axis=-1)
    # Rounding leaves A with eigenvalues down to minus this, relative to the one of I; without it, Cholesky might fail.
    slack = k * float(xp.finfo(A.dtype).eps) * largest[..., None, None]
    return xp.linalg.inv(xp.linalg.cholesky((A + A.mT) / 2 + (1 + slack) * eye))


def _append(rows: Array, count: int, new: Array, *, donate: bool) -> Array:
    """Return a buffer that begins with the first `count` of `rows` and then the new ones; `rows` itself if `donate`."""
    xp = array_namespace(rows)
    if not (donate and is_writeable_array(rows)):
        return xp.concat([rows[:count, :], new])
    total = count + new.shape[0]
    if total > rows.shape[0]:
        # Doubling stops after a few updates, since a fold keeps the buffer.
        room = max(total, 2 * rows.shape[0]) - count
        rows = xp.concat([rows[:count, :], xp.zeros((room, rows.shape[1]), dtype=rows.dtype, device=device(rows))])
    rows[count:total, :] = new
    return rows
