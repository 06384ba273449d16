"""The form of a Deep Potential: its rules, and the order of its weights."""

import json
from typing import Any

import pytest

from ekfcore.errors import InputError
from ekfcore.models.deep_potential import Architecture


def _make(**settings: Any) -> Architecture:
    return Architecture(**{"elements": ("Cu", "O"), "capacity": (10, 20)} | settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"elements": ()}, r"`elements` must be distinct chemical symbols, got \[\]"),
        ({"elements": ("Cu", "Cu")}, r"`elements` must be distinct chemical symbols, got \['Cu', 'Cu'\]"),
        ({"capacity": (10,)}, r"`capacity` must hold one number .* for each of \['Cu', 'O'\], got \[10\]"),
        ({"capacity": (10, -1)}, r"`capacity` must hold one number .*, got \[10, -1\]"),
        ({"capacity": (0, 0)}, r"`capacity` must hold one number .*, got \[0, 0\]"),
        ({"cutoff_smooth": -0.1}, r"`cutoff_smooth` must be at least 0 and below `cutoff` = 6.0 Å, got -0.1 Å"),
        ({"cutoff_smooth": 6.0}, r"`cutoff_smooth` must be at least 0 and below `cutoff` = 6.0 Å, got 6.0 Å"),
        ({"cutoff": float("nan")}, "`cutoff_smooth` must be at least 0 and below `cutoff` = nan Å"),
        ({"cutoff": 0.0}, "`cutoff_smooth` must be at least 0 and below `cutoff` = 0.0 Å"),
        ({"embedding": ()}, r"`embedding` must hold at least one positive width, got \[\]"),
        ({"embedding": (25, 0)}, r"`embedding` must hold at least one positive width, got \[25, 0\]"),
        ({"fitting": ()}, r"`fitting` must hold at least one positive width, got \[\]"),
        ({"fitting": (-5,)}, r"`fitting` must hold at least one positive width, got \[-5\]"),
        ({"axis": 0}, "`axis` must lie between 1 and the last embedding width 25, got 0"),
        ({"axis": 26}, "`axis` must lie between 1 and the last embedding width 25, got 26"),
        ({"activation": "swish"}, r"`activation` must be one of tanh, gelu, .*, got 'swish'"),
    ],
)
def test_rules(settings: dict[str, Any], message: str) -> None:
    """Each rule has its message, which names the setting and the value."""
    with pytest.raises(InputError, match=message):
        _make(**settings)


def test_layer_sizes_of_the_paper() -> None:
    """The parts that the paper partitions, for one element."""
    copper = Architecture(elements=("Cu",), capacity=(100,))
    embedding, fitting = (25, 25, 625, 25, 625, 25), (20000, 50, 2500, 50, 2500, 50, 50, 1)
    assert copper.layer_sizes == embedding + fitting
    assert _make().layer_sizes == 4 * embedding + 2 * fitting
    assert _make(type_one_side=True).layer_sizes == 2 * embedding + 2 * fitting
    with_time_step = (20000, 50, 2500, 50, 50, 2500, 50, 50, 50, 1)
    assert _make(resnet_dt=True).layer_sizes == 4 * embedding + 2 * with_time_step


def test_order_of_the_embedding_nets() -> None:
    """All centres for the first neighbour element, then for the second."""
    pairs = [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [_make().embedding_index(*pair) for pair in pairs] == [0, 1, 2, 3]
    assert [_make(type_one_side=True).embedding_index(*pair) for pair in pairs] == [0, 0, 1, 1]


def test_description_survives_json() -> None:
    """An architecture can be written down and read back."""
    architecture = _make(resnet_dt=True, embedding=(4, 8), axis=3)
    assert Architecture.from_json(json.loads(json.dumps(architecture.as_json()))) == architecture
