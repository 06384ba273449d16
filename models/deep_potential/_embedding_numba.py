"""The exact embedding nets in Numba, for tanh: a panel of neighbours at a time, and no array with all of them.

Neighbours are worked through in runs of whole atoms. The runs do not depend on the number of threads, so neither do the
sums. The layers are evaluated again for weight gradients, which takes less time than to keep them in memory.
"""

import numpy as np
from numpy.typing import NDArray

from ekfcore.compiling.jit import inlined, jit
from ekfcore.models._network import NetworkShape
from ekfcore.threads import in_parallel, thread_count

from ._panels_numba import LANES, aligned_zeros, forward, reverse
from .environment import PairBlock

__all__ = ["FusedEmbedding"]

_Array = NDArray[np.floating]

_RUN = 16 * LANES  # about as many neighbours in a run, which take 100 microseconds or more: worth waking a thread
_MOST_RUNS = 16  # each has gradients of its own


class FusedEmbedding:
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

    def __init__(self, net: NetworkShape, w: _Array, block: PairBlock) -> None:
        n, capacity, _ = block.rows.shape
        self.net, self.block = net, block
        self.widths = np.asarray([net.layers[0].n_in, *(layer.n_out for layer in net.layers)])
        self.copies = np.asarray([layer.copies for layer in net.layers])
        self.W, self.b = _padded(net, w)
        # In a run: as many atoms as make _RUN neighbours, or more where there would be too many runs.
        atoms = max(1, _RUN // max(1, capacity), -(-n // _MOST_RUNS))
        self.runs = np.asarray([*range(0, n, atoms), n])
        self.panels = -(-atoms * capacity // LANES)  # in a run
        width = self.W.shape[1]
        self.values = aligned_zeros((self.n_runs * self.panels, width, 2 * LANES), self.W)
        self.A = np.zeros((n, 4, self.widths[-1]), dtype=w.dtype)
        self._call(_evaluate, self.widths, self.copies, self.W, self.b, self.values, self.A)

    @property
    def n_runs(self) -> int:
        """Number of runs of atoms."""
        return len(self.runs) - 1

    def slopes(self, Abar: _Array) -> tuple[_Array, _Array]:
        """Return the gradient with respect to rows, and that with respect to s through the nets."""
        rows = self.block.rows
        rows_bar, s_bar = np.zeros_like(rows), np.zeros(rows.shape[:2], dtype=rows.dtype)
        self._call(_slopes, self.values, Abar, rows_bar, s_bar)
        return rows_bar, s_bar

    def tangent(self, changes: _Array) -> _Array:
        """Return the change of A for changes of the rows."""
        Adot = np.zeros((len(changes), *self.A.shape), dtype=self.A.dtype)
        self._call(_tangent, self.values, changes, Adot)
        return Adot

    def gradients(self, Abar: _Array, Abars: _Array, changes: _Array) -> _Array:
        """Return the weight gradients."""
        count, (layers, width, _) = len(Abars), self.W.shape
        W = np.zeros((self.n_runs, count, layers, width, width), dtype=self.A.dtype)
        b = np.zeros((self.n_runs, count, layers, width), dtype=self.A.dtype)
        self._call(_gradients, self.widths, self.copies, self.W, self.b, Abar, Abars, changes, W, b)
        matrices, biases = W.sum(axis=0), b.sum(axis=0)
        parts = []
        for k, layer in enumerate(self.net.layers):
            parts.append(matrices[:, k, : layer.n_out, : layer.n_in].reshape(count, -1))
            parts.append(biases[:, k, : layer.n_out])
        return np.concatenate(parts, axis=1)

    def _call(self, kernel, *args: _Array) -> None:  # type: ignore[no-untyped-def]
        """Share the runs out among threads."""
        count = min(thread_count(), self.n_runs)
        bounds = [self.n_runs * part // count for part in range(count + 1)]
        in_parallel(kernel, bounds, self.runs, self.panels, self.block.rows, *args)


def _padded(net: NetworkShape, w: _Array) -> tuple[_Array, _Array]:
    """Return matrices, shape (L, C, C), and biases, (L, C), padded with zeros."""
    layers = net.layers
    width = -(-max(layer.n_out for layer in layers) // 10) * 10  # a multiple of the blocks of two by five
    W, b = np.zeros((len(layers), width, width), dtype=w.dtype), np.zeros((len(layers), width), dtype=w.dtype)
    parts = np.split(w, np.cumsum(net.part_sizes)[:-1])
    for k, layer in enumerate(layers):
        W[k, : layer.n_out, : layer.n_in] = parts[2 * k].reshape(layer.n_out, layer.n_in)
        b[k, : layer.n_out] = parts[2 * k + 1]
    return W, b


@inlined
def _chunk(run, panel, runs, panels, capacity):  # type: ignore[no-untyped-def]
    """Return the place of a panel, and the first neighbour and the count of neighbours in it."""
    first = runs[run] * capacity + panel * LANES
    return run * panels + panel, first, min(LANES, runs[run + 1] * capacity - first)


@inlined
def _atoms(first, count, capacity):  # type: ignore[no-untyped-def]
    """Return the range of atoms that some neighbours belong to."""
    return range(first // capacity, -(-(first + count) // capacity)) if count > 0 else range(0)


@inlined
def _lanes(atom, first, count, capacity):  # type: ignore[no-untyped-def]
    """Return the first and last lane of an atom's neighbours."""
    return max(0, atom * capacity - first), min(count, (atom + 1) * capacity - first)


@inlined
def _load(rows, first, start, stop, columns):  # type: ignore[no-untyped-def]
    """Copy the rows of the neighbours in lanes `start` to `stop` to columns, shape (4, LANES); the others get zeros.

    With zeros, all loops over lanes have the same length, and no slow remainder.
    """
    table = rows.reshape(rows.shape[0] * rows.shape[1], 4)
    for k in range(4):
        for lane in range(LANES):
            columns[k, lane] = 0
        for lane in range(start, stop):
            columns[k, lane] = table[first + lane, k]


@inlined
def _clear(panel):  # type: ignore[no-untyped-def]
    for c in range(panel.shape[0]):
        for lane in range(2 * LANES):
            panel[c, lane] = 0


@inlined
def _feed(widths, copies, W, b, columns, x, a):  # type: ignore[no-untyped-def]
    """Evaluate the nets at s, whose slope is one."""
    for lane in range(LANES):
        x[0, 0, lane] = columns[0, lane]
        x[0, 0, LANES + lane] = 1  # ds/ds: the second half of a panel carries G'(s)
    forward(widths, copies, W, b, x, a)


@inlined
def _contract(columns, G, A):  # type: ignore[no-untyped-def]
    """Add R^T G to A, shape (4, M)."""
    for c in range(A.shape[1]):
        a0, a1, a2, a3 = A[0, c], A[1, c], A[2, c], A[3, c]
        for lane in range(LANES):
            a0 += columns[0, lane] * G[c, lane]
            a1 += columns[1, lane] * G[c, lane]
            a2 += columns[2, lane] * G[c, lane]
            a3 += columns[3, lane] * G[c, lane]
        A[0, c], A[1, c], A[2, c], A[3, c] = a0, a1, a2, a3


@inlined
def _contract_tangent(columns, changes, G, Adot):  # type: ignore[no-untyped-def]
    """Add the change of R^T G to Adot, shape (4, M)."""
    for c in range(Adot.shape[1]):
        a0, a1, a2, a3 = Adot[0, c], Adot[1, c], Adot[2, c], Adot[3, c]
        for lane in range(LANES):
            value, slope = G[c, lane], G[c, LANES + lane] * changes[0, lane]  # G and G' sdot
            a0 += changes[0, lane] * value + columns[0, lane] * slope
            a1 += changes[1, lane] * value + columns[1, lane] * slope
            a2 += changes[2, lane] * value + columns[2, lane] * slope
            a3 += changes[3, lane] * value + columns[3, lane] * slope
        Adot[0, c], Adot[1, c], Adot[2, c], Adot[3, c] = a0, a1, a2, a3


@inlined
def _spread(columns, Abar, G_bar):  # type: ignore[no-untyped-def]
    """Add R Abar, with `Abar` of shape (4, M), to the values of a panel."""
    for c in range(Abar.shape[1]):
        a0, a1, a2, a3 = Abar[0, c], Abar[1, c], Abar[2, c], Abar[3, c]
        for lane in range(LANES):
            G_bar[c, lane] += (
                a0 * columns[0, lane] + a1 * columns[1, lane] + a2 * columns[2, lane] + a3 * columns[3, lane]
            )


@inlined
def _reverse_contract(columns, G, Abar, bar):  # type: ignore[no-untyped-def]
    """Add dE/dR and the part of dE/ds through the nets to `bar`, shape (5, LANES)."""
    for c in range(Abar.shape[1]):
        a0, a1, a2, a3 = Abar[0, c], Abar[1, c], Abar[2, c], Abar[3, c]
        for lane in range(LANES):
            value = G[c, lane]
            G_bar = a0 * columns[0, lane] + a1 * columns[1, lane] + a2 * columns[2, lane] + a3 * columns[3, lane]
            bar[0, lane] += a0 * value
            bar[1, lane] += a1 * value
            bar[2, lane] += a2 * value
            bar[3, lane] += a3 * value
            bar[4, lane] += G_bar * G[c, LANES + lane]  # dE/ds = sum_c dE/dG_c G_c'


@inlined
def _times(G_bar, change, ybar):  # type: ignore[no-untyped-def]
    """Write the weights of the slopes: those of the values times the change of s."""
    for c in range(G_bar.shape[0]):
        for lane in range(LANES):
            ybar[c, LANES + lane] = G_bar[c, lane] * change[lane]


@jit
def _evaluate(begin, end, runs, panels, rows, widths, copies, W, b, values, A):  # type: ignore[no-untyped-def]
    """Write value and slope of the nets, and A."""
    layers, width, _ = W.shape
    x = aligned_zeros((layers + 1, width, 2 * LANES), W)
    a = aligned_zeros((layers, width, 2 * LANES), W)
    R = aligned_zeros((1, 4, LANES), W)[0]
    for run in range(begin, end):
        for panel in range(panels):
            place, first, count = _chunk(run, panel, runs, panels, rows.shape[1])
            _load(rows, first, 0, count, R)
            _feed(widths, copies, W, b, R, x, a)
            values[place] = x[layers]
            for atom in _atoms(first, count, rows.shape[1]):
                start, stop = _lanes(atom, first, count, rows.shape[1])
                _load(rows, first, start, stop, R)
                _contract(R, x[layers], A[atom])


@jit
def _slopes(begin, end, runs, panels, rows, values, Abar, rows_bar, s_bar):  # type: ignore[no-untyped-def]
    """Write dE/dR and the part of dE/ds through the nets, from dE/dA."""
    capacity = rows.shape[1]
    R, bar = aligned_zeros((1, 4, LANES), rows)[0], aligned_zeros((1, 5, LANES), rows)[0]
    for run in range(begin, end):
        for panel in range(panels):
            place, first, count = _chunk(run, panel, runs, panels, capacity)
            for atom in _atoms(first, count, capacity):
                start, stop = _lanes(atom, first, count, capacity)
                _load(rows, first, start, stop, R)
                bar[:] = 0
                _reverse_contract(R, values[place], Abar[atom], bar)
                for lane in range(start, stop):
                    slot = first + lane - atom * capacity
                    for k in range(4):
                        rows_bar[atom, slot, k] = bar[k, lane]
                    s_bar[atom, slot] = bar[4, lane]


@jit
def _tangent(begin, end, runs, panels, rows, values, changes, Adot):  # type: ignore[no-untyped-def]
    """Write the change of A."""
    columns = aligned_zeros((2, 4, LANES), rows)
    R, T = columns[0], columns[1]
    for run in range(begin, end):
        for panel in range(panels):
            place, first, count = _chunk(run, panel, runs, panels, rows.shape[1])
            for atom in _atoms(first, count, rows.shape[1]):
                start, stop = _lanes(atom, first, count, rows.shape[1])
                _load(rows, first, start, stop, R)
                for f in range(changes.shape[0]):
                    _load(changes[f], first, start, stop, T)
                    _contract_tangent(R, T, values[place], Adot[f, atom])


@jit
def _gradients(begin, end, runs, panels, rows, widths, copies, W, b, Abar, Abars, changes, Wbar, bbar):  # type: ignore[no-untyped-def]
    """Write the weight gradients of each run."""
    layers, width, _ = W.shape
    capacity = rows.shape[1]
    WT = np.empty_like(W)
    for k in range(layers):
        WT[k] = W[k].T
    x = aligned_zeros((layers + 1, width, 2 * LANES), W)
    a = aligned_zeros((layers, width, 2 * LANES), W)
    bars, columns = aligned_zeros((3, width, 2 * LANES), W), aligned_zeros((2, 4, LANES), W)
    ybar, zbar, G_bar, R, T = bars[0], bars[1], bars[2], columns[0], columns[1]
    for run in range(begin, end):
        for panel in range(panels):
            _, first, count = _chunk(run, panel, runs, panels, capacity)
            _load(rows, first, 0, count, R)
            _feed(widths, copies, W, b, R, x, a)
            _clear(G_bar)
            for atom in _atoms(first, count, capacity):
                start, stop = _lanes(atom, first, count, capacity)
                _load(rows, first, start, stop, R)
                _spread(R, Abar[atom], G_bar)
            for f in range(Abars.shape[0]):
                _clear(ybar)
                for atom in _atoms(first, count, capacity):
                    start, stop = _lanes(atom, first, count, capacity)
                    _load(rows, first, start, stop, R)
                    _spread(R, Abars[f, atom], ybar)
                lanes = LANES  # the energy has no weight on the slopes, so that half of the columns will do
                if f < changes.shape[0]:
                    lanes = 2 * LANES
                    for atom in _atoms(first, count, capacity):
                        start, stop = _lanes(atom, first, count, capacity)
                        _load(changes[f], first, start, stop, T)
                        _spread(T, Abar[atom], ybar)  # Rdot^T G stands in Adot as well
                    _load(changes[f], first, 0, count, T)
                    _times(G_bar, T[0], ybar)
                reverse(widths, copies, WT, x, a, ybar, zbar, Wbar[run, f], bbar[run, f], lanes)
