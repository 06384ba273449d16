"""Cut the weights into the blocks of a block-diagonal covariance."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, get_args

from ekfcore._numbers import number
from ekfcore.errors import InputError

__all__ = ["BlockLayout", "Strategy", "partition"]

Strategy = Literal["rlekf", "deepmd", "layer", "even", "global"]


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Sizes of the diagonal blocks of P, in the order of the weights.

    Parameters
    ----------
    sizes : tuple of int
        Number of weights in each block.

    Raises
    ------
    InputError
        If there is none, or one is below 1.
    """

    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", _positive(self.sizes))

    @property
    def n_params(self) -> int:
        """Number of weights."""
        return sum(self.sizes)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each block stands in the weights."""
        ends = list(accumulate(self.sizes))
        return tuple(slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True))


def partition(sizes: Iterable[int], *, block_size: int = 5120, strategy: Strategy = "rlekf") -> BlockLayout:
    """Cut parameter parts into the blocks of the covariance.

    Parameters
    ----------
    sizes : iterable of int
        Sizes of the parameter parts (a weight matrix, a bias, ...), in order.
    block_size : int
        Largest size of a block, N_b; "layer" and "global" do not use it.
    strategy : {"rlekf", "deepmd", "layer", "even", "global"}
        - "rlekf": split parts larger than N_b, gather neighbouring small ones [1]_.
        - "deepmd": as DeePMD-kit does; what is left of a split part is not gathered with what follows.
        - "layer": one block a part (LEKF).
        - "even": as many blocks as N_b demands, as equal as possible, parts ignored (SEKF).
        - "global": one block (GEKF).

    Returns
    -------
    BlockLayout
        The sizes of the blocks; they add up to the sum of `sizes`.

    Raises
    ------
    InputError
        If a size or `block_size` is below 1, or the strategy is unknown.

    References
    ----------
    .. [1] Hu et al., RLEKF, arXiv 2212.06989, section "The Splitting Strategy of RLEKF".

    Examples
    --------
    >>> partition([25, 25, 625, 25, 625, 25, 20000, 50, 2500, 50, 2500, 50, 50, 1]).sizes
    (1350, 5120, 5120, 5120, 4690, 5100, 51)
    """
    parts = _positive(sizes)
    if _whole(block_size) < 1:
        raise InputError(f"`block_size` must be an integer of at least 1, got {block_size!r}")
    if not isinstance(strategy, str) or strategy not in _RULES:  # type: ignore[redundant-expr]
        raise InputError(f"`strategy` must be one of {', '.join(get_args(Strategy))}, got {strategy!r}")
    return BlockLayout(tuple(_RULES[strategy](parts, _whole(block_size))))


def _positive(sizes: object) -> tuple[int, ...]:
    """Return sizes as integers of Python."""
    given = tuple(sizes) if isinstance(sizes, Iterable) and getattr(sizes, "ndim", 1) == 1 else sizes
    parts = [_whole(size) for size in given] if isinstance(given, tuple) else []
    if not parts or min(parts) < 1:
        raise InputError(f"`sizes` must be positive integers, at least one of them, got {given}")
    return tuple(parts)


def _whole(value: object) -> int:
    """Return an integer of any library; 0, which is no size, for anything else."""
    found = number(value)
    return int(found) if float(found).is_integer() else 0


def _gather(parts: Iterable[int], block_size: int) -> list[int]:
    """Join neighbours while their sum stays within `block_size`."""
    # A part larger than that stays whole, by itself.
    blocks: list[int] = []
    pending = 0
    for size in parts:
        if pending and pending + size > block_size:
            blocks.append(pending)
            pending = 0
        pending += size
    return [*blocks, pending]


def _rlekf(parts: Sequence[int], block_size: int) -> list[int]:
    pieces: list[int] = []
    for size in parts:
        whole, rest = divmod(size, block_size)
        # A full block joins nothing: gathering it with any neighbour would exceed N_b.
        pieces += [block_size] * whole + [rest] * (rest > 0)
    return _gather(pieces, block_size)


def _deepmd(parts: Sequence[int], block_size: int) -> list[int]:
    blocks: list[int] = []
    # Gathered before it is split, the other way round than in the paper: a remainder stays a block of its own.
    for size in _gather(parts, block_size):
        whole, rest = divmod(size, block_size)
        blocks += [block_size] * whole + [rest] * (rest > 0)
    return blocks


def _even(parts: Sequence[int], block_size: int) -> list[int]:
    n = sum(parts)
    count = -(-n // block_size)
    small, larger = divmod(n, count)  # sizes differ by one at most
    return [small + 1] * larger + [small] * (count - larger)


_RULES: dict[str, Callable[[Sequence[int], int], list[int]]] = {
    "rlekf": _rlekf,
    "deepmd": _deepmd,
    "layer": lambda parts, block_size: list(parts),
    "even": _even,
    "global": lambda parts, block_size: [sum(parts)],
}
