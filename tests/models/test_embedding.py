"""The exact embedding nets: what is compiled against whole arrays."""

import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ekfcore.models._network import NetworkShape
from ekfcore.models.deep_potential import find_embedding, whole_arrays
from ekfcore.models.deep_potential.embedding_kernels import Embedding
from ekfcore.models.deep_potential.environment import PairBlock
from ekfcore.threads import limited_threads

WIDTHS = [(25, 25, 25), (3, 6), (7,), (5, 10, 20), (4, 4, 8), (16, 11, 2), (1, 2)]
CAPACITIES = [1, 5, 64, 79]  # one neighbour, several atoms in a panel, one, and fewer than one
N = 70  # atoms, in several runs if they have as many neighbours


@pytest.fixture
def compiled() -> Any:
    """Return the compiled embedding."""
    pytest.importorskip("numba", reason="numba is not installed")
    from ekfcore.models.deep_potential._embedding_numba import FusedEmbedding

    return FusedEmbedding


def _make(
    widths: tuple[int, ...], capacity: int, dtype: str = "float64"
) -> tuple[NetworkShape, NDArray[Any], PairBlock, list[NDArray[Any]]]:
    """Return a net with weights, neighbours, and the arguments of `gradients`: five functionals, of which two move."""
    net, rng = NetworkShape.hidden((1, *widths), "tanh"), np.random.default_rng(0)

    def draw(*shape: int) -> NDArray[Any]:
        return rng.normal(size=shape).astype(dtype)

    none, index = np.zeros((N, capacity), dtype), np.zeros(N * capacity, np.int64)
    block = PairBlock(
        rows=draw(N, capacity, 4),
        unit=draw(N, capacity, 3),
        distance=none,
        slope=none,
        ratio=none,
        centre=index,
        neighbour=index,
        scale=np.ones(4, dtype),
        empty=np.zeros(4, dtype),
        surplus=0,
    )
    arguments = [draw(N, 4, widths[-1]), draw(5, N, 4, widths[-1]), draw(2, N, capacity, 4)]
    arguments[2][1, ::2] = 0
    return net, draw(net.n_params), block, arguments


def _everything(embedding: Embedding, arguments: list[Any]) -> list[Any]:
    Abar, Abars, changes = arguments
    return [
        embedding.A,
        *embedding.slopes(Abar),
        embedding.tangent(changes),
        embedding.gradients(Abar, Abars, changes),
        embedding.gradients(Abar, Abars[:2], changes),
        embedding.gradients(Abar, Abars[2:], changes[:0]),
    ]


class TestCompiled:
    """Sums in another order, and nothing else."""

    @pytest.mark.parametrize("capacity", CAPACITIES)
    @pytest.mark.parametrize("widths", WIDTHS, ids=str)
    def test_agrees_with_whole_arrays(self, compiled: Any, widths: tuple[int, ...], capacity: int) -> None:
        """Relative to the largest number of an array."""
        net, w, block, arguments = _make(widths, capacity)
        expected = _everything(whole_arrays(np).evaluate(net, w, block), arguments)
        actual = _everything(compiled(net, w, block), arguments)
        for mine, whole in zip(actual, expected, strict=True):
            assert mine.shape == whole.shape
            np.testing.assert_allclose(mine, whole, rtol=0, atol=1e-12 * np.max(np.abs(whole)))

    def test_single_precision(self, compiled: Any) -> None:
        """Single precision in, single precision out."""
        net, w, block, arguments = _make(WIDTHS[0], 20, "float32")
        actual = _everything(compiled(net, w, block), arguments)
        net, w, block, arguments = _make(WIDTHS[0], 20)
        for mine, double in zip(actual, _everything(compiled(net, w, block), arguments), strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, double, rtol=0, atol=1e-5 * np.max(np.abs(double)))

    def test_threads_do_not_matter(self, compiled: Any) -> None:
        """The same bits, however many there are."""
        net, w, block, arguments = _make(WIDTHS[0], 40)
        results = []
        for count in (1, 2, 5):
            with limited_threads(count):
                embedding = compiled(net, w, block)
                assert embedding.n_runs > 2
                results.append(_everything(embedding, arguments))
        for other in results[1:]:
            assert all(np.array_equal(a, b) for a, b in zip(results[0], other, strict=True))


class TestTanh:
    """Its own tangent is as good as the library's."""

    @pytest.fixture
    def tanh(self) -> Any:
        """Return the compiled function, one number at a time."""
        pytest.importorskip("numba", reason="numba is not installed")
        from ekfcore.models.deep_potential._tanh_numba import tanh

        return lambda numbers: np.array([tanh(number) for number in numbers])

    def test_accuracy(self, tanh: Any) -> None:
        """A few units in the last place, over the whole range."""
        sizes = np.concatenate([np.logspace(-320, 2, 3000), np.linspace(0, 25, 3000), [5e-324, 1e308]])
        expected = np.tanh(sizes)
        actual = tanh(sizes)
        np.testing.assert_array_less(np.abs(actual - expected), 4 * np.spacing(expected))
        assert np.array_equal(tanh(-sizes), -actual)

    def test_ends(self, tanh: Any) -> None:
        """Zeros keep their signs, infinities become ones, and NaN stays."""
        actual = tanh(np.array([0.0, -0.0, np.inf, -np.inf, np.nan]))
        np.testing.assert_array_equal(actual, [0.0, -0.0, 1.0, -1.0, np.nan])
        assert np.array_equal(np.signbit(actual[:2]), [False, True])


class TestFindEmbedding:
    """Which evaluation is the default."""

    def test_other_activations(self) -> None:
        """They have whole arrays."""
        assert find_embedding(np, "gelu") == whole_arrays(np)

    def test_without_numba(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So has tanh then."""
        monkeypatch.setitem(sys.modules, "ekfcore.models.deep_potential._embedding_numba", None)
        assert find_embedding(np, "tanh") == whole_arrays(np)

    def test_with_numba(self, compiled: Any) -> None:
        """Tanh is compiled, and groups need not be small."""
        kernels = find_embedding(np, "tanh")
        assert kernels.evaluate is compiled
        assert kernels.rows is None
