"""Orders: a label is computed by one process at a time, and not at all once it is there."""

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("ase", reason='ase is not installed: pip install "ekfcore[atoms]"')
pytest.importorskip("pydantic", reason='pydantic is not installed: pip install "ekfcore[atoms]"')

from ekfcore.labelling._order import order_of, taken


@pytest.fixture
def order(tmp_path: Path) -> Path:
    """Return an order that nobody has taken."""
    order = order_of(tmp_path / "f0.json")
    order.touch()
    return order


def test_the_second_waits_for_the_first(order: Path) -> None:
    """It is told that the label is wanted if the first one came to nothing."""
    events: list[str] = []

    def second() -> None:
        with taken(order, lambda: True) as wanted:
            events.append(f"second: {wanted}")

    with taken(order, lambda: True) as wanted:
        assert wanted
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.5)
        events.append("first")
    thread.join(timeout=60)
    assert events == ["first", "second: True"]


def test_a_label_that_came_meanwhile(order: Path) -> None:
    """The order is gone, or is a new one, when the second has waited for it."""
    for renewed in (False, True):
        order.touch()
        found: list[bool] = []

        def second(found: list[bool] = found) -> None:
            with taken(order, lambda: True) as wanted:
                found.append(wanted)

        with taken(order, lambda: True):
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.5)
            order.unlink()
            if renewed:
                order.touch()
        thread.join(timeout=60)
        assert found == [False]


def test_what_nobody_ordered(tmp_path: Path, order: Path) -> None:
    """It is not computed; where the folder is not shared, nobody can tell, and it is."""
    with taken(tmp_path / "f1.order", lambda: True) as wanted:
        assert not wanted
    with taken(tmp_path / "elsewhere/f1.order", lambda: True) as wanted:
        assert wanted


def test_the_wait_ends_with_the_worker(order: Path) -> None:
    """Whoever stops the run does not wait for the calculations of others."""
    with taken(order, lambda: True), taken(order, lambda: False) as wanted:
        assert not wanted
