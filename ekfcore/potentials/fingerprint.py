"""Digests of training and test frames, by which a resumed training finds the same frames again."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ekfcore.atoms import Frame
from ekfcore.errors import InputError

__all__ = ["Fingerprint", "find_frames"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Fingerprint:
    """Digests of the frames of a training, in their order.

    Parameters
    ----------
    train, test : array of uint64, shape (n_frames,)
        Digests of the training frames and of the test frames.
    """

    train: NDArray[np.uint64]
    test: NDArray[np.uint64]

    @classmethod
    def of(cls, train: Sequence[Frame], test: Sequence[Frame]) -> "Fingerprint":
        """Take the digests of frames."""
        return cls(train=_digests(train), test=_digests(test))


def find_frames(frames: Sequence[Frame], digests: NDArray[np.uint64], purpose: str) -> tuple[list[Frame], list[Frame]]:
    """Find the frames of a training among others.

    Parameters
    ----------
    frames : sequence of Frame
        Frames in the data now.
    digests : array of uint64
        Digests of the frames to find.
    purpose : str
        How messages call the use of the frames, as in ``"to train on"``.

    Returns
    -------
    found, others : list of Frame
        Frames in the order of the digests, and the other frames in their own order.

    Raises
    ------
    InputError
        If a frame is missing or has changed.
    """
    places = defaultdict(list)
    for index, digest in reversed(list(enumerate(_digests(frames).tolist()))):
        places[digest].append(index)
    found = [places[digest].pop() if places[digest] else None for digest in digests.tolist()]
    missing = found.count(None)
    if missing:
        raise InputError(
            f"{missing} of the {len(found)} frames {purpose} in this training are gone from the data or have changed; "
            "set the data back, or begin with its weights in another folder: --start MODEL"
        )
    taken = set(found)
    others = [frame for index, frame in enumerate(frames) if index not in taken]
    return [frames[index] for index in found if index is not None], others


def _digests(frames: Sequence[Frame]) -> NDArray[np.uint64]:
    return np.asarray([_digest(frame) for frame in frames], dtype=np.uint64)


def _digest(frame: Frame) -> int:
    """Return a hash of everything that a training uses of a frame."""
    state = blake2b(digest_size=8)
    for part in (frame.numbers, frame.positions, frame.cell, frame.pbc, frame.energy, frame.forces, frame.virial):
        state.update(b"-" if part is None else b"+" + np.ascontiguousarray(part).tobytes())
    state.update(np.float64(frame.weight).tobytes())
    return int.from_bytes(state.digest(), "little")
