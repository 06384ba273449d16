"""What all messages have in common."""

import pickle

import pytest

from ekfcore import CheckpointError, EKFError, FilterError, InputError


@pytest.mark.parametrize("kind", [EKFError, InputError, CheckpointError, FilterError])
def test_a_message_is_one_line(kind: type[EKFError]) -> None:
    """Whatever it quotes: a name of a file or a value may hold line ends, zeros and what a terminal would obey."""
    error = kind("Å.xyz: got 'a\nb\x00\x1b[2J\u2028'")
    assert str(error) == r"Å.xyz: got 'a\nb\x00\x1b[2J\u2028'"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # as it comes from another process
