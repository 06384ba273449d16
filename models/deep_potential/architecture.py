"""What fixes the form of a Deep Potential: elements, cutoffs, widths."""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from ekfcore.errors import InputError
from ekfcore.models._activation import ACTIVATIONS
from ekfcore.models._network import NetworkShape

__all__ = ["Architecture"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Form of a Deep Potential with the se_e2_a descriptor.

    Parameters
    ----------
    elements : tuple of str
        Chemical symbols; their order is the order of types.
    capacity : tuple of int
        Number of neighbours of each element; their sum N divides the descriptor ("sel"). It is no limit, see `surplus`.
    cutoff, cutoff_smooth : float
        Where the switching function reaches zero, and where it leaves 1/r [Å].
    embedding, fitting : tuple of int
        Widths of the hidden layers of the two networks.
    axis : int
        Number of embedding channels on the narrow side of the descriptor.
    activation : str
        Activation of all hidden layers, named as in DeePMD-kit.
    type_one_side : bool
        One embedding net for each neighbour element, instead of one for each pair.
    resnet_dt : bool
        A trainable time step in the residual layers of the fitting nets.

    Raises
    ------
    InputError
        If a setting breaks its rule; the message names it.
    """

    elements: tuple[str, ...]
    capacity: tuple[int, ...]
    cutoff: float = 6.0
    cutoff_smooth: float = 0.5
    embedding: tuple[int, ...] = (25, 25, 25)
    axis: int = 16
    fitting: tuple[int, ...] = (50, 50, 50)
    activation: str = "tanh"
    type_one_side: bool = False
    resnet_dt: bool = False

    def __post_init__(self) -> None:
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise InputError(f"`elements` must be distinct chemical symbols, got {list(self.elements)}")
        if len(self.capacity) != len(self.elements) or min(self.capacity) < 0 or sum(self.capacity) < 1:
            raise InputError(
                f"`capacity` must hold one number of neighbours for each of {list(self.elements)}, "
                f"got {list(self.capacity)}"
            )
        if not 0 <= self.cutoff_smooth < self.cutoff:
            raise InputError(
                f"`cutoff_smooth` must be at least 0 and below `cutoff` = {self.cutoff} Å, got {self.cutoff_smooth} Å"
            )
        for name in ("embedding", "fitting"):
            widths = getattr(self, name)
            if not widths or min(widths) < 1:
                raise InputError(f"`{name}` must hold at least one positive width, got {list(widths)}")
        if not 1 <= self.axis <= self.embedding[-1]:
            raise InputError(
                f"`axis` must lie between 1 and the last embedding width {self.embedding[-1]}, got {self.axis}"
            )
        if self.activation not in ACTIVATIONS:
            raise InputError(f"`activation` must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

    @cached_property
    def embedding_net(self) -> NetworkShape:
        """Form of an embedding net, from one scalar to M channels."""
        return NetworkShape.hidden((1, *self.embedding), self.activation)

    @cached_property
    def fitting_net(self) -> NetworkShape:
        """Form of a fitting net, from the descriptor to an atomic energy."""
        widths = (self.embedding[-1] * self.axis, *self.fitting)
        return NetworkShape.hidden(widths, self.activation, time_step=self.resnet_dt).with_output()

    @property
    def n_embeddings(self) -> int:
        """Number of embedding nets."""
        return len(self.elements) if self.type_one_side else len(self.elements) ** 2

    def embedding_index(self, centre: int, neighbour: int) -> int:
        """Return the place of the net of a pair of types among the embedding nets, in DeePMD-kit's order."""
        return neighbour if self.type_one_side else centre + len(self.elements) * neighbour

    def embedding_slice(self, centre: int, neighbour: int) -> slice:
        """Return where in the weights the embedding net of a pair of types stands."""
        start = self.embedding_net.n_params * self.embedding_index(centre, neighbour)
        return slice(start, start + self.embedding_net.n_params)

    def fitting_slice(self, centre: int) -> slice:
        """Return where in the weights the fitting net of a type stands."""
        start = self.embedding_net.n_params * self.n_embeddings + self.fitting_net.n_params * centre
        return slice(start, start + self.fitting_net.n_params)

    @cached_property
    def n_slots(self) -> int:
        """N of the descriptor, the capacity of all elements together."""
        return sum(self.capacity)

    @property
    def layer_sizes(self) -> tuple[int, ...]:
        """Sizes of the parameter parts: all embedding nets, then one fitting net for each element."""
        return self.embedding_net.part_sizes * self.n_embeddings + self.fitting_net.part_sizes * len(self.elements)

    def as_json(self) -> dict[str, Any]:
        """Return a JSON-ready description, from which `from_json` rebuilds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Architecture":
        """Rebuild an architecture from its description."""
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**settings)
