"""Kalman prediction uncertainty of frames: variances of the energy and of the force on each atom."""

import contextlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from os import PathLike
from typing import TypeVar

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ekfcore.arrays import to_numpy
from ekfcore.atoms import Frame
from ekfcore.atoms.potential import Potential
from ekfcore.checkpoint import restore_state
from ekfcore.errors import InputError
from ekfcore.filter import EKFState
from ekfcore.ranks import ALONE, Ranks, collect, share_out
from ekfcore.threads import limited_threads, thread_count
from ekfcore.uncertainty import CovarianceRoot

from .dataset import Dataset
from .error_bars import KpuScale, kpu_scale
from .gradients import energy_per_atom, force_component, frame_gradients
from .model_file import LoadedModel, load_model
from .placing import place_weights
from .refresh import refreshed

__all__ = ["FrameUncertainty", "KalmanUncertainty"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class FrameUncertainty:
    """Variances that P gives to the predictions for one frame.

    Parameters
    ----------
    energy : float
        Variance of the energy per atom [eV^2].
    forces : array, shape (k,)
        Variance of the force on each chosen atom, summed over its three components [eV^2/Å^2].
    atoms : array of int, shape (k,)
        The chosen atoms, in order.
    """

    energy: float
    forces: NDArray[np.float64]
    atoms: NDArray[np.int64]

    @property
    def force_mean(self) -> float:
        """Mean over the chosen atoms [eV^2/Å^2]."""
        return float(np.mean(self.forces))

    @property
    def force_max(self) -> float:
        """Largest one of the chosen atoms [eV^2/Å^2]."""
        return float(np.max(self.forces))


class KalmanUncertainty:
    """Computes the uncertainty of frames with one state of the filter.

    Parameters
    ----------
    model : Potential
        The model that the filter trained.
    state : EKFState
        Weights and covariance. Only a root of the covariance is kept, so the state may be updated further.
    fraction : float
        Share of the atoms whose forces count, at least one atom. The atoms are drawn for each frame from `seed` and the
        positions: the same frame always gets the same atoms.
    seed : int
        Seed of the choice of atoms.
    parameters : array of int, optional
        Weights whose uncertainty counts, as `DeepPotential.last_layer`; all weights by default.
    scale : KpuScale, optional
        Factors on the variances; 1 by default, which gives the variances of the filter's own P.
    dtype : {"float64", "float32"}, optional
        Precision of the product with the root of P, which takes about half of the time; that of P by default.
        Gradients keep the precision of the weights.
    ranks : Ranks
        Processes that share the frames of `many` and `probes`; all have all frames, and find the same.

    Raises
    ------
    InputError
        If a setting is out of its range.
    FilterError
        If P is no covariance, see `CovarianceRoot`.
    """

    def __init__(
        self,
        model: Potential,
        state: EKFState,
        *,
        fraction: float = 0.5,
        seed: int = 0,
        parameters: NDArray[np.integer] | None = None,
        scale: KpuScale | None = None,
        dtype: str | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        if not 0 < fraction <= 1:
            raise InputError(f"`fraction` must be above 0 and at most 1, got {fraction}")
        if seed < 0:
            raise InputError(f"`seed` must not be negative, got {seed}")
        self.model, self.weights = model, state.average
        self.fraction, self.seed, self.scale, self.ranks = fraction, seed, scale or KpuScale(), ranks
        self.root = CovarianceRoot(state, parameters=parameters, ties=model.tied_weights(), dtype=dtype)

    @classmethod
    def load(
        cls,
        trained: LoadedModel | str | PathLike[str],
        *,
        backend: str = "auto",
        device: str = "cpu",
        fraction: float = 0.5,
        seed: int = 0,
        parameters: NDArray[np.integer] | None = None,
        dtype: str | None = None,
        refresh: Sequence[Frame] = (),
        ranks: Ranks = ALONE,
    ) -> "KalmanUncertainty":
        """Take model and filter from a model file, the folder of a run, or what `load_model` returned.

        The variances have the scale fitted after the last epoch of the training. With the frames of the training as
        `refresh`, P is computed afresh from them, see `refreshed`, and so is the scale; then the model may have been
        trained with Adam as well.

        Raises
        ------
        InputError
            If the model was trained without the filter, or a setting is out of its range.
        CheckpointError
            If the file is damaged.
        """
        loaded = trained if isinstance(trained, LoadedModel) else load_model(str(trained))
        if not refresh and loaded.optimizer.get("type") != "filter":
            raise InputError(
                f"this model was trained with {loaded.optimizer.get('type')}, which keeps no covariance to tell the "
                'uncertainty from; train it with a filter, as optimizer.preset = "recommended", or refresh P from the '
                "training frames (ekfcore kpu --refresh TRAIN)"
            )
        model = loaded.model
        weights = place_weights(model, loaded.weights, backend=backend, device=device)
        if refresh:
            state = refreshed(model, weights, refresh, seed=seed, backend=backend, ranks=ranks)
            labelled = [frame for frame in refresh if frame.energy is not None or frame.forces is not None]
            samples = Dataset(model, labelled, like=weights, ranks=ranks)
            scale = kpu_scale(model, state, samples, ranks) if labelled else KpuScale()
        else:
            state = restore_state(dict(loaded.optimizer), loaded.arrays, like=weights, backend=backend)
            scale = loaded.kpu_scale
        return cls(
            model, state, fraction=fraction, seed=seed, parameters=parameters, scale=scale, dtype=dtype, ranks=ranks
        )

    def __call__(self, frame: Frame) -> FrameUncertainty:
        """Return the uncertainty of a frame; its labels are not used.

        Raises
        ------
        InputError
            If the frame does not fit the model.
        """
        atoms = self._choose(frame)
        components = [force_component(frame, atom, k) for atom in atoms for k in range(3)]
        variances = to_numpy(
            self.root.kpu(frame_gradients(self.model, self.weights, frame, [*components, energy_per_atom(frame)]))
        )
        return FrameUncertainty(
            energy=self.scale.energy * float(variances[-1]),
            forces=self.scale.force * variances[:-1].astype(np.float64, copy=False).reshape(-1, 3).sum(axis=1),
            atoms=atoms,
        )

    def many(self, frames: Sequence[Frame]) -> list[FrameUncertainty]:
        """Return the uncertainty of each frame; on the host, frames are computed in parallel threads."""
        owners, mine = self._shared(frames)
        found = self._in_threads(self, [frames[k] for k in mine], parallel=len(frames) > 1)
        atoms = [self._choose(frame) for frame in frames]
        part = np.concatenate([np.zeros(0), *(np.append(one.forces, one.energy) for one in found)])
        counts = [len(chosen) + 1 for chosen in atoms]
        values = np.split(collect(self.ranks, owners, counts, part), np.cumsum(counts))[:-1]
        return [
            FrameUncertainty(energy=float(one[-1]), forces=one[:-1], atoms=chosen)
            for one, chosen in zip(values, atoms, strict=True)
        ]

    def probes(self, frames: Sequence[Frame], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Return whitened gradients of each frame: a few random rows that represent all of its forces.

        Parameters
        ----------
        frames : sequence of N frames
            Atoms.
        count : int
            Number of rows for the forces. Each is the sum of all force components of all atoms, signed at random,
            divided by the root of the number of atoms: the mean of its square over the signs is the `force_mean` of
            all the atoms.
        rng : numpy.random.Generator
            Draws the signs.

        Returns
        -------
        array, shape (N, count + 1, k)
            Rows y with :math:`|y|^2 = h P h^T`, without the scale, in single precision: first `count` of forces, then
            the energy per atom.
        """
        signs = [rng.choice([-1.0, 1.0], (count, frame.n_atoms, 3)) / math.sqrt(frame.n_atoms) for frame in frames]
        owners, mine = self._shared(frames)
        w = self.weights
        rows = [array_namespace(w).zeros((0, w.shape[0]), dtype=w.dtype, device=w.device)]
        rows += [
            frame_gradients(self.model, w, frames[k], [*({"forces": z} for z in signs[k]), energy_per_atom(frames[k])])
            for k in mine
        ]
        part = np.concatenate([to_numpy(self.root.whiten(some)).astype(np.float32) for some in rows])
        found: NDArray[np.float32] = collect(self.ranks, owners, [count + 1] * len(frames), part)
        return found.reshape(len(frames), count + 1, part.shape[1])

    def _choose(self, frame: Frame) -> NDArray[np.int64]:
        """Draw the atoms whose forces count."""
        rng = np.random.default_rng([self.seed, zlib.crc32(np.ascontiguousarray(frame.positions).tobytes())])
        count = max(1, round(self.fraction * frame.n_atoms))
        return np.sort(rng.choice(frame.n_atoms, count, replace=False))

    def _shared(self, frames: Sequence[Frame]) -> tuple[list[int], list[int]]:
        """Return the rank that works on each frame, and the numbers of the frames of this one."""
        owners = share_out([frame.n_atoms for frame in frames], self.ranks.size)
        return owners, [k for k, owner in enumerate(owners) if owner == self.ranks.rank]

    def _in_threads(
        self, function: Callable[[Frame], _Result], frames: Sequence[Frame], *, parallel: bool
    ) -> list[_Result]:
        # A rank with a single frame computes it as it would beside others: more threads may round otherwise.
        workers = thread_count() if parallel and is_numpy_array(self.weights) else 1
        if workers <= 1:
            return [function(frame) for frame in frames]
        with _one_thread_each(), ThreadPoolExecutor(workers) as pool:
            # The limit is a context variable: each call in the pool needs its own copy of this context to see it.
            contexts = [copy_context() for _ in frames]
            return list(pool.map(lambda context, frame: context.run(function, frame), contexts, frames))


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Limit kernels and linear algebra to one thread, because the frames themselves run in parallel."""
    with limited_threads(1), threadpool_limits(1):
        yield
