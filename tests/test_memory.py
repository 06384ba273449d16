"""The memory factor and its recursion."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ekfcore import InputError, MemoryFactor


def test_recursion_is_the_papers() -> None:
    """Lambda <- lambda nu + 1 - nu (Algorithm 1, line 14)."""
    lam = 0.98
    for _ in range(100):
        assert MemoryFactor(0.98, 0.9987).advance(lam) == pytest.approx(lam * 0.9987 + 1 - 0.9987, rel=1e-14)
        lam = MemoryFactor(0.98, 0.9987).advance(lam)
    assert lam == pytest.approx(1 - 0.02 * 0.9987**100, rel=1e-13)


def test_an_update_counts_its_measurements() -> None:
    """m measurements advance lambda m times, unless updates are counted."""
    memory = MemoryFactor(0.9, 0.7)
    assert memory.advance(0.9, 3) == memory.advance(memory.advance(memory.advance(0.9)))
    assert MemoryFactor(0.9, 0.7, "updates").advance(0.9, 3) == memory.advance(0.9)


def test_growth_of_a_direction_that_nothing_excites() -> None:
    """The product of all 1/lambda is 5.2 million, as DESIGN states; it decides how far P can wind up."""
    memory = MemoryFactor(0.98, 0.9987)
    lam, growth = memory.initial, 1.0
    for _ in range(30_000):
        growth /= lam
        lam = memory.advance(lam)
    assert growth == pytest.approx(5.2e6, rel=0.01)


@given(st.floats(0.01, 1.0), st.floats(0.0, 1.0), st.integers(1, 50))
@settings(derandomize=True, deadline=None)
def test_lambda_rises_and_stays_a_memory_factor(initial: float, rate: float, measurements: int) -> None:
    """Lambda never falls and never exceeds one."""
    memory = MemoryFactor(initial, rate)
    after = memory.advance(initial, measurements)
    # 1 - (1 - lambda) rounds once, by half a unit in the last place of one at most.
    assert initial - 2**-53 <= after <= 1.0
    assert memory.advance(after) >= after - 2**-53


@given(st.floats(0.0, 1.0))
@settings(derandomize=True, deadline=None)
def test_one_stays_exactly_one(rate: float) -> None:
    """A filter that never forgets must not begin to, by rounding."""
    assert MemoryFactor(1.0, rate).advance(1.0, 3) == 1.0


@pytest.mark.parametrize("initial", [0.0, -0.1, 1.1, math.nan])
def test_initial_must_be_a_memory_factor(initial: float) -> None:
    """The message names the rule and the value."""
    with pytest.raises(InputError, match=r"`initial` of the memory factor must lie in \(0, 1\], got"):
        MemoryFactor(initial)


@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan])
def test_rate_must_lie_between_zero_and_one(rate: float) -> None:
    """The message names the rule and the value."""
    with pytest.raises(InputError, match=r"`rate` of the memory factor must lie in \[0, 1\], got"):
        MemoryFactor(0.98, rate)


def test_counts_must_be_known() -> None:
    """The message names the choices."""
    with pytest.raises(InputError, match='`counts` must be "measurements" or "updates", got \'frames\''):
        MemoryFactor(counts="frames")  # type: ignore[arg-type]
