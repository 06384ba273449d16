"""Blocks of the covariance: published numbers, edges, and what must hold for any network."""

from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekfcore import BlockLayout, InputError, partition

EMBEDDING = (25, 25, 625, 25, 625, 25)
FITTING = (20000, 50, 2500, 50, 2500, 50, 50, 1)

parts = st.lists(st.integers(1, 60), min_size=1, max_size=30)
block_sizes = st.integers(1, 80)


@pytest.mark.parametrize(
    ("block_size", "blocks"),
    [(5120, (1350, 5120, 5120, 5120, 4690, 5100, 51)), (10240, (1350, 10240, 9810, 5151))],
)
def test_rlekf_gives_the_papers_blocks(block_size: int, blocks: tuple[int, ...]) -> None:
    """Copper with the paper's network."""
    assert partition(EMBEDDING + FITTING, block_size=block_size).sizes == blocks


@pytest.mark.parametrize(
    ("sizes", "blocks"),
    [
        (EMBEDDING + FITTING, (1350, 5120, 5120, 5120, 4640, 5100, 101)),
        (4 * EMBEDDING + 2 * FITTING, (4750, 650, *2 * (5120, 5120, 5120, 4640, 5100, 101))),
    ],
    ids=["copper", "water"],
)
def test_deepmd_gives_the_blocks_of_deepmd_kit(sizes: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """Here what is left of the large matrix stays alone."""
    assert partition(sizes, block_size=5120, strategy="deepmd").sizes == blocks


@pytest.mark.parametrize(
    ("strategy", "blocks"),
    [("layer", EMBEDDING + FITTING), ("global", (26551,)), ("even", (4426, 4425, 4425, 4425, 4425, 4425))],
)
def test_other_strategies(strategy: Literal["layer", "global", "even"], blocks: tuple[int, ...]) -> None:
    """LEKF, GEKF and SEKF."""
    assert partition(EMBEDDING + FITTING, block_size=5120, strategy=strategy).sizes == blocks


@pytest.mark.parametrize(
    ("sizes", "block_size", "rlekf", "deepmd"),
    [
        ([3, 5, 2], 5, (3, 5, 2), (3, 5, 2)),  # a part that just fits
        ([12, 3], 5, (5, 5, 5), (5, 5, 2, 3)),  # the first part is too large
        ([10, 3], 5, (5, 5, 3), (5, 5, 3)),  # nothing is left of it
        ([3, 5, 2], 99, (10,), (10,)),
        ([3, 1], 1, (1, 1, 1, 1), (1, 1, 1, 1)),
        ([1], 1, (1,), (1,)),
        ([2, 2, 2], 4, (4, 2), (4, 2)),  # a sum that just fits
    ],
)
def test_edges(sizes: list[int], block_size: int, rlekf: tuple[int, ...], deepmd: tuple[int, ...]) -> None:
    """Counted by hand."""
    assert partition(sizes, block_size=block_size).sizes == rlekf
    assert partition(sizes, block_size=block_size, strategy="deepmd").sizes == deepmd


@given(parts, block_sizes, st.sampled_from(["rlekf", "deepmd", "even"]))
@settings(derandomize=True, deadline=None)
def test_blocks_add_up_and_none_is_too_large(
    sizes: list[int], block_size: int, strategy: Literal["rlekf", "deepmd", "even"]
) -> None:
    """Every weight is in one block, and no block is empty or larger than N_b."""
    blocks = partition(sizes, block_size=block_size, strategy=strategy).sizes
    assert sum(blocks) == sum(sizes)
    assert min(blocks) >= 1
    assert max(blocks) <= block_size


@given(parts, block_sizes)
@settings(derandomize=True, deadline=None)
def test_rlekf_gathers_as_much_as_fits(sizes: list[int], block_size: int) -> None:
    """No two neighbouring blocks could be one."""
    assert all(left + right > block_size for left, right in pairwise(partition(sizes, block_size=block_size).sizes))


@given(parts, block_sizes, st.sampled_from(["rlekf", "deepmd"]))
@settings(derandomize=True, deadline=None)
def test_only_large_parts_are_cut(sizes: list[int], block_size: int, strategy: Literal["rlekf", "deepmd"]) -> None:
    """A cut lies between two parts or inside one that is larger than N_b."""
    cuts = set(accumulate(partition(sizes, block_size=block_size, strategy=strategy).sizes))
    ends = list(accumulate(sizes))
    inside = [cut for cut in cuts if cut not in ends]
    large = [(end - size, end) for end, size in zip(ends, sizes, strict=True) if size > block_size]
    assert all(any(start < cut < end for start, end in large) for cut in inside)


@given(parts, block_sizes)
@settings(derandomize=True, deadline=None)
def test_rules_agree_where_nothing_is_cut(sizes: list[int], block_size: int) -> None:
    """They differ only in what is left of a large part."""
    sizes = [min(size, block_size) for size in sizes]
    deepmd = partition(sizes, block_size=block_size, strategy="deepmd")
    assert partition(sizes, block_size=block_size) == deepmd


@given(parts, block_sizes)
@settings(derandomize=True, deadline=None)
def test_even_blocks_are_few_and_equal(sizes: list[int], block_size: int) -> None:
    """As few blocks as N_b allows, and their sizes differ by one at most."""
    blocks = partition(sizes, block_size=block_size, strategy="even").sizes
    assert len(blocks) == -(-sum(sizes) // block_size)
    assert max(blocks) - min(blocks) <= 1


def test_layout_tells_where_blocks_stand() -> None:
    """Slices are next to one another."""
    layout = BlockLayout((2, 3, 1))
    assert layout.n_params == 6
    assert layout.slices == (slice(0, 2), slice(2, 5), slice(5, 6))


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ([], {}, "`sizes` must be positive integers, at least one of them"),
        ([3, 0], {}, r"`sizes` must be positive .* got \(3, 0\)"),
        ([3], {"block_size": 0}, "`block_size` must be an integer of at least 1, got 0"),
        ([3], {"strategy": "best"}, "`strategy` must be one of rlekf, .* got 'best'"),
    ],
)
def test_bad_input_is_named(sizes: list[int], options: dict[str, object], message: str) -> None:
    """The message names the rule and the value."""
    with pytest.raises(InputError, match=message):
        partition(sizes, **options)  # type: ignore[arg-type]


def test_sizes_are_integers() -> None:
    """Of Python or NumPy, whose product of no sizes is 1.0; a part of a weight is none, and is not rounded off."""
    expected = BlockLayout((4, 1, 4, 4))
    assert partition([np.int64(5), np.asarray(7), np.prod(())], block_size=np.float64(4)) == expected  # type: ignore[list-item,arg-type]
    for sizes in ([2.7], ["3"], [True], [np.ones(2)]):
        with pytest.raises(InputError, match="`sizes` must be positive integers, at least one of them, got"):
            partition(sizes)  # type: ignore[arg-type]
    for block_size in (100.5, "100", True):
        with pytest.raises(InputError, match="`block_size` must be an integer of at least 1, got"):
            partition([5], block_size=block_size)  # type: ignore[arg-type]
