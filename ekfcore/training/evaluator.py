"""How a training evaluates its model: on nodes where that works, else with the exact embedding nets."""

from collections.abc import Sequence

from array_api_compat import array_namespace

from ekfcore._typing import Array
from ekfcore.atoms import Frame
from ekfcore.models.deep_potential import (
    DeepPotential,
    NodalPotential,
    find_kernels,
    fit_nodes,
    interpolation_error,
)

__all__ = ["Evaluator"]

_CHECKED = 2  # frames that the error is measured on


class Evaluator:
    """Chooses the nodes and refines them when the embedding nets grow steeper.

    Parameters
    ----------
    exact : DeepPotential
        The model.
    weights : array, shape (n,)
        Weights to choose the nodes for.
    frames : sequence of Frame
        Frames of the training, of which a few are compared with the exact nets.
    tolerance : float
        Largest relative error, see `interpolation_error`; 0 asks for the exact nets.
    spacing : float, optional
        Distance of the nodes in a training that goes on [1/Å]; 0 if it used the exact nets.
    """

    def __init__(
        self,
        exact: DeepPotential,
        weights: Array,
        frames: Sequence[Frame],
        *,
        tolerance: float,
        spacing: float | None = None,
    ) -> None:
        self.exact, self.tolerance = exact, tolerance
        frames = [frame for frame in frames if frame.n_atoms > 1] or frames  # a single atom has nothing to compare
        self._frames = [frames[k * len(frames) // _CHECKED] for k in range(min(_CHECKED, len(frames)))]
        self.model: DeepPotential | NodalPotential = exact
        kernels = find_kernels(array_namespace(weights))
        if tolerance == 0 or spacing == 0:
            return
        if spacing is not None and kernels is not None:
            self.model = NodalPotential(exact, spacing, kernels)
        else:
            self.model = fit_nodes(exact, weights, self._frames, tolerance) or exact

    @property
    def spacing(self) -> float:
        """Distance of the nodes [1/Å], or 0 for the exact nets."""
        return self.model.spacing if isinstance(self.model, NodalPotential) else 0.0

    def refine(self, weights: Array) -> bool:
        """Keep the tolerance at these weights; return whether the model has changed and needs its samples anew."""
        if not isinstance(self.model, NodalPotential):
            return False
        if interpolation_error(self.model, weights, self._frames) <= self.tolerance:
            return False
        finer = fit_nodes(self.exact, weights, self._frames, self.tolerance, spacing=self.model.spacing / 2)
        self.model = finer or self.exact
        return True

    def __str__(self) -> str:
        if isinstance(self.model, NodalPotential):
            return f"embedding nets on nodes {self.spacing:.3g}/Å apart, true to {self.tolerance:g}"
        if self.tolerance == 0:
            return "exact embedding nets, as asked for"
        return f"exact embedding nets: no nodes carry them to {self.tolerance:g} here"
