"""The exact embedding nets on whole arrays, for any library and any activation."""

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.models._network import NetworkShape

from .environment import PairBlock

__all__ = ["WholeEmbedding"]


class WholeEmbedding:
    """The embedding nets of the neighbours of one type, see `Embedding`.

    Parameters
    ----------
    net : NetworkShape
        Form of the nets.
    w : array, shape (n_params,)
        Their weights.
    block : PairBlock
        The neighbours.
    """

    def __init__(self, net: NetworkShape, w: Array, block: PairBlock) -> None:
        xp = array_namespace(w)
        n, capacity, _ = block.rows.shape
        s = xp.reshape(block.rows[:, :, 0], (-1, 1))
        G, self.tapes = net.forward(xp, w, s)
        slope = net.tangent(xp, self.tapes, xp.ones_like(s))
        self.xp, self.net, self.rows = xp, net, block.rows
        self.G, self.slope = (xp.reshape(a, (n, capacity, a.shape[-1])) for a in (G, slope))
        self.A = self.rows.mT @ self.G

    def slopes(self, Abar: Array) -> tuple[Array, Array]:
        """Return the gradient with respect to rows, and that with respect to s through the nets."""
        return self.G @ Abar.mT, self.xp.sum((self.rows @ Abar) * self.slope, axis=-1)

    def tangent(self, changes: Array) -> Array:
        """Return the change of A for changes of the rows."""
        return changes.mT @ self.G + self.rows.mT @ (self.slope * changes[..., :1])

    def gradients(self, Abar: Array, Abars: Array, changes: Array) -> Array:
        """Return the weight gradients."""
        m, width = changes.shape[0], Abar.shape[-1]
        parts = []
        if m:
            # A = R^T G and Adot = Rdot^T G + R^T (G' sdot): weights of the values G, and of the slopes G'.
            G_bar = self.rows @ Abars[:m, ...] + changes @ Abar
            slope_bar = changes[..., :1] * (self.rows @ Abar)
            flat = (self.xp.reshape(a, (m, -1, width)) for a in (G_bar, slope_bar))
            parts.append(self.net.reverse_tangent(self.xp, self.tapes, *flat)[0])
        if Abars.shape[0] > m:
            G_bar = self.rows @ Abars[m:, ...]
            G_bar = self.xp.reshape(G_bar, (G_bar.shape[0], -1, width))
            parts.append(self.net.reverse(self.xp, self.tapes, G_bar))
        return self.xp.concat(parts)
